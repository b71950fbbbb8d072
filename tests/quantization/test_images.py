"""Photos for calibration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantization.images import CalibrationError, differing_images, find_images, load_images
from tflite.images import read_image
from tflite.preprocess import letterbox, shrink


def test_images_are_spread_over_the_folder(photos: Path) -> None:
    assert [path.name for path in find_images([photos], 8)][::7] == ["00.png", "11.png"]
    assert len(find_images([photos], 100)) == 12


def test_too_few_images(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CalibrationError, match="no image"):
        find_images([tmp_path], 100)
    for name in ("00.png", "01.png"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    with pytest.raises(CalibrationError, match=f"{tmp_path}: 2 images, calibration needs at least 8"):
        find_images([tmp_path], 100)


def test_images_all_alike(tmp_path: Path) -> None:
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((40, 40, 3), 100, np.uint8))
    with pytest.raises(CalibrationError, match="only 1 of 10 images differ"):
        load_images(find_images([tmp_path], 10), 64, 64)


def test_unreadable_images_are_left_out(tmp_path: Path, photos: Path) -> None:
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert len(load_images(find_images([tmp_path], 20), 64, 64)) == 12


def test_large_photos_are_halved_as_the_network_will_see_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), random.integers(0, 116 + 20 * number, (300, 300, 3), np.uint8))
    paths = find_images([tmp_path], 8)
    halved = load_images(paths, 64, 64, antialias=True)
    expected = [letterbox(shrink(read_image(path), 64, 64), 64, 64, (104, 117, 123))[0] for path in paths]
    np.testing.assert_array_equal(halved, expected)
    assert load_images(paths, 64, 64).std() > 1.5 * halved.std()


def test_differing_images() -> None:
    images = np.zeros((4, 64, 64, 3), np.uint8)
    images[1] += 1  # one grey level: the same picture
    images[2, :, :32] = 200
    images[3] = images[2]
    assert differing_images(images) == 2
    assert differing_images(np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 3, 5, 7)])) == 3
