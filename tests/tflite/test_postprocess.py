"""`Detections`, and the way from input pixels to image pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tflite.decode import Candidates
from tflite.postprocess import Box, Detections, Face, Landmarks, detections_from_candidates
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
