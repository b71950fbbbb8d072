"""Kernels in as few bits as their int8 values need."""

from __future__ import annotations

import numpy as np
import pytest

from quantization.quantizers import ChannelWeights
from quantization.shorten import shortened
from rf_keras.publish import rounded


def steps(kernel: np.ndarray, quantizer: ChannelWeights) -> np.ndarray:
    scale = quantizer.scale(kernel)
    return kernel / (scale[:, None] if quantizer.depthwise else scale)


def bits_of(values: np.ndarray) -> np.ndarray:
    """Significant bits of each."""
    return np.min([np.where(values == rounded(values, bits), bits, 24) for bits in range(1, 24)], axis=0)


@pytest.mark.parametrize("bits", [10, 24])  # of a published trunk, and of weights as training leaves them
@pytest.mark.parametrize(("shape", "depthwise"), [((3, 3, 20, 30), False), ((3, 3, 40, 1), True)])
def test_int8_values_stay_and_bits_go(shape: tuple[int, ...], depthwise: bool, bits: int) -> None:
    quantizer = ChannelWeights(depthwise)
    kernel = rounded(np.random.default_rng(0).standard_normal(shape).astype(np.float32), bits)
    short = shortened(kernel, quantizer)
    np.testing.assert_array_equal(quantizer.scale(short), quantizer.scale(kernel))
    before, after = steps(kernel, quantizer), steps(short, quantizer)
    half = np.abs(before - np.trunc(before)) == 0.5
    np.testing.assert_array_equal(short[half], kernel[half])
    np.testing.assert_array_equal(np.round(after)[~half], np.round(before)[~half])
    assert bits_of(short).mean() < bits_of(kernel).mean() - 2


def test_by_hand() -> None:
    # Scale 1: 127 is the largest; 100.25 may be 100 (4 bits would make it 104), 2.5 lies half-way, 0.25 is 0.
    kernel = np.array([127, 100.25, 2.5, 0.25, -3.25], np.float32).reshape(1, 1, 5, 1)
    assert shortened(kernel, ChannelWeights(False)).ravel().tolist() == [127, 100, 2.5, 0, -3]
