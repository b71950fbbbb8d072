"""From candidates to faces in image pixels; one function for the runtime and for float Keras models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from tflite.decode import Candidates, sigmoid
from tflite.nms import nms
from tflite.spec import ModelSpec

Point = tuple[float, float]
MeshOf = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
POSE_NAMES = ("yaw", "pitch", "roll")


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
        mesh: float32 [N, 468, 3], x y z in image pixels, not clipped; z grows away from the camera and has its zero in
            the middle of the face. None where the model has no mesh (`tflite.mesh`).
        pose: float32 [N, 3], yaw, pitch and roll in degrees (`tflite.mesh.MeshBasis.poses`); None without a mesh.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    mesh: np.ndarray | None = None
    pose: np.ndarray | None = None

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
            parts: list[Any] = [None if part is None else part[which] for part in self._parts]
            return Detections(*parts)
        points = ((x, y) for x, y in self.landmarks[which].tolist())
        return Face(Box(*self.boxes[which].tolist()), float(self.scores[which]), Landmarks(*points))

    def __eq__(self, other: object) -> bool:
        """The same faces in the same order, equal in every bit."""
        if not isinstance(other, Detections):
            return NotImplemented
        return all(
            np.array_equal(mine, theirs) if mine is not None and theirs is not None else mine is theirs
            for mine, theirs in zip(self._parts, other._parts, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can change

    def __repr__(self) -> str:
        if not len(self):
            return "Detections(0 faces)"
        return f"Detections({len(self)} face{'s' * (len(self) != 1)}, best score {self.scores.max():.3f})"

    @property
    def _parts(self) -> tuple[np.ndarray | None, ...]:
        """Its arrays, in the order of the fields."""
        return self.boxes, self.scores, self.landmarks, self.mesh, self.pose

    def to_list(self, mesh: bool = False, pose: bool = False) -> list[dict[str, Any]]:
        """One JSON-ready dict per face: box [x1, y1, x2, y2], score, landmarks [[x, y]×5].

        Args:
            mesh: with the mesh, [[x, y, z]×468] rounded to 0.01 pixel, where there is one.
            pose: with the pose, {"yaw": …, "pitch": …, "roll": …} rounded to 0.01 degree, where there is one.
        """
        faces = [face.to_dict() for face in self]
        if pose and self.pose is not None:
            for face, angles in zip(faces, self.pose.tolist(), strict=True):
                face["pose"] = {name: round(angle, 2) for name, angle in zip(POSE_NAMES, angles, strict=True)}
        if mesh and self.mesh is not None:
            for face, vertices in zip(faces, self.mesh.tolist(), strict=True):
                face["mesh"] = [[round(value, 2) for value in vertex] for vertex in vertices]
        return faces

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


def joined(parts: Sequence[Detections]) -> Detections:
    """The faces of several passes of one model, at least one, pass after pass."""
    columns = zip(*(part._parts for part in parts), strict=True)
    whole: list[Any] = [None if column[0] is None else np.concatenate(column) for column in columns]
    return Detections(*whole)


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
    mesh_of: MeshOf | None = None,
) -> Detections:
    """Back to image pixels, clip, NMS.

    Args:
        found: what `tflite.decode.decode_outputs` found, in input pixels.
        spec: default IoU threshold and limits.
        image_size: (height, width) of the image in pixels.
        scale: input pixels per image pixel, as `letterbox` returns it.
        iou_threshold: 0-1; the spec's by default.
        mesh_of: of a model with a mesh: anchors int64 [N] and their boxes float32 [N, 4] → meshes in input pixels and
            poses (`tflite.mesh.MeshOutputs`). It is asked for the faces that are left.

    Returns:
        At most `spec.max_faces` faces. NMS orders by logit: equal to the order by score, but without the ties that
        sigmoid makes of large logits. Candidates whose landmarks leave float32 in image pixels are left out.
    """
    with np.errstate(over="ignore"):
        boxes, landmarks = to_image(found.boxes, image_size, scale), found.landmarks / np.float32(scale)
    logits, at = found.logits, np.arange(len(found.logits))
    if not np.isfinite(landmarks).all():
        at = np.isfinite(landmarks).all(axis=(1, 2)).nonzero()[0]
        boxes, landmarks, logits = boxes[at], landmarks[at], logits[at]
    overlap = spec.iou_threshold if iou_threshold is None else iou_threshold
    keep = nms(boxes, logits, overlap, max_candidates=spec.max_candidates, max_faces=spec.max_faces)
    mesh = pose = None
    if mesh_of is not None:
        kept = at[keep]
        mesh, pose = mesh_of(found.anchors[kept], found.boxes[kept])
        mesh = np.nan_to_num(mesh / np.float32(scale), copy=False)
    return Detections(boxes[keep], sigmoid(logits[keep]), landmarks[keep], mesh, pose)
