"""Cross-layer equalization in front of depthwise convs: let every channel fill the int8 range that its tensor has.

ReLU and LeakyReLU commute with positive factors, so dividing a conv's output channel by s and multiplying what the next
layers read from it by s leaves the function unchanged (Nagel et al. 2019, "Data-Free Quantization", section 4.1).
Weights have a scale per channel, so between a conv and a depthwise conv this costs nothing; activations have one scale
per tensor, and gain. Where other convs read the tensor one weight scale spans all its channels, and evening it out made
the outputs worse (BUILD_NOTES).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tf_keras as keras

from quantization.calibrate import DEFAULT_PERCENTILE, Probe, calibrate
from quantization.fold import CONVS, consumers, copy_layer, parents, rebuild
from quantization.simulate import ACTIVATIONS, Ranges, range_keys
from rf_keras.config import ModelConfig

layers = keras.layers

SMALLEST_FACTOR = 1 / 16  # a nearly dead channel is not blown up further than this


class Reach(NamedTuple):
    """How far each channel of an int8 tensor reaches: means over images of its smallest and its largest value, [C],
    both with 0 included."""

    low: np.ndarray
    high: np.ndarray


def _depthwise_readers(
    layer: keras.layers.Layer, following: dict[str, list[keras.layers.Layer]]
) -> list[keras.layers.Layer]:
    """Depthwise convs that read `layer`, through paddings or not; empty where anything else reads it."""
    found: list[keras.layers.Layer] = []
    for reader in following[layer.name]:
        if isinstance(reader, layers.ZeroPadding2D):
            inner = _depthwise_readers(reader, following)
        else:
            inner = [reader] if isinstance(reader, layers.DepthwiseConv2D) else []
        if not inner:
            return []
        found += inner
    return found


def _steps(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer, list[keras.layers.Layer]]]:
    """Conv, activation and the depthwise convs behind it, wherever nothing else reads either of the first two."""
    following = consumers(model)
    found = []
    for layer in model.layers:
        if isinstance(layer, ACTIVATIONS):
            conv = model.get_layer(parents(layer)[0])
            readers = _depthwise_readers(layer, following)
            if readers and isinstance(conv, CONVS) and len(following[conv.name]) == 1:
                found.append((conv, layer, readers))
    return found


def _measured(conv: keras.layers.Layer, activation: keras.layers.Layer, keys: dict[str, str]) -> str:
    """The int8 tensor that decides: what the conv wrote, whose negative values a LeakyReLU has yet to shrink, or the
    activation's output where TFLite fuses the two (ReLU)."""
    name: str = conv.name if conv.name in keys else activation.name
    return name


def channel_reach(model: keras.Model, images: np.ndarray) -> dict[str, Reach]:
    """Layer name → reach of its channels, for the tensors in front of depthwise convs.

    Means, because one odd image must not decide, of extremes and not of percentiles: channels that fire rarely and
    strongly are the ones that know faces.

    Args:
        model: folded.
        images: uint8 BGR [N, H, W, 3], letterboxed.
    """
    keys = range_keys(model)
    names = [_measured(conv, activation, keys) for conv, activation, _ in _steps(model)]
    sums = {name: Reach(np.zeros(1), np.zeros(1)) for name in names}
    for outputs in Probe(model)(images, "equalize") if names else ():
        for name in names:
            low = np.minimum(outputs[name].min((0, 1)), 0) / len(images)
            high = np.maximum(outputs[name].max((0, 1)), 0) / len(images)
            sums[name] = Reach(sums[name].low + low, sums[name].high + high)
    return sums


def equalize(model: keras.Model, reach: dict[str, Reach], ranges: Ranges) -> keras.Model:
    """A copy of a folded model, the same function with evener activations.

    Args:
        model: folded.
        reach: from `channel_reach`.
        ranges: calibrated on `model`; channels are enlarged until they fill these on one side, and never made smaller.
    """
    keys = range_keys(model)
    weights = {
        layer.name: [w.copy() for w in layer.get_weights()] for layer in model.layers if isinstance(layer, CONVS)
    }
    for conv, activation, readers in _steps(model):
        name = _measured(conv, activation, keys)
        low, high = ranges[keys[name]]
        tiny = 1e-9
        filled = np.maximum(reach[name].low / min(low, -tiny), reach[name].high / max(high, tiny))
        factor = np.clip(filled, SMALLEST_FACTOR, 1.0).astype(np.float32)
        kernel, bias = weights[conv.name]
        kernel /= factor[:, None] if isinstance(conv, layers.DepthwiseConv2D) else factor
        bias /= factor
        for reader in readers:
            weights[reader.name][0] *= factor[:, None]

    result = rebuild(model, copy_layer)
    for layer_name, values in weights.items():
        result.get_layer(layer_name).set_weights(values)
    return result


def equalize_on(
    model: keras.Model,
    config: ModelConfig,
    images: np.ndarray,
    method: str = "percentile",
    percentile: float = DEFAULT_PERCENTILE,
) -> keras.Model:
    """`equalize` by what every other image shows; the result wants a calibration of its own.

    A network without depthwise convs is returned as it is.

    Args:
        model: folded.
        config: its configuration.
        images: uint8 BGR [N, H, W, 3], letterboxed.
        method, percentile: as in `calibrate.calibrate`.
    """
    if not _steps(model):
        return model
    images = images[::2]
    return equalize(model, channel_reach(model, images), calibrate(model, config, images, method, percentile))
