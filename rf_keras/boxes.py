"""Overlaps of boxes, x1 y1 x2 y2 on continuous coordinates, on NumPy arrays."""

from __future__ import annotations

import numpy as np


def areas(boxes: np.ndarray) -> np.ndarray:
    """[N] of boxes [N, 4]; 0 where one has no width or height."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Common areas of boxes [M, 4] and [N, 4]: [M, N]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=-1)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes [M, 4] and [N, 4]: [M, N], 0 where both have no area."""
    common = intersections(a, b)
    return common / np.maximum(areas(a)[:, None] + areas(b)[None] - common, 1e-9)
