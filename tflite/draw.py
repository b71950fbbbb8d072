"""Draw detections onto an image."""

from __future__ import annotations

import cv2
import numpy as np

from tflite.postprocess import Detections

BOX_COLOR = (0, 220, 0)
# Left eye, right eye, nose, left and right mouth corner: told apart, so that a swap is seen at once. BGR.
LANDMARK_COLORS = ((0, 0, 255), (0, 255, 255), (255, 0, 255), (0, 160, 0), (255, 0, 0))


def draw_detections(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of the uint8 BGR `image` with boxes, scores and landmarks; line width grows with the image."""
    canvas = image.copy()
    thickness = max(1, round(min(image.shape[:2]) / 400))
    limit = 4 * max(image.shape[:2])  # OpenCV overflows on far coordinates
    for box, score, points in zip(detections.boxes, detections.scores, detections.landmarks, strict=True):
        x1, y1, x2, y2 = (int(v) for v in np.clip(np.rint(box), -limit, limit))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), BOX_COLOR, thickness)
        size = min(max((x2 - x1) / 160, 0.3 * thickness), 1.0 * thickness)
        cv2.putText(
            canvas, f"{score:.2f}", (x1, max(y1 - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, size, BOX_COLOR, 1, cv2.LINE_AA
        )
        radius = max(1, round((x2 - x1) / 40))
        for (x, y), color in zip(np.clip(np.rint(points), -limit, limit), LANDMARK_COLORS, strict=True):
            cv2.circle(canvas, (int(x), int(y)), radius, color, -1)
    return canvas
