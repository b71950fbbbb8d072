"""Cross-layer equalization in front of depthwise convs: let every channel fill the int8 range that its tensor has.

ReLU and LeakyReLU commute with positive factors, so dividing a conv's output channel by s and multiplying what the next
layers read from it by s leaves the function unchanged (Nagel et al. 2019, "Data-Free Quantization", section 4.1).
Weights have a scale per channel, so between a conv and a depthwise conv this costs nothing; activations have one scale
per tensor, and gain. Where other convs read the tensor one weight scale spans all its channels, and evening it out made
the outputs worse.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tf_keras as keras

from quantization.calibrate import Probe, calibrate
from quantization.config import DEFAULT_PERCENTILE
from quantization.graph import ACTIVATIONS, CONVS, FoldedNetwork, Ranges, Readers
from rf_keras.graph import parents

layers = keras.layers

SMALLEST_FACTOR = 1 / 16  # a nearly dead channel is not blown up further than this


class Reach(NamedTuple):
    """How far each channel of an int8 tensor reaches: means over images of its smallest and its largest value, [C],
    both with 0 included."""

    low: np.ndarray
    high: np.ndarray


def _depthwise_readers(layer: keras.layers.Layer, following: Readers) -> list[keras.layers.Layer]:
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


def _steps(network: FoldedNetwork) -> list[tuple[keras.layers.Layer, keras.layers.Layer, list[keras.layers.Layer]]]:
    """Conv, activation and the depthwise convs behind it, wherever nothing else reads either of the first two."""
    found = []
    for layer in network.model.layers:
        if isinstance(layer, ACTIVATIONS):
            conv = network.model.get_layer(parents(layer)[0])
            readers = _depthwise_readers(layer, network.readers)
            if readers and isinstance(conv, CONVS) and len(network.readers[conv.name]) == 1:
                found.append((conv, layer, readers))
    return found


def _measured(conv: keras.layers.Layer, activation: keras.layers.Layer, keys: dict[str, str]) -> str:
    """The int8 tensor that decides: what the conv wrote, whose negative values a LeakyReLU has yet to shrink, or the
    activation's output where TFLite fuses the two (ReLU)."""
    name: str = conv.name if conv.name in keys else activation.name
    return name


def channel_reach(network: FoldedNetwork, images: np.ndarray) -> dict[str, Reach]:
    """Layer name → reach of its channels, for the tensors in front of depthwise convs.

    Means, because one odd image must not decide, of extremes and not of percentiles: channels that fire rarely and
    strongly are the ones that know faces.

    Args:
        network: folded.
        images: uint8 BGR [N, H, W, 3], letterboxed.
    """
    names = [_measured(conv, activation, network.keys) for conv, activation, _ in _steps(network)]
    sums = {name: Reach(np.zeros(1), np.zeros(1)) for name in names}
    for outputs in Probe(network)(images, "equalize") if names else ():
        for name in names:
            low = np.minimum(outputs[name].min((0, 1)), 0) / len(images)
            high = np.maximum(outputs[name].max((0, 1)), 0) / len(images)
            sums[name] = Reach(sums[name].low + low, sums[name].high + high)
    return sums


def equalize(network: FoldedNetwork, reach: dict[str, Reach], ranges: Ranges) -> FoldedNetwork:
    """A copy of a network for inputs of the same size, the same function with evener activations.

    Args:
        network: folded.
        reach: from `channel_reach`.
        ranges: calibrated on `network`; channels are enlarged until they fill these on one side, and never made
            smaller.
    """
    weights = {layer.name: [w.copy() for w in layer.get_weights()] for layer in network.convs}
    for conv, activation, readers in _steps(network):
        name = _measured(conv, activation, network.keys)
        low, high = ranges[network.keys[name]]
        tiny = 1e-9
        filled = np.maximum(reach[name].low / min(low, -tiny), reach[name].high / max(high, tiny))
        factor = np.clip(filled, SMALLEST_FACTOR, 1.0).astype(np.float32)
        kernel, bias = weights[conv.name]
        kernel /= factor[:, None] if isinstance(conv, layers.DepthwiseConv2D) else factor
        bias /= factor
        for reader in readers:
            weights[reader.name][0] *= factor[:, None]

    result = network.copy(*network.model.input.shape[1:3])
    for layer_name, values in weights.items():
        result.model.get_layer(layer_name).set_weights(values)
    return result


def equalize_on(
    network: FoldedNetwork,
    images: np.ndarray,
    method: str = "percentile",
    percentile: float = DEFAULT_PERCENTILE,
) -> FoldedNetwork:
    """`equalize` by what every other image shows; the result wants a calibration of its own.

    A network without depthwise convs is returned as it is.

    Args:
        network: folded.
        images: uint8 BGR [N, H, W, 3], letterboxed.
        method, percentile: as in `calibrate.calibrate`.
    """
    if not _steps(network):
        return network
    images = images[::2]
    return equalize(network, channel_reach(network, images), calibrate(network, images, method, percentile))
