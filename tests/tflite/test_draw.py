from __future__ import annotations

import numpy as np

from tests.tflite.conftest import photo
from tflite.draw import BOX_COLOR, LANDMARK_COLORS, draw_detections
from tflite.postprocess import Detections


def detections(*boxes: tuple[float, ...]) -> Detections:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    share = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)
    landmarks = array[:, None, :2] + share * (array[:, 2:] - array[:, :2])[:, None]
    return Detections(array, np.full(len(array), 0.9, np.float32), landmarks)


def test_boxes_and_landmarks_are_drawn_on_a_copy() -> None:
    image = photo(200, 200)
    before = image.copy()
    drawn = draw_detections(image, detections((40, 60, 120, 160)))
    np.testing.assert_array_equal(image, before)
    assert drawn[110, 40].tolist() == list(BOX_COLOR)
    assert drawn[160, 80].tolist() == list(BOX_COLOR)
    for (x, y), color in zip(detections((40, 60, 120, 160)).landmarks[0], LANDMARK_COLORS, strict=True):
        assert drawn[round(float(y)), round(float(x))].tolist() == list(color)


def test_far_landmarks_do_not_break_drawing() -> None:
    found = detections((0, 0, 10, 10))
    found.landmarks[:] = 1e30
    assert draw_detections(photo(20, 20), found).shape == (20, 20, 3)


def test_nothing_to_draw() -> None:
    image = photo(20, 20)
    np.testing.assert_array_equal(draw_detections(image, detections()), image)
