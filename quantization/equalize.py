"""Cross-layer equalization: move scale between neighbouring layers so that channels fill their shared int8 range alike.

ReLU and LeakyReLU commute with positive factors, so dividing a conv's output channel by s and multiplying what the
next layers read from it by s leaves the function unchanged (Nagel et al. 2019, "Data-Free Quantization", section 4.1;
the exponent is SmoothQuant's, Xiao et al. 2022). Weights have a scale per channel and lose little; activations have
one per tensor. Off by default: on the reference weights it cost AP (BUILD_NOTES).
"""

from __future__ import annotations

import numpy as np
import tf_keras as keras

from quantization.calibrate import Probe
from quantization.fold import CONVS, consumers, copy_layer, parents, rebuild
from quantization.simulate import ACTIVATIONS

layers = keras.layers

# How much of an activation's spread moves into the weights that read it: all of it where they are depthwise (one scale
# per channel, so it costs nothing), a part where one weight scale spans all input channels.
DEPTHWISE_SHARE = 1.0
CONV_SHARE = 0.5
LARGEST_FACTOR = 16.0  # a nearly dead channel is not blown up further than this


def _readers(
    layer: keras.layers.Layer, following: dict[str, list[keras.layers.Layer]]
) -> list[tuple[keras.layers.Layer, int]] | None:
    """Convs that read `layer`, each with the index of the first of its input channels that they read; None where
    something else reads it (an addition, an output), so that its scale must stay."""
    found: list[tuple[keras.layers.Layer, int]] = []
    for reader in following[layer.name]:
        if isinstance(reader, CONVS):
            found.append((reader, 0))
        elif isinstance(reader, layers.ZeroPadding2D | layers.Concatenate):
            inner = _readers(reader, following)
            if inner is None:
                return None
            offset = 0
            if isinstance(reader, layers.Concatenate):
                names = parents(reader)
                offset = sum(tensor.shape[-1] for tensor in reader.input[: names.index(layer.name)])
            found += [(conv, offset + start) for conv, start in inner]
        else:
            return None
    return found or None


def channel_peaks(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Per activation layer [C]: the mean over images of each channel's largest |x|.

    Not a percentile: channels that fire rarely and strongly are the ones that know faces, and a percentile would have
    them blown up until their peaks are clipped (measured: 1 to 2 points of AP lost instead of gained).
    """
    names = [layer.name for layer in model.layers if isinstance(layer, ACTIVATIONS)]
    sums: dict[str, np.ndarray] = {}
    for outputs in Probe(model)(images, "equalize"):
        for name in names:
            peak = np.abs(outputs[name]).max((0, 1))
            sums[name] = sums.get(name, 0.0) + peak / len(images)
    return sums


def equalize(model: keras.Model, peaks: dict[str, np.ndarray], conv_share: float = CONV_SHARE) -> keras.Model:
    """A copy of a folded model, the same function with evener activations.

    Args:
        model: folded.
        peaks: from `channel_peaks`.
        conv_share: 0-1, `CONV_SHARE`.
    """
    following = consumers(model)
    by_name = {layer.name: layer for layer in model.layers}
    weights = {
        layer.name: [w.copy() for w in layer.get_weights()] for layer in model.layers if isinstance(layer, CONVS)
    }

    def reading(conv: keras.layers.Layer, start: int, count: int) -> np.ndarray:
        """The part of a conv's kernel that reads `count` channels from `start`, that axis first: a view."""
        kernel = np.moveaxis(weights[conv.name][0], 2, 0)
        return kernel[start : start + count]

    for layer in model.layers:
        if not isinstance(layer, ACTIVATIONS) or layer.name not in peaks:
            continue
        conv = by_name[parents(layer)[0]]
        readers = _readers(layer, following)
        if readers is None or not isinstance(conv, CONVS) or len(following[conv.name]) != 1:
            continue
        peak = np.maximum(peaks[layer.name], 1e-6)
        count = len(peak)
        share = conv_share
        if all(isinstance(reader, layers.DepthwiseConv2D) for reader, _ in readers):
            share = DEPTHWISE_SHARE
        inputs = np.max([np.abs(reading(c, start, count)).reshape(count, -1).max(1) for c, start in readers], axis=0)
        factor = peak**share / np.maximum(inputs, 1e-6) ** (1 - share)
        factor /= np.median(factor)
        factor = np.clip(factor, 1 / LARGEST_FACTOR, LARGEST_FACTOR).astype(np.float32)
        own = weights[conv.name]
        if isinstance(conv, layers.DepthwiseConv2D):
            own[0] /= factor[None, None, :, None]
        else:
            own[0] /= factor
        own[1] /= factor
        for reader, start in readers:
            view = reading(reader, start, count)
            view *= factor.reshape(-1, *[1] * (view.ndim - 1))

    result = rebuild(model, copy_layer)
    for name, values in weights.items():
        result.get_layer(name).set_weights(values)
    return result
