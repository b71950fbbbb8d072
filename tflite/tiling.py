"""Small faces in large photos: detect on overlapping tiles and on the whole, and merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tflite.detector import FaceDetector
from tflite.nms import nms
from tflite.overlap import areas, over_smaller
from tflite.postprocess import Detections, joined
from tflite.spec import ModelSpec

OVERLAP = 0.25  # of a tile; a face up to that size lies whole inside at least one tile
SMALLEST_TILE = 32  # pixels
MOST_ENLARGED = 2  # times, from a tile's pixels to the network's
WORTHWHILE = 1.5  # times the network's input: a smaller picture is not cut
MOST_TILES = 6  # along the longer side, by itself
INSIDE = 0.6  # of the smaller box, in the larger one: they are one face
MUCH_LESS = 0.5  # of the smaller one's score: the larger box is then no face
EDGE = 2.0  # pixels: a box that ends so near to an inner edge of its tile is probably cut off there


def tile_starts(length: int, tile: int) -> list[int]:
    """Start pixels of overlapping tiles along one side; the last one ends at the image's edge."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / (tile * (1 - OVERLAP)))) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _shifted(found: Detections, x: int, y: int) -> Detections:
    offset = np.array((x, y), np.float32)
    mesh = None if found.mesh is None else found.mesh + np.array((x, y, 0), np.float32)
    return replace(found, boxes=found.boxes + np.tile(offset, 2), landmarks=found.landmarks + offset, mesh=mesh)


def _whole(found: Detections, tile_size: tuple[int, int], inner: tuple[bool, bool, bool, bool]) -> Detections:
    """Without the boxes that touch an inner edge (left, top, right, bottom): a neighbouring tile has them whole."""
    height, width = tile_size
    gaps = np.stack((found.boxes[:, 0], found.boxes[:, 1], width - found.boxes[:, 2], height - found.boxes[:, 3]))
    return found[~((gaps < EDGE) & np.array(inner)[:, None]).any(axis=0)]


def auto_tile(height: int, width: int, own: int) -> int:
    """Side of tiles that suits a picture.

    Args:
        height, width: of the picture in pixels.
        own: longer side of the network's input in pixels.

    Returns:
        Pixels. The network's own side, so that it sees every pixel; more where that would take more than `MOST_TILES`
        tiles along a side. As large as the picture where tiles would show the network hardly more than the whole does.
    """
    longest = max(height, width)
    if longest <= WORTHWHILE * own:
        return longest
    # n tiles that overlap by a quarter cover 0.75·n + 0.25 sides of a tile.
    return max(own, int(np.ceil(longest / ((1 - OVERLAP) * MOST_TILES + OVERLAP))))


def detect_tiled(
    detector: FaceDetector,
    image: np.ndarray,
    tile: int | str,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
) -> Detections:
    """`detector.detect` on the whole image and on tiles of it, merged.

    Args:
        image: uint8 [H, W, 3] BGR.
        tile: side of a tile in pixels, at least 32; the smaller, the smaller the faces found, and the longer it takes.
            Below half of the network's input it counts as that half: a tile that is enlarged more than twice shows
            nothing new, and parts of faces begin to look like faces. "auto": as `auto_tile` says.
        score_threshold, iou_threshold: as for `detect`.

    Returns:
        As `detect`; an image no larger than a tile is detected once.

    Raises:
        ValueError: `tile` below 32, or as `detect`.
    """
    height, width = image.shape[:2]
    own = max(detector.spec.input_height, detector.spec.input_width)
    if isinstance(tile, str):
        tile = auto_tile(height, width, own)
    if tile < SMALLEST_TILE:
        raise ValueError(f"tile is {tile} pixels, expected at least {SMALLEST_TILE}")
    tile = max(tile, own // MOST_ENLARGED)
    parts = [detector.detect(image, score_threshold, iou_threshold)]
    if height <= tile and width <= tile:
        return parts[0]
    for y in tile_starts(height, tile):
        for x in tile_starts(width, tile):
            piece = image[y : y + tile, x : x + tile]
            inner = (x > 0, y > 0, x + tile < width, y + tile < height)
            found = detector.detect(piece, score_threshold, iou_threshold)
            parts.append(_shifted(_whole(found, piece.shape[:2], inner), x, y))
    return merge_parts(parts, detector.spec, detector.spec.iou_threshold if iou_threshold is None else iou_threshold)


def merge_parts(parts: Sequence[Detections], spec: ModelSpec, iou_threshold: float) -> Detections:
    """The faces of several looks at one picture, each once.

    NMS first. Then of two faces of different looks, of which one lies inside the other, the larger stays: a tile that
    holds half of a face takes an eye for one. Where the larger is much less certain, the smaller stays.

    Args:
        parts: each in pixels of the whole picture.
        spec: limits.
        iou_threshold: of NMS.
    """
    found = joined(parts)
    keep = nms(found.boxes, found.scores, iou_threshold, 0, spec.max_candidates, spec.max_faces)
    found, look = found[keep], np.repeat(np.arange(len(parts)), [len(part) for part in parts])[keep]
    boxes, scores = found.boxes, found.scores
    inside = (over_smaller(boxes, boxes) > INSIDE) & (look[:, None] != look[None])
    alive = np.ones(len(boxes), bool)
    for i in np.argsort(-areas(boxes), kind="stable"):
        if not alive[i]:
            continue
        others = np.flatnonzero(inside[i] & alive)
        if (scores[i] < MUCH_LESS * scores[others]).any():
            alive[i] = False
        else:
            alive[others] = False
    return found[alive]
