"""Non-maximum suppression, greedy by score.

A photo's few candidates are compared all with all at once. Thousands, as of a crowd, are decided block by block, with
the same result.
"""

from __future__ import annotations

import numpy as np

FEW = 64  # up to so many boxes one comparison of all pairs is faster than blocks
FIRST_BLOCK = 16  # boxes decided together; small at first, since in a cluster the best box already removes the rest
LAST_BLOCK = 128
TILE = 1 << 16  # pairs compared at a time: the masks stay in the second-level cache
DENSE = 8  # where more than one in so many pairs may overlap, all get the exact test


def nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float,
    pixel_offset: int = 0,
    max_candidates: int = 5000,
    max_faces: int = 750,
) -> np.ndarray:
    """Keep a box unless its IoU with a better kept one is greater than the threshold.

    Args:
        boxes: float32 or float64 [N, 4], x1 y1 x2 y2 in pixels, finite.
        scores: [N], any increasing measure of confidence: probabilities or logits.
        iou_threshold: 0-1.
        pixel_offset: 0 for continuous coordinates; 1 counts a box from pixel a to pixel b as b − a + 1 wide, as the
            code of Faster R-CNN did, and returns exactly its indices where scores are distinct.
        max_candidates: of more boxes only so many of the highest score take part.
        max_faces: at most so many indices are returned.

    Returns:
        int64 [K], indices into `boxes`, by score descending, equal scores by index ascending. Two empty boxes do not
        overlap.

    Raises:
        ValueError: shapes that do not fit, or a threshold outside 0-1.
    """
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes are {boxes.shape} and scores {scores.shape}, expected [N, 4] and [N]")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"IoU threshold is {iou_threshold}, expected 0-1")
    if boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float64)
    iou_threshold = float(iou_threshold)  # a NumPy double would turn float32 comparisons into double ones
    order = _by_score(scores)[:max_candidates]
    table = np.empty((5, len(order)), boxes.dtype)
    table[:4] = boxes.take(order, 0).T
    table[4] = (table[2] - table[0] + pixel_offset) * (table[3] - table[1] + pixel_offset)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 of two empty boxes
        if len(order) <= FEW:
            over = _exceeds(table[:, :, None], table[:, None], iou_threshold, pixel_offset)
            return order.take(_greedy(over)[:max_faces])
        return order.take(_in_blocks(table, iou_threshold, pixel_offset, max_faces))


def _by_score(scores: np.ndarray) -> np.ndarray:
    """Indices by score descending, equal scores by index; the stable sort is three times slower, so only with ties."""
    negative = -scores.astype(np.promote_types(scores.dtype, np.float32), copy=False)
    order = np.argsort(negative)
    ordered = negative[order]
    return order if (ordered[1:] > ordered[:-1]).all() else np.argsort(negative, kind="stable")


def _exceeds(a: np.ndarray, b: np.ndarray, iou_threshold: float, pixel_offset: int) -> np.ndarray:
    """Whether the IoU of boxes [5, …] exceeds the threshold: operations in Faster R-CNN's order, equal in each bit."""
    width, height = np.maximum(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]) + pixel_offset, 0)
    inter = width * height
    return inter / (a[4] + b[4] - inter) > iou_threshold


def _greedy(over: np.ndarray) -> np.ndarray:
    """int64 [K]: which boxes in score order are kept, given bool [N, N]: whose IoU with whom exceeds the threshold."""
    size = len(over)
    bytes_per_row = (size + 7) // 8
    packed = np.packbits(over, axis=1, bitorder="little").tobytes()
    kept, suppressed = [], 0
    for box in range(size):
        if not suppressed >> box & 1:
            kept.append(box)
            suppressed |= int.from_bytes(packed[box * bytes_per_row : (box + 1) * bytes_per_row], "little")
    return np.array(kept, np.int64)


