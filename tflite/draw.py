"""Draw detections onto an image, or make the faces unrecognisable."""

from __future__ import annotations

import cv2
import numpy as np

from tflite.postprocess import Detections

BOX_COLOR = (0, 220, 0)
# Left eye, right eye, nose, left and right mouth corner: told apart, so that a swap is seen at once. BGR.
LANDMARK_COLORS = ((0, 0, 255), (0, 255, 255), (255, 0, 255), (0, 160, 0), (255, 0, 0))
BLUR_CELLS = 6  # colours left across a face: too few for a person or a program to recognise
BLUR_MARGIN = 0.15  # of the box, added on every side: boxes end at the forehead


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


def blur_faces(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of the uint8 BGR `image` in which each face, with a margin, is reduced to a few cells of colour.

    Averages over cells instead of a Gaussian blur, which can be undone in part.
    """
    canvas = image.copy()
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in detections.boxes.astype(np.float64):
        dx, dy = BLUR_MARGIN * (x2 - x1), BLUR_MARGIN * (y2 - y1)
        left, top = max(int(x1 - dx), 0), max(int(y1 - dy), 0)
        right, bottom = min(int(np.ceil(x2 + dx)), width), min(int(np.ceil(y2 + dy)), height)
        if right <= left or bottom <= top:
            continue  # a box clipped to nothing
        face = canvas[top:bottom, left:right]
        cells = cv2.resize(face, (BLUR_CELLS, BLUR_CELLS), interpolation=cv2.INTER_AREA)
        face[...] = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    return canvas
