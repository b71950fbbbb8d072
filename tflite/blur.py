"""Make faces unrecognisable, so that no sharpening brings them back: nothing finer than a cell is left."""

from __future__ import annotations

import cv2
import numpy as np

BLUR_CELLS = 6  # colours left across a face: too few for a person or a program to recognise
BLUR_MARGIN = 0.15  # of the box, added on every side: boxes end at the forehead
FILL_COLOR = (128, 128, 128)
PIXELATE, MOSAIC, FILL = "pixelate", "mosaic", "fill"
MODES = (PIXELATE, MOSAIC, FILL)


def mosaic_cell(width: float, height: float) -> int:
    """Pixels of a mosaic's cell for a face of this size with its margin: a power of two, at least a sixth of a side.

    A power of two changes rarely while a face grows in a video.
    """
    return 1 << max(int(np.ceil(np.log2(max(width, height, 1) / BLUR_CELLS))), 1)


def blur_faces(image: np.ndarray, boxes: np.ndarray, mode: str = PIXELATE) -> np.ndarray:
    """A copy of the uint8 BGR `image` in which each face, with a margin, is hidden.

    Averages over cells instead of a Gaussian blur, which can be undone in part.

    Args:
        boxes: float [N, 4], x1 y1 x2 y2 in pixels.
        mode: "pixelate": 6×6 cells of one colour each over the face. "mosaic": cells of `mosaic_cell` pixels that lie
            on a grid of the picture, not of the face: in a video the cells stand still while the face moves a little,
            so that many frames together tell no more of it than one. "fill": one grey.
    """
    canvas = image.copy()
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in np.asarray(boxes, np.float64).reshape(-1, 4):
        dx, dy = BLUR_MARGIN * (x2 - x1), BLUR_MARGIN * (y2 - y1)
        if mode == MOSAIC:
            _mosaic(image, canvas, (x1 - dx, y1 - dy, x2 + dx, y2 + dy))
            continue
        left, top = max(int(x1 - dx), 0), max(int(y1 - dy), 0)
        right, bottom = min(int(np.ceil(x2 + dx)), width), min(int(np.ceil(y2 + dy)), height)
        if right <= left or bottom <= top:
            continue  # a box clipped to nothing
        face = canvas[top:bottom, left:right]
        if mode == FILL:
            face[...] = FILL_COLOR
            continue
        cells = cv2.resize(face, (BLUR_CELLS, BLUR_CELLS), interpolation=cv2.INTER_AREA)
        face[...] = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    return canvas


def _mosaic(image: np.ndarray, canvas: np.ndarray, corners: tuple[float, float, float, float]) -> None:
    """Cells of the picture's grid that the rectangle touches, with the means of the picture as it was."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = corners
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return
    cell = mosaic_cell(x2 - x1, y2 - y1)
    for top in range(max(int(y1), 0) // cell * cell, min(int(np.ceil(y2)), height), cell):
        for left in range(max(int(x1), 0) // cell * cell, min(int(np.ceil(x2)), width), cell):
            place = slice(top, top + cell), slice(left, left + cell)
            canvas[place] = np.rint(image[place].mean(axis=(0, 1)))
