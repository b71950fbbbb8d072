"""Kernels in as few bits as their int8 values need: a smaller weights file that exports the same."""

from __future__ import annotations

import numpy as np
import tf_keras as keras
from tf_keras import layers

from quantization.quantizers import ChannelWeights
from rf_keras.publish import FLOAT_BITS, rounded

MOST_OFF = 0.45  # steps that a weight may end from its int8 value; from 0.5 on it would be another


def shorten_kernels(model: keras.Model) -> None:
    """Round the kernels of a folded network in place, weight by weight, to the fewest bits with the same int8 value.

    Args:
        model: folded, and trained for int8: nothing but its export should be made of it afterwards.
    """
    for layer in model.layers:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        for weight in layer.weights:
            if len(weight.shape) == 4:
                weight.assign(shortened(weight.numpy(), ChannelWeights(depthwise)))


def shortened(kernel: np.ndarray, quantizer: ChannelWeights) -> np.ndarray:
    """A float32 kernel in fewer significant bits; each channel keeps its largest weight, and so its scale."""
    scale = quantizer.scale(kernel)
    scale = scale[:, None] if quantizer.depthwise else scale
    steps = np.round(kernel / scale)
    # Half-way weights stay: converters may round them either way. So do the largest ones.
    sure = np.abs(kernel / scale - steps) < MOST_OFF
    within = np.abs(kernel).max(axis=(0, 1) if quantizer.depthwise else (0, 1, 2), keepdims=True)
    sure &= np.abs(kernel) < within
    result = np.where(sure & (steps == 0), 0, kernel)
    for fewer in range(FLOAT_BITS - 1, 0, -1):
        candidate = rounded(kernel, fewer)
        fits = (np.abs(candidate / scale - steps) < MOST_OFF) & (np.abs(candidate) <= within)
        result = np.where(sure & fits & (steps != 0), candidate, result)
    return result.astype(np.float32)
