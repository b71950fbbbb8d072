"""Faces at any rotation: detect on the picture turned four ways, and keep for each face the turn that suits it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tflite.overlap import over_smaller
from tflite.postprocess import Detections, joined

SAME_FACE = 0.5  # intersection over the smaller box: two turns see one face


def turned(image: np.ndarray, turns: int) -> np.ndarray:
    """The picture turned counter-clockwise by `turns` quarters; C-contiguous."""
    return np.ascontiguousarray(np.rot90(image, turns))


def turned_back(found: Detections, turns: int, image_size: tuple[int, int]) -> Detections:
    """Faces of `turned(image, turns)` in pixels of `image`, whose (height, width) is given.

    The points keep their names: left is the left of the face seen upright.
    """
    height, width = (np.float32(side) for side in image_size)

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        pairs = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
        return np.stack(pairs[turns % 4], axis=-1)

    corners = back(found.boxes.reshape(-1, 2, 2))
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    mesh, pose = found.mesh, found.pose
    if mesh is not None and pose is not None:
        mesh = np.concatenate((back(mesh[..., :2]), mesh[..., 2:]), axis=-1)
        pose = pose + np.array((0, 0, 90 * turns), np.float32)
        pose[:, 2] -= 360 * np.round(pose[:, 2] / 360)
    return Detections(boxes, found.scores, back(found.landmarks), mesh, pose)


def detect_any_rotation(find: Callable[[np.ndarray], Detections], image: np.ndarray) -> Detections:
    """`find` on four turns of the picture.

    Of boxes of different turns that overlap, that of the highest score stays, with its points: a network that has
    learned upright faces is surer of an upright one. Faces between two turns are found by the nearer one, as far as
    the model goes.

    Args:
        find: uint8 BGR [H, W, 3] → its faces.
        image: uint8 BGR [H, W, 3].

    Returns:
        Faces by score descending; points as `turned_back` says.
    """
    parts = [turned_back(find(turned(image, turns)), turns, image.shape[:2]) for turns in range(4)]
    found = joined(parts)
    order = np.argsort(-found.scores, kind="stable")
    found, turn = found[order], np.repeat(np.arange(4), [len(part) for part in parts])[order]
    boxes = found.boxes
    rivals = (over_smaller(boxes, boxes) > SAME_FACE) & (turn[:, None] != turn[None])
    keep = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if keep[i]:
            keep[i + 1 :] &= ~rivals[i, i + 1 :]
    return found[keep]
