from __future__ import annotations

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.blur import BLUR_CELLS, FILL, FILL_COLOR, MODES, MOSAIC, blur_faces, mosaic_cell

NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)


def boxes(*corners: tuple[float, ...]) -> np.ndarray:
    return np.array(corners, np.float32).reshape(-1, 4)


def test_few_colours_are_left_in_the_face_and_the_rest_is_untouched() -> None:
    blurred = blur_faces(NOISE, boxes((40, 60, 120, 160)))
    face = blurred[60:160, 40:120].reshape(-1, 3)
    assert len(np.unique(face, axis=0)) <= BLUR_CELLS**2
    outside = np.ones((200, 200), bool)
    outside[45:175, 28:132] = False  # the box and 15 % on every side
    np.testing.assert_array_equal(blurred[outside], NOISE[outside])


@pytest.mark.parametrize("mode", MODES)
def test_nothing_finer_than_a_cell_is_left(mode: str) -> None:
    """The same whatever is added to the face within its cells: what is not there cannot be brought back."""
    cell = mosaic_cell(104, 130)
    assert cell == 32 and mosaic_cell(96, 96) == 16 and mosaic_cell(97, 96) == 32 and mosaic_cell(5, 5) == 2
    other = NOISE.reshape(200, 100, 2, 3)[:, :, ::-1].reshape(200, 200, 3)  # neighbours swapped: the means stay
    first, second = (blur_faces(image, boxes((40, 60, 120, 160)), mode) for image in (NOISE, other))
    inside = slice(60, 160), slice(40, 120)
    assert (NOISE[inside] != other[inside]).any(axis=2).mean() > 0.9
    assert np.abs(first[inside].astype(int) - second[inside]).max() <= 12  # 6×6 cells of 17×22 cut some pairs
    if mode == MOSAIC:
        np.testing.assert_array_equal(first[inside], second[inside])


def test_a_mosaic_stands_still_while_the_face_moves_a_little() -> None:
    a, b = (blur_faces(NOISE, boxes((x, 60, x + 80, 160)), MOSAIC) for x in (40, 43))
    np.testing.assert_array_equal(a[60:160, 43:120], b[60:160, 43:120])


def test_fill_leaves_nothing() -> None:
    face = blur_faces(NOISE, boxes((40, 60, 120, 160)), FILL)[50:170, 30:130]
    assert np.unique(face.reshape(-1, 3), axis=0).tolist() == [list(FILL_COLOR)]


@pytest.mark.parametrize("mode", MODES)
def test_edges_and_empty_boxes(mode: str) -> None:
    image = photo(50, 50)
    found = boxes((0, 0, 30, 30), (50, 50, 50, 50), (10, 10, 10, 10), (40, 40, 70, 70))
    assert blur_faces(image, found, mode).shape == image.shape
    np.testing.assert_array_equal(blur_faces(image, boxes(), mode), image)
