"""Photos for calibration and checks: found in folders, letterboxed as the device does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rf_keras.selection import evenly_spaced
from tflite.finding import expand_inputs
from tflite.images import ImageError, read_image
from tflite.messages import note
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

FEWEST_IMAGES = 8  # below: an error; a range from a handful of images is a guess
FEW_IMAGES = 50  # below: a warning


class CalibrationError(ValueError):
    """The images cannot be used; the message is one line that names folder, finding and expectation."""


def find_images(data_dirs: Sequence[str | Path], count: int) -> list[Path]:
    """`count` images spread evenly over the sorted files of each folder.

    Raises:
        CalibrationError: a folder without images, or fewer than `FEWEST_IMAGES` in all.
    """
    files, errors = expand_inputs([str(folder) for folder in data_dirs])
    if errors:
        raise CalibrationError(errors[0])
    paths = [path for path, _ in files]
    if len(paths) < FEWEST_IMAGES:
        where = ", ".join(map(str, data_dirs))
        raise CalibrationError(f"{where}: {len(paths)} images, calibration needs at least {FEWEST_IMAGES}")
    return evenly_spaced(paths, count)


def load_images(
    paths: Sequence[Path], height: int, width: int, fewest: int = FEWEST_IMAGES, *, antialias: bool = False
) -> np.ndarray:
    """Letterboxed pictures, uint8 BGR [N, height, width, 3]; unreadable ones are left out with a warning.

    `antialias`: as `tflite.preprocess.letterbox` has it; what the network's config says.

    Raises:
        CalibrationError: fewer than `fewest` can be read or differ from each other.
    """
    images = []
    for path in paths:
        try:
            images.append(letterbox(read_image(path), height, width, ModelSpec().mean, antialias=antialias)[0])
        except ImageError as error:
            note(f"warning: left out of calibration: {error}")
    if len(images) < fewest:
        raise CalibrationError(f"{paths[0].parent}: {len(images)} readable images, expected at least {fewest}")
    stack = np.stack(images)
    if differing_images(stack) < fewest:
        raise CalibrationError(
            f"{paths[0].parent}: only {differing_images(stack)} of {len(stack)} images differ from each other, "
            f"expected {fewest} different ones"
        )
    return stack


def differing_images(images: np.ndarray) -> int:
    """How many of the images [N, H, W, 3] differ from all before them, by 8×8 thumbnails (2 grey levels on average)."""
    count, height, width, _ = images.shape
    rows, columns = height // 8 * 8, width // 8 * 8
    blocks = images[:, :rows, :columns].reshape(count, 8, rows // 8, 8, columns // 8, 3)
    thumbnails = blocks.mean(axis=(2, 4)).reshape(count, -1)  # [N, 192]
    kept: list[np.ndarray] = []
    for thumbnail in thumbnails:
        if all(np.abs(thumbnail - other).mean() > 2 for other in kept):
            kept.append(thumbnail)
    return len(kept)
