"""Pictures and sets that the tests of labels are made of."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from tests.tflite.test_images import UNDO, stored
from tflite.images import read_image


@lru_cache
def encoded(suffix: str, width: int, height: int, seed: int = 0) -> bytes:
    """A file of a noisy grey picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.imencode(suffix, cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))[1].tobytes()


def picture(path: Path, width: int = 320, height: int = 240, seed: int = 0) -> Path:
    """Write one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix, width, height, seed))
    return path


def ways_to_store(image: np.ndarray) -> dict[str, bytes]:
    """Suffix → a picture (RGB) as a plain JPEG, and the same pixels turned by EXIF and in other formats."""
    plain = stored(image, 1, "JPEG", quality=90)
    pixels = np.ascontiguousarray(read_image(plain)[..., ::-1])
    return {
        ".jpg": plain,
        "_cut.jpg": plain[:-2],  # without its end marker
        **{f"_{number}.png": stored(pixels, number, "PNG", compress_level=1) for number in UNDO},
        ".webp": stored(pixels, 6, "WEBP", lossless=True, quality=0, method=0),
        ".tif": stored(pixels, 8, "TIFF", compression="tiff_lzw"),
    }
