"""`Detections`, and the way from input pixels to image pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tflite.decode import Candidates
from tflite.postprocess import Box, Detections, Face, Landmarks, detections_from_candidates, to_image
from tflite.spec import LANDMARK_NAMES, ModelSpec


def detections(count: int) -> Detections:
    numbers = np.arange(count * 15, dtype=np.float32)
    scores = np.linspace(0.9, 0.5, count).astype(np.float32)
    return Detections(numbers[: 4 * count].reshape(-1, 4), scores, numbers[: 10 * count].reshape(-1, 5, 2) + 0.25)


def test_one_face_has_names_for_everything() -> None:
    face = detections(2)[1]
    assert face.box == (4, 5, 6, 7) and face.box.x2 == 6
    assert face.score == 0.5
    assert face.landmarks.left_eye == (10.25, 11.25) and face.landmarks.right_mouth == (18.25, 19.25)
    assert Landmarks._fields == LANDMARK_NAMES
    np.testing.assert_array_equal(np.array(face.landmarks), detections(2).landmarks[1])


def test_a_sequence_of_faces() -> None:
    faces = detections(3)
    assert len(faces) == 3 and list(faces) == [faces[0], faces[1], faces[2]]
    assert faces[-1] == faces[2] == faces[np.int64(2)]
    assert faces[:2] == faces[faces.scores > 0.6] == faces[[0, 1]] != faces
    with pytest.raises(IndexError):
        faces[3]
    assert list(detections(0)) == [] and not detections(0)


def test_equality_is_of_all_arrays() -> None:
    assert detections(2) == detections(2) != detections(3)
    for name in ("boxes", "scores", "landmarks"):
        other = detections(2)
        getattr(other, name)[1] += 1
        assert other != detections(2)
    assert detections(2) != "faces"
    with pytest.raises(TypeError):
        hash(detections(2))


def test_repr_is_short() -> None:
    assert repr(detections(0)) == "Detections(0 faces)"
    assert repr(detections(1)) == "Detections(1 face, best score 0.900)"
    assert repr(detections(2)) == "Detections(2 faces, best score 0.900)"


def test_json() -> None:
    face = Face(Box(0.12345, 1, 2, 3), 0.123456789, Landmarks(*[(0.5, 1.00049)] * 5))
    assert face.to_dict() == {"box": [0.123, 1, 2, 3], "score": 0.123457, "landmarks": [[0.5, 1.0]] * 5}
    faces = detections(2)
    assert faces.to_dict() == {"faces": faces.to_list()} == {"faces": [faces[0].to_dict(), faces[1].to_dict()]}
    assert json.loads(json.dumps(faces.to_dict())) == faces.to_dict()


def test_landmarks_beyond_float32_are_left_out() -> None:
    """Finite in input pixels, infinite in those of an image a thousand times as large."""
    boxes = np.array([[0, 0, 9, 9], [20, 20, 29, 29]], np.float32)
    landmarks = np.zeros((2, 5, 2), np.float32)
    landmarks[0, 3, 1] = 1e37
    found = Candidates(boxes, np.array([3, 2], np.float32), landmarks, np.arange(2))
    faces = detections_from_candidates(found, ModelSpec(), (64_000, 64_000), 2**-10)
    assert len(faces) == 1 and faces[0].box == (20_480, 20_480, 29_696, 29_696)
    json.dumps(faces.to_dict(), allow_nan=False)


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
