"""Bias correction: int8 rounding shifts the mean of a conv's output; the bias takes the shift back.

The idea is Nagel et al. 2019 (Data-Free Quantization, section 4.2), with the means measured on images. It needs no
labels and no training. Convs are corrected from the input on, since the shift of one is input to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from quantization.graph import CONVS, FoldedNetwork, Ranges
from quantization.quantizers import conv_variables
from quantization.simulate import simulate, write_back
from rf_keras.graph import parents
from tflite.spec import ModelSpec

IMAGES = 8


def correct_biases(
    network: FoldedNetwork, ranges: Ranges, images: np.ndarray, *, depthwise_per_tensor: bool = False
) -> FoldedNetwork:
    """A copy of a network, of open input size, whose int8 version has, per conv channel, the mean output of the float
    one.

    Args:
        network: folded; stays as it is.
        ranges: of its int8 tensors.
        images: uint8 BGR [N, H, W, 3], letterboxed; `IMAGES` of them, spread evenly, are used.
        depthwise_per_tensor: as in `simulate.simulate`.
    """
    images = images[:: max(1, len(images) // IMAGES)]
    corrected = network.copy()
    simulated = simulate(network, ranges, depthwise_per_tensor=depthwise_per_tensor)
    convs = [layer.name for layer in network.convs]
    # Values beyond a range are lost on purpose: the mean that a clipped tensor should have is that of clipped values.
    unlimited = (-np.inf, np.inf)
    limits = [ranges[network.keys[name]] if name in network.keys else unlimited for name in convs]
    wanted = _channel_means(network.model, convs, limits, images)()
    int8_convs = [f"quant_{name}" for name in convs]
    measure = _channel_means(simulated, int8_convs, [unlimited] * len(convs), images)
    depth = conv_depths(network.model)
    # One round per depth. Neighbouring depths at once, to save rounds, count the shift of the first in the second too
    # and diverge (measured with 12 rounds for 34 depths).
    for turn in tqdm(sorted({depth[name] for name in convs}), desc="biases", leave=False, disable=None):
        found = measure()
        for name, int8_name, want, mean in zip(convs, int8_convs, wanted, found, strict=True):
            if depth[name] == turn:
                conv_variables(simulated.get_layer(int8_name))[1].assign_add(want - mean)
    write_back(simulated, corrected)
    return corrected


def conv_depths(model: keras.Model) -> dict[str, int]:
    """Layer name → convs on the longest way from the input to its output, its own included."""
    depth: dict[str, int] = {}
    for layer in model.layers:
        before = [] if isinstance(layer, keras.layers.InputLayer) else parents(layer)
        depth[layer.name] = max((depth[name] for name in before), default=0) + isinstance(layer, CONVS)
    return depth


def _channel_means(
    model: keras.Model, names: Sequence[str], limits: Sequence[tuple[float, float]], images: np.ndarray
) -> Callable[[], list[np.ndarray]]:
    """A function that gives the mean over images and positions of each layer's output, clipped to its limits: [C]."""
    network = keras.Model(model.input, [model.get_layer(name).output for name in names])
    mean = tf.constant(ModelSpec.mean, tf.float32)

    @tf.function(autograph=False)
    def of_image(image: tf.Tensor) -> list[tf.Tensor]:
        outputs = network(tf.cast(image, tf.float32) - mean, training=False)
        clipped = [tf.clip_by_value(value, *limit) for value, limit in zip(outputs, limits, strict=True)]
        return [tf.reduce_mean(value, (0, 1, 2)) for value in clipped]

    def over_images() -> list[np.ndarray]:
        each = [[value.numpy() for value in of_image(image[None])] for image in images]
        return [np.mean(values, axis=0) for values in zip(*each, strict=True)]

    return over_images
