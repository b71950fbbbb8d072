from __future__ import annotations

import numpy as np
import pytest

from quantization.calibrate import SCORE_FLOOR, Probe, calibrate
from quantization.config import LOWER_TAIL
from quantization.graph import FoldedNetwork


def test_minmax_is_the_extreme_over_images(folded: FoldedNetwork, images: np.ndarray) -> None:
    found = calibrate(folded, images[:3], "minmax")
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded)(images[:3], "")]
    assert found["fpn_add_8"] == pytest.approx((min(v.min() for v in seen), max(v.max() for v in seen)))


def test_percentile_is_the_mean_over_images(folded: FoldedNetwork, images: np.ndarray) -> None:
    found = calibrate(folded, images[:3], "percentile", 99.0)
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded)(images[:3], "")]
    expected = [np.mean([np.percentile(v, p) for v in seen]) for p in (LOWER_TAIL * 1, 99)]
    assert found["fpn_add_8"] == pytest.approx(expected, rel=1e-5)


def test_outputs_by_use(folded: FoldedNetwork, images: np.ndarray) -> None:
    plain, by_use = (calibrate(folded, images[:4], by_use=flag) for flag in (False, True))
    for stride in folded.config.strides:
        assert by_use[f"class_{stride}"][0] >= SCORE_FLOOR
        assert by_use[f"class_{stride}"][1] >= plain[f"class_{stride}"][1], "the best scores are not clipped"


@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_every_tensor_gets_a_range_around_zero(folded: FoldedNetwork, images: np.ndarray, method: str) -> None:
    found = calibrate(folded, images[:3], method)
    assert set(found) == set(folded.keys.values())
    assert all(low <= 0 <= high and low < high for low, high in found.values())
