"""LeakyReLU in int8: ranges and a slope with which XNNPACK and TensorFlow Lite's own kernel compute the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tf_keras as keras

from quantization.graph import FoldedNetwork, Ranges
from quantization.quantizers import inner_layer
from rf_keras.backbones import LEAKY_SLOPE
from rf_keras.graph import parents

LEAKY_UNIT = 256  # XNNPACK's int8 LeakyReLU (qs8-vlrelu): multipliers are whole numbers of 1/256
LEAKY_STEPS = 43  # of them for negative values, ten times as many for positive ones (`align_leaky`)
# The slope in int8 files. XNNPACK rounds the multiplier, so anything from 42.5 to 43.5 units is 43 to it. TensorFlow
# Lite's own kernel rounds the product twice, to quarters of a step and then to steps; from 42.7463 to 42.75 units that
# gives what 43 units rounded once, halves up, give, for every value from −1 to −255 (test_tflite_runtime.py).
LEAKY_EXPORT_SLOPE = LEAKY_SLOPE * 42.748 / LEAKY_STEPS


@contextmanager
def export_slope(simulated: keras.Model) -> Iterator[None]:
    """`LEAKY_EXPORT_SLOPE` in the LeakyReLUs of a simulated model, which are wrapped, while it is traced."""
    wrapped = [inner_layer(layer) for layer in simulated.layers if inner_layer(layer) is not layer]
    leaky = [layer for layer in wrapped if isinstance(layer, keras.layers.LeakyReLU)]
    own = [layer.alpha for layer in leaky]
    try:
        for layer in leaky:
            layer.alpha = np.float32(LEAKY_EXPORT_SLOPE)
        yield
    finally:
        for layer, alpha in zip(leaky, own, strict=True):
            layer.alpha = alpha


def align_leaky(network: FoldedNetwork, ranges: Ranges) -> Ranges:
    """Widen ranges around each LeakyReLU so that all interpreters compute it alike, to the last bit.

    XNNPACK's int8 LeakyReLU multiplies by round(256 · s_in / s_out), and by a tenth of that, rounded as well. With a
    ratio of 10·n / 256 neither is rounded; otherwise both slopes are off by up to a few tenths of a percent per layer,
    which adds up over 38 of them, and no simulation sees it. TensorFlow Lite's own kernel (tflite-runtime 2.14) rounds
    a negative value twice, which differs for 1 in 8 to 16 of them; for `LEAKY_STEPS` alone there is a slope
    (`LEAKY_EXPORT_SLOPE`) with which it differs for none. So the conv's range is widened where the ratio is
    below that, the LeakyReLU's where it is above.
    """
    aligned = dict(ranges)
    # The small excess decides halves of positive values the way XNNPACK rounds them: up.
    wanted = (LEAKY_STEPS + 1e-4) / LEAKY_SLOPE / LEAKY_UNIT
    for layer in network.model.layers:
        if isinstance(layer, keras.layers.LeakyReLU):
            before, after = network.keys[parents(layer)[0]], network.keys[layer.name]
            low, high = aligned[before]
            out_low, out_high = aligned[after]
            if high - low <= 0 or out_high - out_low <= 0:
                continue
            factor = wanted * (out_high - out_low) / (high - low)
            if factor >= 1:
                aligned[before] = (low * factor, high * factor)
            else:
                aligned[after] = (out_low / factor, out_high / factor)
    return aligned
