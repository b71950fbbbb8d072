from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tflite.faster_rcnn_nms import faster_rcnn_nms
from tflite.nms import nms


def slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """The greedy rule on continuous coordinates, one pair at a time."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(not _iou(boxes[i], boxes[j]) > np.float32(threshold) for j in kept):
            kept.append(i)
    return kept


def _iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    zero = np.float32(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union else zero


def random_boxes(random: np.random.Generator, count: int, kind: str, dtype: type) -> np.ndarray:
    if kind == "grid":  # whole numbers: many IoUs exactly equal, many exactly at a threshold
        low = random.integers(0, 12, (count, 2)).astype(np.float64)
        return np.concatenate((low, low + random.integers(1, 8, (count, 2))), axis=1).astype(dtype)
    spread = {"scattered": 600.0, "crowded": 60.0, "stacked": 3.0, "far": 5e5}[kind]
    low = random.uniform(-0.1 * spread, spread, (count, 2))
    return np.concatenate((low, low + random.uniform(0.5, 80, (count, 2))), axis=1).astype(dtype)


KINDS = st.sampled_from(("grid", "scattered", "crowded", "stacked", "far"))
THRESHOLDS = st.sampled_from((0.0, 0.1, 0.3, 0.4, 0.5, 0.7, 0.95, 1.0))


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 400), KINDS, THRESHOLDS, st.sampled_from((np.float32, np.float64)))
def test_pixel_offset_returns_faster_rcnns_indices(
    seed: int, count: int, kind: str, threshold: float, dtype: type
) -> None:
    random = np.random.default_rng(seed)
    boxes = random_boxes(random, count, kind, dtype)
    scores = (random.permutation(count) / max(count, 1)).astype(dtype)  # distinct
    expected = faster_rcnn_nms(boxes, scores, threshold)
    np.testing.assert_array_equal(nms(boxes, scores, threshold, 1, max_faces=count), expected)
    np.testing.assert_array_equal(nms(boxes, scores, threshold, 1, max_faces=7), expected[:7])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 120), KINDS, st.integers(1, 50))
def test_continuous_rule_with_ties(seed: int, count: int, kind: str, levels: int) -> None:
    random = np.random.default_rng(seed)
    boxes = random_boxes(random, count, kind, np.float32)
    scores = random.integers(0, levels, count).astype(np.float32)
    assert nms(boxes, scores, 0.4).tolist() == slow_nms(boxes, scores, 0.4)


@pytest.mark.parametrize("kind", ["scattered", "crowded"])
def test_thousands_of_boxes(kind: str) -> None:
    random = np.random.default_rng(5)
    boxes, scores = random_boxes(random, 6000, kind, np.float32), random.permutation(6000).astype(np.float32)
    best = np.argsort(-scores)[:5000]
    expected = best[faster_rcnn_nms(boxes[best], scores[best], 0.4)]
    np.testing.assert_array_equal(nms(boxes, scores, 0.4, 1, max_faces=6000), expected)
    np.testing.assert_array_equal(nms(boxes, scores, 0.4, 1), expected[:750])


def test_hand_computed() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 4], [0, 0, 10, 4.1], [20, 20, 30, 30]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.95], np.float32)
    # IoU with the first: exactly 0.4 stays, 0.41 goes; the second and third overlap by 0.98.
    assert nms(boxes, scores, 0.4).tolist() == [3, 0, 1]


@pytest.mark.parametrize("corner", [0.0, 5e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hundreds_of_overlaps_a_rounding_error_from_the_threshold(corner: float, dtype: type) -> None:
    """Boxes of one size in a row, 3/7 of a side apart (IoU 0.4), near the origin and far from it: the intervals that
    save the exact test must have a margin for float32, which has steps of 1/32 pixel at 500,000."""
    random = np.random.default_rng(1)
    for side in random.uniform(1, 200, 6):
        x = corner + side * 3 / 7 * np.arange(600)
        low = np.stack((x, np.full(600, corner)), axis=1)
        boxes = np.concatenate((low, low + side), axis=1).astype(dtype)
        scores = random.permutation(600).astype(np.float32)
        assert nms(boxes, scores, 0.4).tolist() == plain_nms(boxes, scores, 0.4)


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """The rule with the operations in the order of `nms`, each box against all others at once."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = np.argsort(-scores), []
    while len(order):
        best = order[0]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        inter = np.prod(np.maximum(sides, 0), axis=1)
        order = order[~(inter / (area[best] + area[order] - inter) > threshold)]
        order = order[order != best]
    return kept


def test_a_numpy_threshold_is_the_same_number() -> None:
    """An IoU of exactly 0.4 in float32, which as a double is above 0.4."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 4]], np.float32)
    for threshold in (0.4, np.float64(0.4), np.float32(0.4)):
        assert nms(boxes, np.array([2, 1], np.float32), threshold).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32])
def test_small_integers_do_not_overflow(dtype: type) -> None:
    boxes = np.array([[0, 0, 200, 200], [210, 0, 250, 200], [5, 0, 200, 200]], dtype)
    assert nms(boxes, np.array([3, 2, 1]), 0.4).tolist() == [0, 1]


def test_ties_go_to_the_lower_index() -> None:
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (3, 1))
    assert nms(boxes, np.full(3, 0.5, np.float32), 0.4).tolist() == [0]
    boxes[1] += 100
    assert nms(boxes, np.full(3, 0.5, np.float32), 0.4).tolist() == [0, 1]


def test_limits_cut_by_score_and_lower_index() -> None:
    boxes = np.arange(40, dtype=np.float32).reshape(10, 4) * 100
    boxes[:, 2:] = boxes[:, :2] + 5
    scores = np.array([1, 2, 2, 2, 0, 0, 0, 0, 0, 3], np.float32)
    assert nms(boxes, scores, 0.4, max_candidates=3).tolist() == [9, 1, 2]
    assert nms(boxes, scores, 0.4, max_faces=2).tolist() == [9, 1]


def test_empty_boxes_do_not_suppress_each_other() -> None:
    boxes = np.zeros((2, 4), np.float32)
    assert nms(boxes, np.array([1, 2], np.float32), 0.4).tolist() == [1, 0]


def test_nothing_in_nothing_out() -> None:
    kept = nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.4)
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


def test_integer_boxes_and_quantized_scores() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [50, 50, 60, 60]], np.int32)
    assert nms(boxes, np.array([-128, 127, 3], np.int8), 0.4).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("boxes", "scores", "threshold", "message"),
    [
        (np.zeros((2, 5)), np.zeros(2), 0.4, r"boxes are \(2, 5\)"),
        (np.zeros((2, 4)), np.zeros(3), 0.4, r"scores \(3,\)"),
        (np.zeros((2, 4)), np.zeros(2), 1.4, "IoU threshold is 1.4"),
    ],
)
def test_wrong_arguments(boxes: np.ndarray, scores: np.ndarray, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nms(boxes, scores, threshold)
