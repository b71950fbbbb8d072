"""Equalization in front of depthwise convs."""

from __future__ import annotations

import numpy as np

from quantization.equalize import SMALLEST_FACTOR, channel_reach, equalize, equalize_on
from quantization.fold import fold
from quantization.graph import FoldedNetwork, Ranges
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from tests.quantization.conftest import SIZE

# What the three levels of the pyramid read as well as the backbone.
NOT_BEFORE_DEPTHWISE = {"stage1_5_pw_conv", "stage2_6_pw_conv", "stage3_2_pw_conv"}


def test_equalize_keeps_the_function_and_evens_out(folded: FoldedNetwork, images: np.ndarray, ranges: Ranges) -> None:
    reach = channel_reach(folded, images[:4])
    even = equalize(folded, reach, ranges)
    x = images[:2].astype(np.float32) - 115
    for a, b in zip(folded.model(x), even.model(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())
    after = channel_reach(even, images[:4])
    assert set(reach) == {name for name in ranges if name.endswith("pw_conv")} - NOT_BEFORE_DEPTHWISE | {"stem_conv"}
    for name in reach:
        low, high = ranges[name]
        before, now = (np.maximum(r[name].low / low, r[name].high / high) for r in (reach, after))
        expected = before / np.clip(before, SMALLEST_FACTOR, 1.0)
        np.testing.assert_allclose(now, expected, rtol=1e-3, err_msg=name)
        assert np.median(now) > 0.99, "at least half of the channels fill their range"


def test_without_depthwise_convs_nothing_is_equalized(images: np.ndarray) -> None:
    config = ModelConfig(backbone="fast", width=0.5, activation="relu", neck_channels=8, ssh_channels=8)
    network = fold(build_model(config), config, SIZE, SIZE)
    assert equalize_on(network, images) is network
