"""Pictures and sets that the tests of labels are made of."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np


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