def _in_blocks(table: np.ndarray, iou_threshold: float, pixel_offset: int, max_faces: int) -> np.ndarray:
    """int64 [K], the kept columns of `table` [5, N] (x1, y1, x2, y2, area; by score descending).

    Two things make it fast in NumPy. Where few pairs overlap, four comparisons of intervals find those that may, and
    only they get the exact arithmetic. And boxes are decided in blocks, so that the loop over boxes runs on integers
    used as bit sets.
    """
    count = table.shape[1]
    rest = _Boxes(table, _intervals(table, pixel_offset, iou_threshold), np.arange(count))
    buffers = np.empty((2, min(max(TILE, count), count * count)), bool)
    kept: list[np.ndarray] = []
    room, block_size = max_faces, FIRST_BLOCK
    while len(rest) and room > 0:
        block = rest.take(slice(block_size))
        pairs = _overlapping(block, block, iou_threshold, pixel_offset, buffers)
        winners = block.take(_greedy(_square(len(block), *pairs))[:room])
        kept.append(winners.index)
        room -= len(winners)
        rest = rest.take(slice(block_size, None))
        if not len(rest) or room <= 0:
            break
        alive = np.ones(len(rest), bool)
        step = max(1, TILE // len(rest))
        for first in range(0, len(winners), step):
            tile = winners.take(slice(first, first + step))
            alive[_overlapping(tile, rest, iou_threshold, pixel_offset, buffers)[1]] = False
        rest = rest.take(np.flatnonzero(alive))
        block_size = min(2 * block_size, LAST_BLOCK)
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


class _Boxes:
    """Boxes in score order with what the pair test needs; `take` narrows them."""

    def __init__(self, boxes: np.ndarray, intervals: np.ndarray, index: np.ndarray) -> None:
        self.boxes = boxes  # [5, N]: x1, y1, x2, y2, area
        self.intervals = intervals  # [2, 2, N]
        self.index = index  # int64 [N], columns of the table

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: slice | np.ndarray) -> _Boxes:
        if isinstance(which, slice):
            return _Boxes(self.boxes[:, which], self.intervals[..., which], self.index[which])
        # take() along the last axis is three times as fast as indexing
        return _Boxes(self.boxes.take(which, 1), self.intervals.take(which, 2), self.index.take(which))


def _intervals(boxes: np.ndarray, pixel_offset: int, iou_threshold: float) -> np.ndarray:
    """float32 [2, 2, N] (low or high, axis, box): boxes whose intervals miss each other have an IoU of at most t.

    IoU > t needs a one-dimensional IoU > t, so an overlap of t/(1+t)·(wₐ + w_b), so centres nearer than
    (wₐ + w_b)·(1−t)/(2(1+t)). The margin covers the rounding of the exact test and of these numbers themselves.
    """
    low, high = boxes[:4].astype(np.float32, copy=False).reshape(2, 2, -1)
    side, centre = high - low + pixel_offset, (low + high) / 2
    half = side * ((1 - iou_threshold) / (2 + 2 * iou_threshold)) + 1e-5 * np.abs(side) + 1e-6 * np.abs(centre)
    return np.stack((centre - half, centre + half))


def _overlapping(
    a: _Boxes, b: _Boxes, iou_threshold: float, pixel_offset: int, buffers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (into a, into b) whose IoU exceeds the threshold."""
    count = len(a) * len(b)
    if count > FEW * FEW:
        mask, other = buffers[:, :count].reshape(2, len(a), len(b))
        (low_x, low_y), (high_x, high_y) = a.intervals[..., None]
        np.less(low_x, b.intervals[1, 0], out=mask)
        for low, high in ((b.intervals[0, 0], high_x), (low_y, b.intervals[1, 1]), (b.intervals[0, 1], high_y)):
            np.logical_and(mask, np.less(low, high, out=other), out=mask)
        near = np.flatnonzero(mask)  # far faster than nonzero() of two dimensions
        if len(near) * DENSE < count:
            i, j = np.divmod(near, len(b))
            over = _exceeds(a.boxes.take(i, 1), b.boxes.take(j, 1), iou_threshold, pixel_offset)
            return i[over], j[over]
    over = _exceeds(a.boxes[:, :, None], b.boxes[:, None], iou_threshold, pixel_offset)
    i, j = np.divmod(np.flatnonzero(over), len(b))
    return i, j


def _square(size: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """bool [size, size], true at the pairs (i, j)."""
    over = np.zeros((size, size), bool)
    over[i, j] = True
    return over
