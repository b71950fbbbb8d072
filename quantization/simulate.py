"""The int8 network as a trainable float graph: each layer of a folded network in a wrapper of `quantizers`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer

from quantization.graph import CONVS, INPUT, FoldedNetwork, Ranges, copy_layer
from quantization.quantizers import (
    ChannelWeights,
    FixedRange,
    LayerConfig,
    QuantizedLayer,
    conv_variables,
    inner_layer,
    output_range,
)
from rf_keras.backbones import Tensor
from rf_keras.graph import parents, rebuild
from tflite.spec import ModelSpec

layers = keras.layers


def growths(network: FoldedNetwork) -> dict[str, tf.Variable]:
    """A trainable scalar, 0 at first, for each range of a network but the input's: range name → variable.

    Ranges on the two sides of a LeakyReLU have one in common, so that their ratio stays as `leaky.align_leaky`
    left it.
    """
    keys = network.keys
    same = {key: key for key in keys.values() if key != INPUT}

    def first(key: str) -> str:
        return key if same[key] == key else first(same[key])

    for layer in network.model.layers:
        if isinstance(layer, layers.LeakyReLU):
            same[first(keys[layer.name])] = first(keys[parents(layer)[0]])
    found = {key: tf.Variable(0.0, name=f"growth_{key}") for key in same if same[key] == key}
    return {key: found[first(key)] for key in same}


def simulate(
    network: FoldedNetwork,
    ranges: Ranges,
    *,
    height: int | None = None,
    width: int | None = None,
    learn_ranges: bool = False,
    depthwise_per_tensor: bool = False,
) -> keras.Model:
    """The int8 version of a folded network, computed in float: what the .tflite computes, to a few LSB.

    Args:
        network: its weights are copied.
        ranges: (low, high) of every range that `network.keys` names, in the tensor's own units; 0 is always included.
        height, width: input size in pixels; None leaves it open.
        learn_ranges: train a factor of each range but the input's (`quantizers.FixedRange`).
        depthwise_per_tensor: one scale for each depthwise kernel (`quantizers.ChannelWeights`).

    Returns:
        A model with the inputs and outputs of `network.model`.

    Raises:
        KeyError: a range is missing.
    """
    keys = network.keys
    trained = growths(network) if learn_ranges else {}
    by_name = {layer.name: layer for layer in network.model.layers}

    def input_key(layer: keras.layers.Layer) -> str:
        before = parents(layer)[0]
        return keys[before] if before in keys else input_key(by_name[before])

    def quantizer(layer: keras.layers.Layer) -> FixedRange | None:
        if layer.name not in keys:
            return None
        low, high = ranges[keys[layer.name]]
        return FixedRange(min(low, 0.0), max(high, 0.0), trained.get(keys[layer.name]))

    def replace(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
        output = quantizer(layer)
        if isinstance(layer, layers.InputLayer):
            assert output is not None
            return QuantizeLayer(output, name="quant_image")(sources[0])
        kernel = None
        if isinstance(layer, CONVS):
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            kernel = ChannelWeights(depthwise, per_tensor=depthwise and depthwise_per_tensor)
        if kernel is None and output is None:
            return copy_layer(layer, sources)
        clone = type(layer).from_config(layer.get_config())
        wrapped = QuantizedLayer(clone, LayerConfig(kernel, output))
        result = wrapped(sources[0] if len(sources) == 1 else sources)
        if kernel is not None:
            values = layer.get_weights()
            low, high = ranges[input_key(layer)]
            values[1] = _on_bias_grid(values[1], kernel.scale(values[0]), (high - low) / 255)
            for variable, value in zip(conv_variables(wrapped), values, strict=True):
                variable.assign(value)
        return result

    return rebuild(network.model, replace, height, width)


def _on_bias_grid(bias: np.ndarray, weight_scale: np.ndarray, input_scale: float) -> np.ndarray:
    """The bias as TFLite stores it: int32 in steps of input scale · kernel scale. Left out of the simulation, this
    rounding alone flips one value in 500 by a step in each layer."""
    step = weight_scale.astype(np.float64) * input_scale
    return (np.round(bias / np.maximum(step, 1e-30)) * step).astype(np.float32)


def write_back(simulated: keras.Model, network: FoldedNetwork) -> Ranges:
    """Copy the trained weights of `simulated` into the folded `network` it was made from, and return its ranges."""
    ranges: Ranges = {}
    for layer in simulated.layers:
        inner, bounds = inner_layer(layer), output_range(layer)
        if isinstance(inner, CONVS):
            values = [variable.numpy() for variable in conv_variables(layer)]
            network.model.get_layer(inner.name).set_weights(values)
        if bounds is not None:
            ranges[INPUT if isinstance(layer, QuantizeLayer) else network.keys[inner.name]] = bounds
    return ranges


def input_range(mean: Sequence[float] = ModelSpec.mean) -> tuple[float, float]:
    """The smallest int8 range that holds every pixel 0…255 minus its channel's mean without clipping.

    Args:
        mean: per channel, 0-255.

    Returns:
        (low, high) with 0 exactly on the grid: low = −scale · steps below 0, high = scale · steps above, 255 steps in
        all. For the mean (104, 117, 123) the scale is 1.0786: 275 values do not fit 256 levels at scale 1.
    """
    below, above = max(mean), 255.0 - min(mean)
    candidates = [below / n for n in range(1, 256)] if below else []
    candidates += [above / n for n in range(1, 256)] if above else []
    for scale in sorted(candidates):
        steps_below = int(np.ceil(below / scale - 1e-9))
        if steps_below + int(np.ceil(above / scale - 1e-9)) <= 255:
            return -scale * steps_below, scale * (255 - steps_below)
    raise AssertionError("unreachable: scale max(below, above) always fits")
