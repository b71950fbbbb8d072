"""Training of a mesh branch on kept patches, at last with its int8 rounding: minutes, as nothing else is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

from quantization.graph import FoldedNetwork, Ranges
from quantization.mesh_features import Patches
from quantization.quantizers import ChannelWeights
from rf_keras.mesh.evaluation import mesh_errors
from rf_keras.model import MESH, folded_model
from tflite.mesh import SHAPE_VALUES, MeshBasis

BATCH = 256
LEARNING_RATE = 3e-3
ROUNDED_SHARE = 0.3  # of the steps, the last ones, with fake-quants
LIMIT = 99.99  # percentile of what a tensor holds that its range covers
WEIGHT_OF_3D = 0.7  # of distances in three dimensions beside those in the picture
WEIGHT_OF_OTHERS = 0.5  # of anchors that are not their face's surest


Grid = tuple[float, int]  # scale and zero point of int8 values; (0, 0): they are float


@dataclass(frozen=True, eq=False)
class TrainedBranch:
    """The mesh branch of one level.

    Attributes:
        kernels, biases: of its three convs: on context features, on the backbone's, and the last.
        ranges: of what the last one reads, and of what it writes.
    """

    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    ranges: list[tuple[float, float]]


class Branch(tf.Module):
    """The convs of `model.build_model`'s mesh branch, on patches of the sizes of their kernels.

    Args:
        shapes: of the context's and of the backbone's kernel.
        outputs: of the last conv.
        seed: of the weights.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]], outputs: int, seed: int) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        hidden = sum(shape[3] for shape in shapes)
        spreads = [float(np.sqrt(2 / np.prod(shape[:3]))) for shape in shapes]
        self.kernels = [
            tf.Variable(draw.normal(0, spread, shape).astype(np.float32))
            for spread, shape in zip([*spreads, 0.01], [*shapes, (1, 1, hidden, outputs)], strict=True)
        ]
        self.biases = [tf.Variable(tf.zeros(kernel.shape[3])) for kernel in self.kernels]
        self._rounding = ChannelWeights(depthwise=False)

    def _conv(self, number: int, patches: tf.Tensor, rounded: bool) -> tf.Tensor:
        kernel = self._rounding(self.kernels[number], True, {}) if rounded else self.kernels[number]
        return tf.nn.conv2d(patches, kernel, 1, "VALID") + self.biases[number]

    def hidden(self, patches: Sequence[tf.Tensor], ranges: list[tuple[float, float]] | None) -> tf.Tensor:
        """[N, 1, 1, hidden] of both kinds of patches; rounded where there are ranges."""
        parts = [tf.nn.relu(self._conv(number, part, ranges is not None)) for number, part in enumerate(patches)]
        value = tf.concat(parts, axis=-1)
        return value if ranges is None else tf.quantization.fake_quant_with_min_max_args(value, *ranges[0])

    def __call__(self, patches: Sequence[tf.Tensor], ranges: list[tuple[float, float]] | None) -> tf.Tensor:
        """[N, outputs]."""
        value = self._conv(2, self.hidden(patches, ranges), ranges is not None)
        value = value if ranges is None else tf.quantization.fake_quant_with_min_max_args(value, *ranges[1])
        return value[:, 0, 0]


