"""How much boxes overlap; boxes are float [N, 4], x1 y1 x2 y2."""

from __future__ import annotations

import numpy as np


def areas(boxes: np.ndarray) -> np.ndarray:
    """[N], 0 of an empty box."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, M] areas that a box of `a` and one of `b` have in common."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, M] intersection over union; 0 of two empty boxes."""
    common = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None] - common
    return common / np.maximum(union, np.finfo(common.dtype).tiny)


def over_smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, M] intersection over the smaller box: 1 where one lies inside the other."""
    common = intersections(a, b)
    smaller = np.minimum(areas(a)[:, None], areas(b)[None])
    return common / np.maximum(smaller, np.finfo(common.dtype).tiny)
