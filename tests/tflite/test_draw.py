from __future__ import annotations

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.draw import BOX_COLOR, LANDMARK_COLORS, draw_detections, label_place, track_color
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


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((50, 40, 90, 90), (50, 30)),  # above
        ((50, 5, 90, 60), (50, 61)),  # below, where there is no room above
        ((50, 5, 90, 95), (50, 5)),  # inside, where there is none at all
        ((-20, 40, 20, 90), (0, 30)),
        ((90, 40, 140, 90), (70, 30)),
        ((90, -30, 140, 140), (70, 0)),
        ((50, 120, 90, 190), (50, 90)),
    ],
)
def test_a_label_is_wholly_in_the_picture(box: tuple[int, int, int, int], place: tuple[int, int]) -> None:
    assert label_place((30, 10), box, (100, 100)) == place


@pytest.mark.parametrize("box", [(0, 30, 50, 90), (250, 30, 300, 90), (280, 30, 330, 90), (-30, 30, 20, 90)])
def test_text_is_never_cut_at_the_edge(box: tuple[float, ...]) -> None:
    """The label of a face at the edge is that of a face in the middle, pixel for pixel."""
    image = np.full((200, 300, 3), 60, np.uint8)
    labels = []
    for x1, _, x2, _ in ((120, 30, 170, 90), box):
        drawn = draw_detections(image, detections((x1, 30, x2, 90)))[:30]
        rows, columns = np.nonzero((drawn != 60).any(axis=2))
        labels.append(drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize(("side", "height"), [(60, 600), (60, 3000), (900, 3000), (12, 300)])
def test_sizes_follow_face_and_picture(side: int, height: int) -> None:
    image = np.full((height, height, 3), 60, np.uint8)
    left = height // 2
    drawn = draw_detections(image, detections((left, left, left + side, left + side)))
    row = drawn[left + side - side // 8, left - side : left + side // 2]
    thickness = int((row == BOX_COLOR).all(axis=1).sum())
    assert thickness == pytest.approx(max(1, min(height / 400, side / 24)), abs=1.6)  # OpenCV makes it odd
    changed = (drawn != image).any(axis=2)
    assert changed.sum() < 2.5 * side * side + 2500  # never out of proportion to a small face


def test_tracks_have_colours_and_dark_ones_light_text() -> None:
    colors = [track_color(number) for number in range(1, 20)]
    assert len(set(colors)) == 19 and track_color(3) == colors[2]
    image = np.full((200, 300, 3), 60, np.uint8)
    for number, ink in ((7, 255), (4, 0)):
        drawn = draw_detections(image, detections((100, 80, 150, 140)), [number])
        assert drawn[110, 100].tolist() == list(track_color(number))
        assert (drawn[60:80, 100:160] == ink).all(axis=2).any()


def test_a_picture_too_small_for_text_has_none() -> None:
    image = np.full((14, 14, 3), 60, np.uint8)
    drawn = draw_detections(image, detections((2, 2, 12, 12)))
    assert (drawn[0] == 60).all() and drawn[2, 2].tolist() == list(BOX_COLOR)
