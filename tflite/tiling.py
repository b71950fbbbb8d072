"""Small faces in large photos: detect on overlapping tiles and on the whole, and merge."""

from __future__ import annotations

import numpy as np

from tflite.detector import FaceDetector
from tflite.nms import nms
from tflite.postprocess import Detections

OVERLAP = 0.25  # of a tile; a face up to that size lies whole inside at least one tile
EDGE = 2.0  # pixels: a box that ends so near to an inner edge of its tile is probably cut off there


def tile_starts(length: int, tile: int) -> list[int]:
    """Start pixels of overlapping tiles along one side; the last one ends at the image's edge."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / (tile * (1 - OVERLAP)))) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _shifted(found: Detections, x: int, y: int) -> Detections:
    offset = np.array((x, y), np.float32)
    return Detections(found.boxes + np.tile(offset, 2), found.scores, found.landmarks + offset)


def _whole(found: Detections, tile_size: tuple[int, int], inner: tuple[bool, bool, bool, bool]) -> Detections:
    """Without the boxes that touch an inner edge (left, top, right, bottom): a neighbouring tile has them whole."""
    height, width = tile_size
    gaps = np.stack((found.boxes[:, 0], found.boxes[:, 1], width - found.boxes[:, 2], height - found.boxes[:, 3]))
    keep = ~((gaps < EDGE) & np.array(inner)[:, None]).any(axis=0)
    return Detections(found.boxes[keep], found.scores[keep], found.landmarks[keep])


def detect_tiled(
    detector: FaceDetector,
    image: np.ndarray,
    tile: int,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
) -> Detections:
    """`detector.detect` on the whole image and on tiles of it, merged by NMS.

    Args:
        image: uint8 [H, W, 3] BGR.
        tile: side of a tile in pixels, at least 32; the smaller, the smaller the faces found, and the longer it takes.
        score_threshold, iou_threshold: as for `detect`.

    Returns:
        As `detect`; an image no larger than a tile is detected once.

    Raises:
        ValueError: `tile` below 32, or as `detect`.
    """
    if tile < 32:
        raise ValueError(f"tile is {tile} pixels, expected at least 32")
    parts = [detector.detect(image, score_threshold, iou_threshold)]
    height, width = image.shape[:2]
    if height <= tile and width <= tile:
        return parts[0]
    for y in tile_starts(height, tile):
        for x in tile_starts(width, tile):
            piece = image[y : y + tile, x : x + tile]
            inner = (x > 0, y > 0, x + tile < width, y + tile < height)
            found = detector.detect(piece, score_threshold, iou_threshold)
            parts.append(_shifted(_whole(found, piece.shape[:2], inner), x, y))
    boxes, scores, landmarks = (
        np.concatenate([getattr(p, key) for p in parts]) for key in ("boxes", "scores", "landmarks")
    )
    spec = detector.spec
    keep = nms(
        boxes,
        scores,
        spec.iou_threshold if iou_threshold is None else iou_threshold,
        max_candidates=spec.max_candidates,
        max_faces=spec.max_faces,
    )
    return Detections(boxes[keep], scores[keep], landmarks[keep])
