"""From candidates to faces in image pixels; one function for the runtime and for float Keras models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite.decode import Candidates, sigmoid
from tflite.nms import nms
from tflite.spec import ModelSpec


@dataclass(frozen=True)
class Detections:
    """Faces of one image, by score descending.

    Attributes:
        boxes: float32 [N, 4], x1 y1 x2 y2 in image pixels, clipped to the image.
        scores: float32 [N], probability 0-1.
        landmarks: float32 [N, 5, 2], x y in image pixels, not clipped; order as `tflite.spec.LANDMARK_NAMES`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def to_list(self) -> list[dict[str, Any]]:
        """One JSON-ready dict per face: box [x1, y1, x2, y2], score, landmarks [[x, y]×5]."""
        return [
            {"box": box, "score": score, "landmarks": points}
            for box, score, points in zip(
                np.round(self.boxes.astype(np.float64), 3).tolist(),
                np.round(self.scores.astype(np.float64), 6).tolist(),
                np.round(self.landmarks.astype(np.float64), 3).tolist(),
                strict=True,
            )
        ]


def to_image(boxes: np.ndarray, image_size: tuple[int, int], scale: float) -> np.ndarray:
    """Boxes float32 [N, 4] from input pixels to image pixels, clipped to (height, width); `scale` as `letterbox`'s."""
    height, width = image_size
    return np.minimum(np.maximum(boxes / np.float32(scale), 0), np.array((width, height, width, height), np.float32))


def detections_from_candidates(
    found: Candidates,
    spec: ModelSpec,
    image_size: tuple[int, int],
    scale: float,
    iou_threshold: float | None = None,
) -> Detections:
    """Back to image pixels, clip, NMS.

    Args:
        found: what `tflite.decode.decode_outputs` found, in input pixels.
        spec: default IoU threshold and limits.
        image_size: (height, width) of the image in pixels.
        scale: input pixels per image pixel, as `letterbox` returns it.
        iou_threshold: 0-1; the spec's by default.

    Returns:
        At most `spec.max_faces` faces. NMS orders by logit: equal to the order by score, but without the ties that
        sigmoid makes of large logits.
    """
    boxes = to_image(found.boxes, image_size, scale)
    overlap = spec.iou_threshold if iou_threshold is None else iou_threshold
    keep = nms(boxes, found.logits, overlap, max_candidates=spec.max_candidates, max_faces=spec.max_faces)
    return Detections(boxes[keep], sigmoid(found.logits[keep]), found.landmarks[keep] / np.float32(scale))
