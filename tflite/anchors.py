"""Anchor boxes: the one place that says where they lie and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def feature_size(input_size: int, stride: int) -> int:
    """Cells along one side of the feature map of `stride`: padded stride-2 convolutions round up."""
    return math.ceil(input_size / stride)


def make_anchors(
    input_height: int,
    input_width: int,
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
) -> np.ndarray:
    """Square anchors of all levels, concatenated.

    Args:
        input_height, input_width: network input in pixels.
        strides: one per level, finest first, e.g. (8, 16, 32).
        sizes: anchor side lengths in pixels per level, e.g. ((16, 32), (64, 128), (256, 512)).

    Returns:
        float32 [A, 3]: centre x, centre y, side length, all in input pixels. Order: level, row, column, anchor;
        centres at ((column + 0.5)·stride, (row + 0.5)·stride).

    Raises:
        ValueError: `strides` and `sizes` differ in length.

    Source: RetinaFace (Deng et al. 2019) table 2 as released in Pytorch_Retinaface `PriorBox`.
    """
    if len(strides) != len(sizes):
        raise ValueError(f"strides {tuple(strides)} and anchor sizes {tuple(sizes)} must have one entry per level")
    levels = []
    for stride, level_sizes in zip(strides, sizes, strict=True):
        rows, columns = feature_size(input_height, stride), feature_size(input_width, stride)
        grid = np.empty((rows, columns, len(level_sizes), 3), np.float32)
        grid[..., 0] = ((np.arange(columns) + 0.5) * stride)[None, :, None]
        grid[..., 1] = ((np.arange(rows) + 0.5) * stride)[:, None, None]
        grid[..., 2] = np.asarray(level_sizes, np.float32)
        levels.append(grid.reshape(-1, 3))
    return np.concatenate(levels)  # [A, 3]
