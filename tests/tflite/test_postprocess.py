"""From candidates to faces, on a few boxes worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tflite.decode import Candidates
from tflite.postprocess import Detections, detections_from_candidates, to_image
from tflite.spec import ModelSpec

IMAGE = (100, 200)  # height, width


def candidates(boxes: list[list[float]], logits: list[float]) -> Candidates:
    """Boxes in input pixels; every landmark of face i is at (i, 2·i)."""
    points = np.arange(len(boxes), dtype=np.float32)[:, None, None] * np.array([1, 2], np.float32)
    return Candidates(
        np.array(boxes, np.float32),
        np.array(logits, np.float32),
        np.broadcast_to(points, (len(boxes), 5, 2)),
        np.arange(len(boxes)),
    )


APART = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]


def test_boxes_are_scaled_back_and_clipped_to_the_image() -> None:
    boxes = to_image(np.array([[-4, -2, 20, 30], [90, 40, 120, 70]], np.float32), IMAGE, 0.5)
    assert boxes.tolist() == [[0, 0, 40, 60], [180, 80, 200, 100]]
    assert boxes.dtype == np.float32


def test_landmarks_are_scaled_back_and_not_clipped() -> None:
    found = detections_from_candidates(candidates([[0, 0, 9, 9], [90, 40, 120, 70]], [1, 2]), ModelSpec(), IMAGE, 0.01)
    assert found.landmarks[:, 3].tolist() == [[100, 200], [0, 0]]
    assert found.scores.tolist() == pytest.approx([0.880797, 0.731059], abs=1e-6)


def test_order_by_logit_where_scores_are_equal() -> None:
    """As float32 probabilities both are 1; the surer one must win all the same."""
    found = detections_from_candidates(candidates([[0, 0, 10, 10], [1, 0, 11, 10]], [30, 40]), ModelSpec(), IMAGE, 1.0)
    assert found.scores.tolist() == [1]
    assert found.boxes.tolist() == [[1, 0, 11, 10]]


def test_limits_and_overlap_are_the_files() -> None:
    four = candidates(APART, [1, 4, 3, 2])

    def left(image_boxes: Candidates, spec: ModelSpec, overlap: float | None = None) -> list[float]:
        return detections_from_candidates(image_boxes, spec, IMAGE, 1.0, overlap).boxes[:, 0].tolist()

    assert left(four, ModelSpec()) == [20, 40, 60, 0]
    assert left(four, ModelSpec(max_faces=2)) == [20, 40]
    assert left(four, ModelSpec(max_candidates=3)) == [20, 40, 60]
    half = candidates([[0, 0, 10, 10], [0, 0, 10, 5]], [2, 1])  # IoU ½
    assert [len(left(half, ModelSpec(iou_threshold=t))) for t in (0.4, 0.6)] == [1, 2]
    assert [len(left(half, ModelSpec(iou_threshold=0.4), t)) for t in (0.6, 0.0)] == [2, 1]


def test_nothing_found() -> None:
    nothing = Candidates(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)), np.empty(0, np.int64))
    found = detections_from_candidates(nothing, ModelSpec(), IMAGE, 1.0)
    assert found.boxes.shape == (0, 4) and found.to_list() == []


def test_lists_hold_thousandths_of_a_pixel_and_millionths_of_a_score() -> None:
    third = np.float32(1 / 3)
    faces = Detections(np.full((1, 4), third), np.full(1, third), np.full((1, 5, 2), third))
    assert faces.to_list() == [{"box": [0.333] * 4, "score": 0.333333, "landmarks": [[0.333, 0.333]] * 5}]
