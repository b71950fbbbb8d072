"""Overlaps of boxes by hand."""

from __future__ import annotations

import numpy as np

from rf_keras.boxes import areas, intersections, iou


def test_overlaps() -> None:
    a = np.array([[0, 0, 4, 4], [0, 0, 0, 0]], np.float32)
    b = np.array([[2, 2, 6, 6], [0, 0, 4, 4], [3, 3, 2, 2]], np.float32)
    np.testing.assert_allclose(areas(b), [16, 16, 0])
    np.testing.assert_allclose(intersections(a, b), [[4, 16, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou(a, b), [[4 / 28, 1, 0], [0, 0, 0]])
    assert iou(a, b[:0]).shape == (2, 0)
