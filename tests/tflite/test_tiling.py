from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.detector import FaceDetector
from tflite.tiling import OVERLAP, detect_tiled, tile_starts


@pytest.mark.parametrize(("length", "tile"), [(100, 100), (40, 64), (101, 100), (1000, 300), (4000, 640), (131, 64)])
def test_tiles_cover_the_side_and_overlap(length: int, tile: int) -> None:
    starts = tile_starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] == max(length - tile, 0)
    if length > tile:
        assert (np.diff(starts) <= tile * (1 - OVERLAP) + 1).all()
        assert (np.diff(starts) > 0).all()


@pytest.fixture(scope="module")
def detector(model_dir: Path) -> FaceDetector:
    return FaceDetector(model_dir / "int8.tflite", num_threads=1)


def test_small_faces_are_found_in_tiles_only(detector: FaceDetector) -> None:
    """24-pixel squares in a photo ten times the input: too small when scaled down, plain in a tile."""
    squares = ((100, 144, 24), (320, 800, 24), (560, 400, 24))
    image = photo(640, 960, squares)
    assert len(detector.detect(image)) == 0
    found = detect_tiled(detector, image, 96)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    for y, x, side in squares:
        assert np.abs(centres - (x + side / 2, y + side / 2)).max(axis=1).min() < 12
    assert (np.diff(found.scores) <= 0).all()


def test_large_faces_come_from_the_whole_image(detector: FaceDetector) -> None:
    image = photo(640, 960, ((160, 320, 320),))
    whole, tiled = detector.detect(image), detect_tiled(detector, image, 320)
    assert len(whole) > 0
    assert tiled.scores[0] >= whole.scores[0]


def test_a_small_image_is_detected_once(detector: FaceDetector) -> None:
    image = photo()
    whole, tiled = detector.detect(image), detect_tiled(detector, image, 500)
    np.testing.assert_array_equal(whole.boxes, tiled.boxes)


def test_tile_too_small(detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="tile is 8 pixels"):
        detect_tiled(detector, photo(), 8)
