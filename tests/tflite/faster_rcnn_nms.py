"""The Faster R-CNN rule: greedy NMS on inclusive pixels, one box at a time."""

from __future__ import annotations

import numpy as np


def faster_rcnn_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Kept indices by score descending; `boxes` [N, 4] x1 y1 x2 y2, widths counted as x2 − x1 + 1."""
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = scores.argsort()[::-1]
    keep = []
    while order.size:
        best, others = order[0], order[1:]
        keep.append(best)
        width = np.maximum(0.0, np.minimum(x2[best], x2[others]) - np.maximum(x1[best], x1[others]) + 1)
        height = np.maximum(0.0, np.minimum(y2[best], y2[others]) - np.maximum(y1[best], y1[others]) + 1)
        inter = width * height
        iou = inter / (areas[best] + areas[others] - inter)
        order = others[iou <= threshold]
    return np.array(keep, np.int64)
