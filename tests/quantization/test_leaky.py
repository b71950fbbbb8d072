"""Ranges around LeakyReLUs."""

from __future__ import annotations

import pytest
import tf_keras as keras

from quantization.graph import FoldedNetwork, Ranges
from quantization.leaky import align_leaky


def test_leaky_ratios_are_those_of_equal_rounding(folded: FoldedNetwork, ranges: Ranges) -> None:
    leaky = [layer.name for layer in folded.model.layers if isinstance(layer, keras.layers.LeakyReLU)]
    for name in leaky:
        before = name.replace("_act", "_conv")
        steps = [(high - low) / 255 for low, high in (ranges[before], ranges[name])]
        assert 0 < steps[0] / steps[1] * 25.6 - 43 < 1e-3, name  # a hair above: halves are rounded up
    again = align_leaky(folded, ranges)
    assert all(again[name] == pytest.approx(ranges[name], rel=1e-6) for name in ranges), "aligned ranges stay"


@pytest.mark.parametrize("after", [(-1.0, 2.0), (-0.5, 0.9)])
def test_leaky_ranges_only_widen(folded: FoldedNetwork, ranges: Ranges, after: tuple[float, float]) -> None:
    """A conv's range of 4 against 3 (ratio 1.33, below 1.68: the conv's grows) or 1.4 (2.86: the other one)."""
    aligned = align_leaky(folded, ranges | {"stem_conv": (-1.0, 3.0), "stem_act": after})
    if after == (-1.0, 2.0):
        assert aligned["stem_conv"] == pytest.approx((-1.2598, 3.7793), abs=1e-3)  # 3 · 430/256 wide
        assert aligned["stem_act"] == after
    else:
        assert aligned["stem_conv"] == (-1.0, 3.0)
        assert aligned["stem_act"] == pytest.approx((-0.8505, 1.5309), abs=1e-3)  # 4 · 256/430 wide
