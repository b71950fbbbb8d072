"""Faces at any rotation: the right turn is kept, and its points come back to where they are."""

from __future__ import annotations

import matplotlib.cbook
import numpy as np
import pytest

from tests.tflite.stub import StubDetector, at
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.turns import detect_any_rotation, turned, turned_back


@pytest.mark.parametrize("turns", range(4))
def test_a_turn_and_back(turns: int) -> None:
    """A marked pixel is found where it was, whatever the turn."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[7:9, 11:15] = 255
    found = turned_back(StubDetector().detect(turned(image, turns)), turns, (40, 60))
    assert found.boxes.tolist() == [[11, 7, 15, 9]]
    again = turned_back(at((3, 4, 23, 34)), turns, (40, 60))
    step = turned_back(again, (4 - turns) % 4, (60, 40) if turns % 2 else (40, 60))
    np.testing.assert_allclose(step.landmarks, at((3, 4, 23, 34)).landmarks, atol=1e-4)


def test_the_surest_turn_gives_the_points() -> None:
    """Each turn sees the face; upside down it is half as sure, and takes the chin for the forehead."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[0, 0] = 255  # tells the turn: the white corner is top left in the picture as given

    def find(picture: np.ndarray) -> Detections:
        height, width = picture.shape[:2]
        turn = next(k for k in range(4) if turned(picture, (4 - k) % 4)[0, 0, 0])
        score = 0.9 if turn == 2 else 0.5
        side = (20, 5, 40, 30)
        placed = turned_back(at(side), (4 - turn) % 4, (height, width))
        boxes = placed.boxes
        return Detections(boxes, np.array([score], np.float32), at(tuple(boxes[0])).landmarks)

    (face,) = detect_any_rotation(find, image)
    assert face.box == (20, 5, 40, 30) and face.score == pytest.approx(0.9)
    # Upright in the picture turned by 180°: the eyes are below, the left one on the right.
    assert face.landmarks.left_eye == pytest.approx((40 - 0.3 * 20, 30 - 0.4 * 25))


@pytest.mark.parametrize("turns", [1, 2])
def test_a_portrait_on_its_head_or_lying(turns: int) -> None:
    portrait = read_image(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    with FaceDetector("fast_320", num_threads=1) as detector:
        upright = detector.detect(portrait)
        found = turned_back(detect_any_rotation(detector.detect, turned(portrait, turns)), turns, portrait.shape[:2])
        plain = turned_back(detector.detect(turned(portrait, turns)), turns, portrait.shape[:2])
    side = float(np.sqrt(np.prod(upright.boxes[0, 2:] - upright.boxes[0, :2])))
    assert len(found) == 1 and np.abs(found.boxes - upright.boxes).max() < 0.1 * side
    assert np.linalg.norm(found.landmarks[0] - upright.landmarks[0], axis=1).max() < 0.1 * side
    # What the flag is for: of a face on its head, points by its upright guess.
    assert (
        turns == 1
        or not len(plain)
        or np.linalg.norm(plain.landmarks[0] - upright.landmarks[0], axis=1).max() > 0.2 * side
    )
