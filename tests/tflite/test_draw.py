from __future__ import annotations

import numpy as np

from tests.tflite.conftest import photo
from tflite.draw import BLUR_CELLS, BOX_COLOR, LANDMARK_COLORS, blur_faces, draw_detections
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
    np.testing.assert_array_equal(blur_faces(image, detections()), image)


def test_blur_leaves_few_colours_in_the_face_and_the_rest_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    blurred = blur_faces(image, detections((40, 60, 120, 160)))
    face = blurred[60:160, 40:120].reshape(-1, 3)
    assert len(np.unique(face, axis=0)) <= BLUR_CELLS**2
    outside = np.ones((200, 200), bool)
    outside[45:175, 28:132] = False  # the box and 15 % on every side
    np.testing.assert_array_equal(blurred[outside], image[outside])


def test_blur_at_the_edge_and_of_an_empty_box() -> None:
    image = photo(50, 50)
    assert blur_faces(image, detections((0, 0, 30, 30), (50, 50, 50, 50), (10, 10, 10, 10))).shape == image.shape
