"""The training rules as plain loops over faces and anchors in float64: slow, and meant to be obvious."""

from __future__ import annotations

import math

import numpy as np


def iou(box: np.ndarray, anchor: np.ndarray) -> float:
    """IoU of a box x1 y1 x2 y2 and a square anchor cx cy size."""
    cx, cy, size = (float(v) for v in anchor)
    x1, y1, x2, y2 = (float(v) for v in box)
    across = max(0.0, min(x2, cx + size / 2) - max(x1, cx - size / 2))
    down = max(0.0, min(y2, cy + size / 2) - max(y1, cy - size / 2))
    return across * down / (size * size + (x2 - x1) * (y2 - y1) - across * down)


def match_image(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Face index per anchor, −1 for background."""
    result = np.full(len(anchors), -1)
    if len(boxes) == 0:
        return result
    table = np.array([[iou(box, anchor) for anchor in anchors] for box in boxes])  # [G, A]
    for a in range(len(anchors)):
        if table[:, a].max() >= 0.35:
            result[a] = int(np.argmax(table[:, a]))
    for g in range(len(boxes)):  # in order, so that a later face wins
        if table[g].max() >= 0.2:
            result[int(np.argmax(table[g]))] = g
    return result


def encode(box: np.ndarray, points: np.ndarray, anchor: np.ndarray) -> tuple[list[float], list[float]]:
    """Box deltas (4) and landmark deltas (10) with variances 0.1 and 0.2."""
    cx, cy, size = (float(v) for v in anchor)
    x1, y1, x2, y2 = (float(v) for v in box)
    deltas = [((x1 + x2) / 2 - cx) / (0.1 * size), ((y1 + y2) / 2 - cy) / (0.1 * size)]
    deltas += [math.log((x2 - x1) / size) / 0.2, math.log((y2 - y1) / size) / 0.2]
    marks = []
    for x, y in points:
        marks += [(float(x) - cx) / (0.1 * size), (float(y) - cy) / (0.1 * size)]
    return deltas, marks


def smooth_l1(error: float) -> float:
    return 0.5 * error * error if abs(error) < 1 else abs(error) - 0.5


def multibox(
    logits: np.ndarray,
    deltas: np.ndarray,
    points: np.ndarray,
    matched: np.ndarray,
    boxes: list[np.ndarray],
    landmarks: list[np.ndarray],
    anchors: np.ndarray,
) -> dict[str, float]:
    """Losses of a batch: total, box, classes, landmark."""
    box = classes = landmark = 0.0
    positives = with_landmarks = 0
    for b in range(len(logits)):

        def cross_entropy(a: int, label: int, image: int = b) -> float:
            x = logits[image, a].astype(np.float64)
            top = x.max()
            return float(top + math.log(np.exp(x - top).sum()) - x[label])

        mine = [a for a in range(len(anchors)) if matched[b, a] >= 0]
        for a in mine:
            face = matched[b, a]
            target, marks = encode(boxes[b][face], landmarks[b][face], anchors[a])
            box += sum(smooth_l1(float(p) - t) for p, t in zip(deltas[b, a], target, strict=True))
            classes += cross_entropy(a, 1)
            positives += 1
            if not (landmarks[b][face] == -1).all():
                landmark += sum(smooth_l1(float(p) - t) for p, t in zip(points[b, a], marks, strict=True))
                with_landmarks += 1
        hardest = sorted((cross_entropy(a, 0) for a in range(len(anchors)) if matched[b, a] < 0), reverse=True)
        classes += sum(hardest[: 7 * len(mine)])
    parts = {
        "box": box / max(positives, 1),
        "classes": classes / max(positives, 1),
        "landmark": landmark / max(with_landmarks, 1),
    }
    return {"total": 2 * parts["box"] + parts["classes"] + parts["landmark"], **parts}
