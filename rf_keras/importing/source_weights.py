"""Weights of another RetinaFace on their way into the Keras model: the types, and how they are put in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.config import ModelConfig


class ImportWeightsError(ValueError):
    """The source cannot be read or is not this network; one line that names file, finding and expectation."""


@dataclass(frozen=True)
class BatchNorm:
    """A batch normalisation, arrays float32 [O]."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Conv:
    """One convolution of the source.

    Attributes:
        kernel: float32 [O, I, kh, kw], the order of PyTorch and ONNX; depthwise kernels have I = 1.
        bias: float32 [O], None where the source has none.
        norm: the batch normalisation behind it; None where it is folded into kernel and bias, and for heads.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    norm: BatchNorm | None = None


@dataclass(frozen=True)
class SourceWeights:
    """What a file tells about a network.

    Attributes:
        name: the file, for messages.
        config: the network as far as shapes tell; activation and anchor sizes are not known from them.
        convs: name of the Keras conv layer (`stem_conv`, `class_8` …) → weights.
        activation: "leaky_relu" or "relu", None where the file does not say.
    """

    name: str
    config: ModelConfig
    convs: dict[str, Conv]
    activation: str | None


def config_from_shapes(name: str, stem: Conv, context: Conv, class_head: Conv, box_head: Conv) -> ModelConfig:
    """The network size of a MobileNetV1 RetinaFace by the shapes of four convs; `context` is the widest SSH branch.

    Raises:
        ImportWeightsError: another network, or other than two anchors per cell.
    """
    filters, _, height, _ = stem.kernel.shape
    if height != 3:
        raise ImportWeightsError(f"{name}: stem kernel is {stem.kernel.shape}; only MobileNetV1 backbones are imported")
    anchors = len(box_head.kernel) // 4
    if anchors != 2 or len(class_head.kernel) not in (anchors, 2 * anchors):
        found = f"{len(class_head.kernel)} class and {len(box_head.kernel)} box channels"
        raise ImportWeightsError(f"{name}: heads have {found}, expected 4 (or 2) and 8: two anchors per cell")
    return ModelConfig(
        width=filters / 32,
        neck_channels=context.kernel.shape[1],
        ssh_channels=2 * context.kernel.shape[0],
        class_logits=len(class_head.kernel) // anchors,
    )


def conv_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """All convolutions, by layer name."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return {layer.name: layer for layer in model.layers if isinstance(layer, kinds)}


def kernel_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """The layer's kernel shape in the source's order [O, I, kh, kw]."""
    height, width, inputs, outputs = layer.get_weights()[0].shape
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return (inputs, outputs, height, width)
    return (outputs, inputs, height, width)


def load_convs(model: keras.Model, source: SourceWeights) -> bool:
    """Put the source's weights into `model`, which then computes the source's function.

    A folded source's bias goes into the BN behind the conv (gamma 1, mean 0, variance 1 − eps). Its moving statistics
    are placeholders until `estimate_statistics` has run.

    Returns:
        Whether the source was folded, that is whether statistics are to be estimated.

    Raises:
        ImportWeightsError: a layer is missing, or its shape does not fit.
    """
    folded = False
    for name, layer in conv_layers(model).items():
        conv = source.convs.get(name)
        if conv is None:
            raise ImportWeightsError(f"{source.name}: has no weights for layer {name}")
        if conv.kernel.shape != kernel_shape(layer):
            found, wanted = conv.kernel.shape, kernel_shape(layer)
            raise ImportWeightsError(f"{source.name}: kernel of {name} is {found}, expected {wanted}")
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = conv.kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        bias = np.zeros(len(conv.kernel), np.float32) if conv.bias is None else conv.bias
        if layer.use_bias:
            layer.set_weights([kernel, bias])
            continue
        layer.set_weights([kernel])
        norm_layer = model.get_layer(name.removesuffix("_conv") + "_bn")
        epsilon, norm = norm_layer.epsilon, conv.norm
        if norm is None:
            folded = True
            ones = np.ones_like(bias)
            norm_layer.set_weights([ones, bias, 0 * ones, ones - epsilon])
        else:
            variance = norm.variance + (norm.epsilon - epsilon)
            norm_layer.set_weights([norm.gamma, norm.beta, norm.mean - bias, variance])
    return folded


def estimate_statistics(model: keras.Model, images: Iterable[np.ndarray]) -> int:
    """Give every BN the mean and variance its input has on `images`; gamma and beta keep the function unchanged.

    Args:
        model: whose function is right already (see `load_convs`).
        images: float32 [1, H, W, 3] network inputs (BGR − mean).

    Returns:
        The number of images.

    Raises:
        ImportWeightsError: no images.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    inner = keras.Model(model.input, [layer.input for layer in norms])

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)], autograph=False)
    def moments(image: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        return [tf.nn.moments(x, axes=[0, 1, 2]) for x in inner(image, training=False)]

    count = 0
    means = [np.zeros(layer.input.shape[-1]) for layer in norms]
    squares = [np.zeros_like(mean) for mean in means]
    for image in images:
        count += 1
        for index, (mean, variance) in enumerate(moments(tf.constant(image))):
            means[index] += mean.numpy()
            squares[index] += variance.numpy() + np.square(mean.numpy(), dtype=np.float64)
    if not count:
        raise ImportWeightsError("no images to estimate the batch normalisation statistics on")
    for layer, mean, square in zip(norms, means, squares, strict=True):
        _move_statistics(layer, mean / count, square / count - np.square(mean / count))
    return count


def _move_statistics(layer: keras.layers.Layer, mean: np.ndarray, variance: np.ndarray) -> None:
    gamma, beta, old_mean, old_variance = (weight.astype(np.float64) for weight in layer.get_weights())
    scale = gamma / np.sqrt(old_variance + layer.epsilon)
    variance = np.maximum(variance, 0)
    new_gamma = scale * np.sqrt(variance + layer.epsilon)
    layer.set_weights([w.astype(np.float32) for w in (new_gamma, beta + scale * (mean - old_mean), mean, variance)])
