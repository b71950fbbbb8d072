"""Draw detections onto an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from tflite.mesh import axes
from tflite.postprocess import Detections

Color = tuple[int, int, int]

BOX_COLOR = (0, 220, 0)
# Left eye, right eye, nose, left and right mouth corner: told apart, so that a swap is seen at once. BGR.
LANDMARK_COLORS = ((0, 0, 255), (0, 255, 255), (255, 0, 255), (0, 160, 0), (255, 0, 0))
AXIS_COLORS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))  # x, y, z; BGR
EDGE_COLOR = (0, 0, 0)  # around points: they are seen on any ground
DARK_INK, LIGHT_INK = (0, 0, 0), (255, 255, 255)  # of text, on bright and on dark labels
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 22  # pixels of a capital at scale 1
PICTURE_SIDE = 400  # pixels of the shorter side for one pixel of line
THINNEST_TEXT = 6  # pixels of height; below that no text is drawn
HUE_STEP = 0.381966  # of the circle, the golden angle: neighbouring tracks differ


def track_color(track: int) -> Color:
    """BGR, bright, the same for the same number."""
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(track * HUE_STEP % 1, 0.85, 1.0))
    return blue, green, red


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    tracks: Sequence[int] | None = None,
    *,
    mesh: bool = False,
    pose: bool = False,
) -> np.ndarray:
    """A copy of the uint8 BGR `image` with boxes, scores and landmarks.

    Lines, text and points grow with the picture, and stay small beside a small face.

    Args:
        tracks: number of each face, shown with its score; the box has a colour of its own.
        mesh: draw the vertices instead of the landmarks, the nearer the brighter; needs `detections.mesh`.
        pose: draw the head's axes, x (red) to the right, y (green) down, z (blue) where the nose points; needs
            `detections.pose`.
    """
    canvas = image.copy()
    limit = 4 * max(image.shape[:2])  # OpenCV overflows on far coordinates
    unit = max(1, round(min(image.shape[:2]) / PICTURE_SIDE))
    labels: list[tuple[str, tuple[int, int, int, int], float, Color]] = []
    for i, (box, points) in enumerate(zip(detections.boxes, detections.landmarks, strict=True)):
        x1, y1, x2, y2 = (int(v) for v in np.clip(np.rint(box), -limit, limit))
        side = max(x2 - x1, y2 - y1)
        color = BOX_COLOR if tracks is None else track_color(tracks[i])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, max(1, min(unit, round(side / 24))))
        if mesh and detections.mesh is not None:
            _draw_mesh(canvas, detections.mesh[i], max(0, min(round(side / 200), unit)), limit)
            points = points[:0]
        radius = max(1, min(round(side / 36), 4 * unit))
        for (x, y), inner in zip(np.clip(np.rint(points), -limit, limit), LANDMARK_COLORS, strict=False):
            if radius > 1:
                cv2.circle(canvas, (int(x), int(y)), radius + max(1, radius // 4), EDGE_COLOR, -1, cv2.LINE_AA)
            cv2.circle(canvas, (int(x), int(y)), radius, inner, -1)
        if pose and detections.pose is not None:
            middle = np.array(((x1 + x2) / 2, (y1 + y2) / 2))
            _draw_axes(canvas, middle, detections.pose[i], side / 2, max(1, min(2 * unit, round(side / 24))))
        text = f"{detections.scores[i]:.2f}" if tracks is None else f"#{tracks[i]} {detections.scores[i]:.2f}"
        labels.append((text, (x1, y1, x2, y2), min(max(0.11 * side, 9.0, 5.0 * unit), 14.0 * unit), color))
    for text, corners, height, color in labels:  # last: no box crosses a text
        _label(canvas, text, corners, height, color)
    return canvas


def _draw_mesh(canvas: np.ndarray, vertices: np.ndarray, radius: int, limit: int) -> None:
    """Vertices [468, 3] in pixels as dots, the far ones first."""
    depth = vertices[:, 2]
    shade = np.interp(depth, (depth.min(), depth.max()), (255, 90))
    for vertex in np.argsort(-depth):
        x, y = np.clip(np.rint(vertices[vertex, :2]), -limit, limit)
        color = (int(shade[vertex]), int(shade[vertex]), 0)
        cv2.circle(canvas, (int(x), int(y)), radius, color, -1)


def _draw_axes(canvas: np.ndarray, centre: np.ndarray, angles: np.ndarray, length: float, thickness: int) -> None:
    """The axes of a head with the angles (yaw, pitch, roll) in degrees."""
    for axis, color in zip(axes(angles), AXIS_COLORS, strict=True):
        ends = [tuple(int(value) for value in np.rint(point)) for point in (centre, centre + length * axis[:2])]
        cv2.line(canvas, ends[0], ends[1], color, thickness, cv2.LINE_AA)


def label_place(size: tuple[int, int], box: tuple[int, int, int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """Top left corner of a label of `size` (width, height), wholly in the picture: above its box, below or inside.

    Args:
        box: x1, y1, x2, y2.
        image_size: (height, width), at least the label's.
    """
    width, height = size
    if box[1] >= height:
        y = box[1] - height
    else:
        y = box[3] + 1 if box[3] + 1 + height <= image_size[0] else box[1]
    return min(max(box[0], 0), image_size[1] - width), min(max(y, 0), image_size[0] - height)


def _label(canvas: np.ndarray, text: str, box: tuple[int, int, int, int], height: float, color: Color) -> None:
    scale = height / FONT_HEIGHT
    thickness = max(1, round(height / 10))
    (width, capital), below = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(1, round(height / 6))
    room = min((canvas.shape[1] - 2 * pad) / width, (canvas.shape[0] - 2 * pad) / (capital + below))
    if room < 1:
        height *= room
        if height < THINNEST_TEXT:
            return
        scale, thickness = height / FONT_HEIGHT, 1
        (width, capital), below = cv2.getTextSize(text, FONT, scale, thickness)
    size = width + 2 * pad, capital + 2 * pad
    if size[0] > canvas.shape[1] or size[1] > canvas.shape[0]:
        return
    x, y = label_place(size, box, (canvas.shape[0], canvas.shape[1]))
    cv2.rectangle(canvas, (x, y), (x + size[0] - 1, y + size[1] - 1), color, -1)
    blue, green, red = color
    ink = DARK_INK if 0.1 * blue + 0.6 * green + 0.3 * red > 100 else LIGHT_INK
    cv2.putText(canvas, text, (x + pad, y + pad + capital), FONT, scale, ink, thickness, cv2.LINE_AA)
