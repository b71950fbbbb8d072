"""From candidates to faces in image pixels; one function for the runtime and for float Keras models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from tflite.decode import Candidates, sigmoid
from tflite.nms import nms
from tflite.spec import ModelSpec

Point = tuple[float, float]


class Box(NamedTuple):
    """Corners in image pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


class Landmarks(NamedTuple):
    """Points x, y in image pixels, in the order of `tflite.spec.LANDMARK_NAMES`; left = the left of the picture."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


class Face(NamedTuple):
    """One face.

    Attributes:
        box: x1, y1, x2, y2 in image pixels, clipped to the image.
        score: probability 0-1.
        landmarks: five named points in image pixels, not clipped.
    """

    box: Box
    score: float
    landmarks: Landmarks

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: box [x1, y1, x2, y2] and landmarks [[x, y]×5] rounded to 0.001 pixel, score to 0.000001."""
        return {
            "box": [round(value, 3) for value in self.box],
            "score": round(self.score, 6),
            "landmarks": [[round(x, 3), round(y, 3)] for x, y in self.landmarks],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Faces of one image, by score descending: arrays over all faces, or one `Face` at a time.

        len(faces), faces[0], faces[:3], faces[faces.scores > 0.9], for face in faces: …

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

    def __iter__(self) -> Iterator[Face]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, which: int | np.integer) -> Face: ...
    @overload
    def __getitem__(self, which: slice | np.ndarray | list[int]) -> Detections: ...
    def __getitem__(self, which: int | np.integer | slice | np.ndarray | list[int]) -> Face | Detections:
        """One `Face` for a number, `Detections` for a slice, a mask or several numbers.

        Raises:
            IndexError: there is no such face.
        """
        if not isinstance(which, (int, np.integer)):
            return Detections(self.boxes[which], self.scores[which], self.landmarks[which])
        points = ((x, y) for x, y in self.landmarks[which].tolist())
        return Face(Box(*self.boxes[which].tolist()), float(self.scores[which]), Landmarks(*points))

    def __eq__(self, other: object) -> bool:
        """The same faces in the same order, equal in every bit."""
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.landmarks, other.landmarks)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can change

    def __repr__(self) -> str:
        if not len(self):
            return "Detections(0 faces)"
        return f"Detections({len(self)} face{'s' * (len(self) != 1)}, best score {self.scores.max():.3f})"

    def to_list(self) -> list[dict[str, Any]]:
        """One JSON-ready dict per face: box [x1, y1, x2, y2], score, landmarks [[x, y]×5]."""
        return [face.to_dict() for face in self]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: {"faces": `to_list()`}, as a line of `tflite.detect --jsonl` has it."""
        return {"faces": self.to_list()}

    def to_coco(self, image_id: int = 0, first_id: int = 1) -> list[dict[str, Any]]:
        """One annotation per face, as COCO's keypoint files have them.

        Args:
            image_id: of the picture, in each annotation.
            first_id: of the first annotation; the others follow.

        Returns:
            JSON-ready: id, image_id, category_id 1, bbox [x, y, width, height] and area in pixels, iscrowd 0, score,
            keypoints [x, y, 2]×5 in the order of `tflite.spec.LANDMARK_NAMES` (2: labelled and visible), num_keypoints.
        """
        annotations = []
        for i, face in enumerate(self.to_list()):
            x1, y1, x2, y2 = face["box"]
            width, height = round(x2 - x1, 3), round(y2 - y1, 3)
            points = [value for x, y in face["landmarks"] for value in (x, y, 2)]
            annotations.append(
                {
                    "id": first_id + i,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x1, y1, width, height],
                    "area": round(width * height, 3),
                    "iscrowd": 0,
                    "score": face["score"],
                    "keypoints": points,
                    "num_keypoints": len(face["landmarks"]),
                }
            )
        return annotations


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
        sigmoid makes of large logits. Candidates whose landmarks leave float32 in image pixels are left out.
    """
    with np.errstate(over="ignore"):
        boxes, landmarks = to_image(found.boxes, image_size, scale), found.landmarks / np.float32(scale)
    logits = found.logits
    if not np.isfinite(landmarks).all():
        finite = np.isfinite(landmarks).all(axis=(1, 2))
        boxes, landmarks, logits = boxes[finite], landmarks[finite], logits[finite]
    overlap = spec.iou_threshold if iou_threshold is None else iou_threshold
    keep = nms(boxes, logits, overlap, max_candidates=spec.max_candidates, max_faces=spec.max_faces)
    return Detections(boxes[keep], sigmoid(logits[keep]), landmarks[keep])
