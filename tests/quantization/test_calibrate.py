from __future__ import annotations

import numpy as np
import pytest

from quantization.calibrate import HeadRanges, Probe, calibrate
from quantization.graph import FoldedNetwork, Ranges
from rf_keras.config import ModelConfig


def test_minmax_is_the_extreme_over_images(folded: FoldedNetwork, images: np.ndarray) -> None:
    found = calibrate(folded, images[:3], "minmax")
    for name in ("fpn_add_8", "box_8"):  # an output's, too
        seen = [outputs[name] for outputs in Probe(folded)(images[:3], "")]
        assert found[name] == pytest.approx((min(v.min() for v in seen), max(v.max() for v in seen)))


def test_percentile_is_the_mean_over_images(folded: FoldedNetwork, images: np.ndarray) -> None:
    found = calibrate(folded, images[:3], "percentile", 99.0)
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded)(images[:3], "")]
    expected = [np.mean([np.percentile(v, p) for v in seen]) for p in (20, 99)]  # twenty times as much below
    assert found["fpn_add_8"] == pytest.approx(expected, rel=1e-5)


def test_default_percentiles(folded: FoldedNetwork, images: np.ndarray, ranges: Ranges) -> None:
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded)(images, "")]
    expected = [np.mean([np.percentile(v, p) for v in seen]) for p in (0.1, 99.995)]
    assert ranges["fpn_add_8"] == pytest.approx(expected, rel=1e-5)


def test_outputs_by_use(folded: FoldedNetwork, images: np.ndarray) -> None:
    plain, by_use = (calibrate(folded, images[:4], by_use=flag) for flag in (False, True))
    for stride in folded.config.strides:
        assert by_use[f"class_{stride}"][0] >= -6
        assert by_use[f"class_{stride}"][1] >= plain[f"class_{stride}"][1], "the best scores are not clipped"


def head_outputs(scores: list[float], boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of one row of cells for strides 8, 16 and 32, at 8 those given: scores of the second anchor of each cell,
    whose box codes are `boxes` [cells, 4]; the first anchor's score is −9 and its codes are 99. Elsewhere nothing."""
    cells = len(scores)
    outputs = {}
    for stride in (8, 16, 32):
        outputs[f"class_{stride}"] = np.full((1, cells, 2), -9.0, np.float32)
        outputs[f"box_{stride}"] = np.full((1, cells, 8), 99.0, np.float32)
        outputs[f"landmark_{stride}"] = np.full((1, cells, 20), 99.0, np.float32)
    outputs["class_8"][0, :, 1] = scores
    outputs["box_8"][0, :, 4:] = boxes
    return outputs


def head_ranges(*images: dict[str, np.ndarray], low: float = -50.0) -> dict[str, tuple[float, float]]:
    heads = HeadRanges(ModelConfig())
    for outputs in images:
        heads.add(outputs)
    return heads.ranges({f"{head}_{stride}": (low, 50.0) for head in ("class", "box") for stride in (8, 16, 32)})


def test_codes_of_candidates_decide_the_ranges_of_box_outputs() -> None:
    """From 200 numbers on, of the anchors above logit(0.02), the 0.05 and 99.95 percentiles."""
    random = np.random.default_rng(0)
    likely, unlikely = random.normal(0, 3, (50, 4)), random.normal(0, 30, (70, 4))
    outputs = head_outputs([-3.8] * 50 + [-3.9] * 70, np.concatenate((likely, unlikely)))
    assert head_ranges(outputs)["box_8"] == pytest.approx(np.percentile(likely, (0.05, 99.95)), rel=1e-5)
    halves = head_outputs([-3.8] * 25, likely[:25]), head_outputs([-3.8] * 25, likely[25:])
    assert head_ranges(*halves)["box_8"] == pytest.approx(np.percentile(likely, (0.05, 99.95)), rel=1e-5)
    assert "box_8" not in head_ranges(head_outputs([-3.8] * 49, likely[:49])), "too few to say"
    assert "box_16" not in head_ranges(outputs)


def test_scores_range_from_the_floor_or_the_lowest_to_the_highest_seen() -> None:
    images = [head_outputs([score] * 3, np.zeros((3, 4))) for score in (1.5, 2.5, -1.0)]
    assert head_ranges(*images)["class_8"] == (-6.0, 2.5)
    assert head_ranges(*images, low=-4.0)["class_8"] == (-4.0, 2.5)
    assert head_ranges(*images)["class_16"] == (-6.0, 0.0), "0 is always inside"


@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_every_tensor_gets_a_range_around_zero(folded: FoldedNetwork, images: np.ndarray, method: str) -> None:
    found = calibrate(folded, images[:3], method)
    assert set(found) == set(folded.keys.values())
    assert all(low <= 0 <= high and low < high for low, high in found.values())
