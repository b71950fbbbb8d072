"""Anchor matching, batched in the graph.

An anchor is positive when its best IoU with a face reaches `POSITIVE_IOU`; besides, every face whose best IoU reaches
`KEEP_IOU` keeps its best anchor, whatever the threshold says, and a later face wins a shared best anchor. Ties between
faces go to the earlier one, ties between anchors to the lower index.

A dense IoU table of 16,800 anchors × 500 faces would cost more than the network. Anchors lie on grids, so both halves
of the rule come cheaper: only cells near a face can reach `POSITIVE_IOU`, and because all anchors of one size overlap a
face by (overlap along x)·(overlap along y), its best one is the best column and the best row.
"""

from __future__ import annotations

import math

import tensorflow as tf

from rf_keras.config import ModelConfig
from tflite.anchors import feature_size

POSITIVE_IOU = 0.35
KEEP_IOU = 0.2


def _overlap(low: tf.Tensor, high: tf.Tensor, centres: tf.Tensor, size: float) -> tf.Tensor:
    """Length that [low, high] [F] shares with anchors of side `size` at `centres` [F, n] or [n] on an axis: [F, n]."""
    return tf.maximum(tf.minimum(high[:, None], centres + size / 2) - tf.maximum(low[:, None], centres - size / 2), 0.0)


def _iou(inter: tf.Tensor, area: tf.Tensor, size: float) -> tf.Tensor:
    return inter / (area + size * size - inter)


def _near_cells(low: tf.Tensor, high: tf.Tensor, cells: int, stride: int, size: float) -> tf.Tensor:
    """Indices [F, n] of the cells whose anchors could reach POSITIVE_IOU along one axis; some may lie off the grid.

    With t the threshold, an anchor of side a and a face of width w ≤ a/t (wider ones cannot reach t at all) need an
    overlap of t/(1+t)·(a + w) along the axis, so their centres are at most (1−t)/(2t)·a apart.
    """
    reach = (1 - POSITIVE_IOU) / (2 * POSITIVE_IOU) * size / stride
    window = min(2 * math.ceil(reach + 0.5) + 1, cells)
    if window == cells:
        return tf.tile(tf.range(cells)[None], [tf.shape(low)[0], 1])
    nearest = tf.cast(tf.round((low + high) / (2 * stride) - 0.5), tf.int32)
    return nearest[:, None] + tf.range(window) - window // 2


def match(
    boxes: tf.Tensor,
    count: tf.Tensor,
    config: ModelConfig,
    height: int,
    width: int,
) -> tf.Tensor:
    """Assign faces to anchors.

    Args:
        boxes: float32 [B, G, 4], x1 y1 x2 y2 in pixels of the network input, padded to G faces.
        count: int32 [B], faces that are real in each row.
        config: strides and anchor sizes.
        height, width: network input in pixels.

    Returns:
        int32 [B, A]: index of the face each anchor is to predict, −1 for background.

    Source: the reference's `match`; where two faces share a best anchor, only faces that reach KEEP_IOU compete for it.
    """
    batch, most = tf.shape(boxes)[0], tf.shape(boxes)[1]
    where = tf.cast(tf.where(tf.sequence_mask(count, most)), tf.int32)  # [F, 2] image, face
    image, face = where[:, 0], where[:, 1]
    x1, y1, x2, y2 = tf.unstack(tf.gather_nd(boxes, where), axis=-1)  # [F] each
    area = (x2 - x1) * (y2 - y1)

    near: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]] = []  # (IoU, anchor in batch, face) of pairs ≥ POSITIVE_IOU
    best_iou, best_anchor = [], []  # [F] per anchor size
    per_image = sum(feature_size(height, s) * feature_size(width, s) * config.anchors_per_cell for s in config.strides)
    base = 0
    for stride, sizes in zip(config.strides, config.anchor_sizes, strict=True):
        rows, columns = feature_size(height, stride), feature_size(width, stride)
        for k, size in enumerate(sizes):

            def anchor_index(
                row: tf.Tensor, column: tf.Tensor, offset: int = base + k, across: int = columns
            ) -> tf.Tensor:
                return offset + (row * across + column) * config.anchors_per_cell

            across = _overlap(x1, x2, (tf.range(columns, dtype=tf.float32) + 0.5) * stride, size)  # [F, columns]
            down = _overlap(y1, y2, (tf.range(rows, dtype=tf.float32) + 0.5) * stride, size)  # [F, rows]
            inter = tf.reduce_max(across, axis=1) * tf.reduce_max(down, axis=1)
            best_iou.append(_iou(inter, area, size))
            best_anchor.append(
                anchor_index(
                    tf.argmax(down, axis=1, output_type=tf.int32), tf.argmax(across, axis=1, output_type=tf.int32)
                )
            )

            similar = tf.where((area >= POSITIVE_IOU * size**2) & (area * POSITIVE_IOU <= size**2))[:, 0]
            left, right, top, bottom = (tf.gather(side, similar) for side in (x1, x2, y1, y2))
            column = _near_cells(left, right, columns, stride, size)  # [S, n]
            row = _near_cells(top, bottom, rows, stride, size)  # [S, m]
            across = _overlap(left, right, (tf.cast(column, tf.float32) + 0.5) * stride, size)
            down = _overlap(top, bottom, (tf.cast(row, tf.float32) + 0.5) * stride, size)
            across = tf.where((column >= 0) & (column < columns), across, 0.0)
            down = tf.where((row >= 0) & (row < rows), down, 0.0)
            iou = _iou(down[:, :, None] * across[:, None, :], tf.gather(area, similar)[:, None, None], size)
            hit = tf.where(iou >= POSITIVE_IOU)  # [P, 3] face among similar, row, column
            which = tf.gather(similar, hit[:, 0])
            index = anchor_index(
                tf.gather_nd(row, hit[:, :2]), tf.gather_nd(column, tf.stack([hit[:, 0], hit[:, 2]], axis=1))
            )
            near.append((tf.gather_nd(iou, hit), tf.gather(image, which) * per_image + index, tf.gather(face, which)))
        base += rows * columns * config.anchors_per_cell

    # Every anchor's best face; of equal ones the first.
    iou, index, of_face = (tf.concat(parts, axis=0) for parts in zip(*near, strict=True))
    top_iou = tf.math.unsorted_segment_max(iou, index, batch * per_image)
    is_top = tf.gather(top_iou, index) == iou
    first = tf.math.unsorted_segment_min(tf.where(is_top, of_face, most), index, batch * per_image)
    matched = tf.where(first < most, first, -1)

    # Every face's best anchor; of equal ones the lowest. It overrules the threshold, and a later face an earlier one.
    ious, anchors = tf.stack(best_iou, axis=1), tf.stack(best_anchor, axis=1)  # [F, sizes]
    reached = tf.reduce_max(ious, axis=1)
    lowest = tf.reduce_min(tf.where(ious == reached[:, None], anchors, per_image), axis=1)
    kept = tf.where(reached >= KEEP_IOU)[:, 0]
    index = tf.gather(image * per_image + lowest, kept)
    forced = tf.fill([batch * per_image], -1)
    forced = tf.tensor_scatter_nd_max(forced, index[:, None], tf.gather(face, kept))
    return tf.reshape(tf.where(forced >= 0, forced, matched), [batch, per_image])