class BranchTrainer:
    """Trains one level's branch.

    Args:
        patches: of the level; at least one.
        grids: of the context's and the backbone's features; a branch of float ones is not rounded.
        basis: of the meshes.
        channels: of the convs on the backbone's features and on the context's (`model.MESH_CONVS`).
        anchors: per cell.
        seed: of weights and order.
    """

    def __init__(
        self,
        patches: Patches,
        grids: Sequence[Grid],
        basis: MeshBasis,
        channels: tuple[int, int],
        anchors: int,
        seed: int,
    ) -> None:
        self._patches, self._grids, self._basis, self._anchors = patches, grids, basis, anchors
        self._rounded = grids[0][0] > 0
        # Features of about 1 suit the rate; the factors go into the kernels at the end.
        sample = patches.part(np.arange(0, len(patches.anchor), 7))
        self._units = [float(values.std()) + 1e-6 for values in self._values(sample)]
        shapes = [(*patches.context.shape[1:], channels[1]), (*patches.backbone.shape[1:], channels[0])]
        self._branch = Branch(shapes, anchors * basis.coefficients, seed)
        self._shapes = tf.constant(basis.shapes.reshape(-1, SHAPE_VALUES))
        self._mean = tf.constant(basis.mean.reshape(1, SHAPE_VALUES))
        self._generator = np.random.default_rng(seed)

    def _values(self, patches: Patches) -> list[np.ndarray]:
        """float32 features of both kinds, in the network's units."""
        found = []
        for part, (scale, zero_point) in zip((patches.context, patches.backbone), self._grids, strict=True):
            values = part.astype(np.float32)
            found.append((values - zero_point) * np.float32(scale) if scale else values)
        return found

    def _scaled(self, patches: Patches) -> list[np.ndarray]:
        """`_values` of about 1."""
        return [values / np.float32(unit) for values, unit in zip(self._values(patches), self._units, strict=True)]

    def _coefficients(
        self, patches: Sequence[tf.Tensor], anchor: tf.Tensor, ranges: list[tuple[float, float]] | None
    ) -> tf.Tensor:
        """[N, K] at the anchors."""
        every = tf.reshape(self._branch(patches, ranges), [-1, self._anchors, self._basis.coefficients])
        return tf.gather(every, anchor, axis=1, batch_dims=1)

    def train(self, epochs: int) -> TrainedBranch:
        """Adam with a cosine schedule; where features are int8, the last steps round as the device does."""
        steps = max(1, epochs * len(self._patches.anchor) // BATCH)
        first = steps if not self._rounded else int(steps * (1 - ROUNDED_SHARE))
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
        self._run(optimizer, 0, first, steps, None)
        ranges = self._ranges()
        if self._rounded:
            self._run(optimizer, first, steps, steps, ranges)
        kernels = [kernel.numpy() for kernel in self._branch.kernels]
        for kernel, unit in zip(kernels, self._units, strict=False):
            kernel /= unit
        return TrainedBranch(kernels, [bias.numpy() for bias in self._branch.biases], ranges)

    def _run(
        self,
        optimizer: keras.optimizers.Optimizer,
        first: int,
        last: int,
        steps: int,
        ranges: list[tuple[float, float]] | None,
    ) -> None:
        variables = [*self._branch.kernels, *self._branch.biases]
        optimizer.build(variables)

        @tf.function(autograph=False)
        def step(patches: list[tf.Tensor], anchor: tf.Tensor, meshes: tf.Tensor, weight: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                flat = self._coefficients(patches, anchor, ranges) @ self._shapes + self._mean - meshes
                squares = tf.square(tf.reshape(flat, [-1, SHAPE_VALUES // 3, 3]))
                flat_squares = squares[..., 0] + squares[..., 1]
                error = tf.sqrt(flat_squares + 1e-6) + WEIGHT_OF_3D * tf.sqrt(flat_squares + squares[..., 2] + 1e-6)
                loss = tf.reduce_sum(tf.reduce_mean(error, axis=1) * weight) / tf.reduce_sum(weight)
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

        count = len(self._patches.anchor)
        batch = min(BATCH, count)
        order, at = self._generator.permutation(count), 0
        for number in range(first, last):
            if at + batch > count:
                order, at = self._generator.permutation(count), 0
            rows, at = order[at : at + batch], at + batch
            optimizer.learning_rate = (
                LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * number / steps)) * min(1, (number + 1) / 50)
            )
            part = self._patches.part(rows)
            meshes = part.meshes.astype(np.float32).reshape(-1, SHAPE_VALUES)
            weight = np.where(part.best, 1.0, WEIGHT_OF_OTHERS).astype(np.float32)
            step(self._scaled(part), part.anchor, meshes, weight)

    def _ranges(self) -> list[tuple[float, float]]:
        """Of the hidden and of the last tensor, on some thousand patches."""
        rows = self._generator.permutation(len(self._patches.anchor))[:4096]
        part = self._patches.part(rows)
        patches = [tf.constant(values) for values in self._scaled(part)]
        hidden = self._branch.hidden(patches, None).numpy()
        coefficients = self._coefficients(patches, tf.constant(part.anchor), None).numpy()
        low, high = np.percentile(coefficients, (100 - LIMIT, LIMIT))
        # As `fake_quant` nudges a range, 0 is on its grid.
        return [
            (0.0, max(float(np.percentile(hidden, LIMIT)), 1e-3)),
            (min(float(low), -1e-3), max(float(high), 1e-3)),
        ]

    def errors(self, branch: TrainedBranch, patches: Patches) -> tuple[np.ndarray, np.ndarray]:
        """`mesh_errors` of a trained branch on other patches."""
        for variable, value in zip(self._branch.kernels, branch.kernels, strict=True):
            variable.assign(value)
        values = [tf.constant(part) for part in self._values(patches)]
        ranges = branch.ranges if self._rounded else None
        found = self._coefficients(values, tf.constant(patches.anchor), ranges).numpy()
        return mesh_errors(self._basis.in_box_units(found), patches.meshes.astype(np.float32))


def with_branch(network: FoldedNetwork, coefficients: int) -> FoldedNetwork:
    """The network with a mesh branch of arbitrary weights, in the place of one that it has; 0 coefficients: without."""
    config = dataclasses.replace(network.config, mesh=coefficients)
    target = FoldedNetwork.of(folded_model(config), config)
    for layer in target.convs:
        if not layer.name.startswith(MESH):
            layer.set_weights(network.model.get_layer(layer.name).get_weights())
    return target


def set_branch(network: FoldedNetwork, stride: int, branch: TrainedBranch) -> Ranges:
    """Put a level's trained weights in their place; returns its ranges by their names in the network."""
    name = f"{MESH}_{stride}"
    convs = [f"{name}_context_conv", f"{name}_backbone_conv", name]
    for conv, kernel, bias in zip(convs, branch.kernels, branch.biases, strict=True):
        network.model.get_layer(conv).set_weights([kernel, bias])
    return dict(zip((network.keys[f"{name}_concat"], network.keys[name]), branch.ranges, strict=True))
