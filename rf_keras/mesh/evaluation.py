"""How far a model's meshes and poses are from the teacher's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from rf_keras.mesh.basis import in_box_units
from rf_keras.mesh.targets import MOST_APART, MeshTargets
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.overlap import iou_matrix
from tflite.postprocess import POSE_NAMES, Detections, joined

LEAST_OVERLAP = 0.5  # IoU of a detection with the labelled box
SMALLEST_FACE = 64.0  # pixels of the shorter side in the picture
SIZES = (32.0, 64.0, 128.0, 256.0, np.inf)  # pixels of the shorter side
POINT_INPUTS = 12  # of `_points_in_boxes`
YAWS = (0.0, 30.0, 60.0, 180.0)  # degrees to either side


def mesh_errors(found: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance of the 468 vertices of each pair of meshes [N, 468, 3], in the picture and in space: two [N]."""
    difference = found - expected
    in_picture = np.linalg.norm(difference[..., :2], axis=-1).mean(axis=-1)
    return in_picture, np.linalg.norm(difference, axis=-1).mean(axis=-1)


@dataclass(frozen=True, eq=False)
class MeshResults:
    """Faces that both the teacher and the model found.

    Attributes:
        targets: how many faces the teacher has.
        faces: the model's.
        meshes: float32 [N, 468, 3], the teacher's, in pixels.
        poses: float32 [N, 3], of the teacher's meshes, degrees.
        side: float32 [N], shorter side of the labelled box in pixels.
        unit: float32 [N], its √(w·h) in pixels.
        apart: float32 [N], how far the teacher's two answers are from one another (`MeshTargets.apart`).
        in_picture, in_space: float32 [N], `mesh_errors` in percent of √(w·h) of the labelled box.
    """

    targets: int
    faces: Detections
    meshes: np.ndarray
    poses: np.ndarray
    side: np.ndarray
    unit: np.ndarray
    apart: np.ndarray
    in_picture: np.ndarray
    in_space: np.ndarray

    def figures(self, which: np.ndarray | None = None) -> dict[str, Any]:
        """Means over all faces, or over those of a mask: count, 2D and 3D in percent, and degrees of each angle."""
        which = np.ones(len(self.side), bool) if which is None else which
        if not which.any():
            return {"faces": 0}
        assert self.faces.pose is not None
        turn = np.abs((self.faces.pose[which] - self.poses[which] + 180) % 360 - 180).mean(axis=0)
        degrees = {name: round(float(angle), 2) for name, angle in zip(POSE_NAMES, turn, strict=True)}
        nme = {"2d": float(self.in_picture[which].mean()), "3d": float(self.in_space[which].mean())}
        return {"faces": int(which.sum()), **{key: round(value, 2) for key, value in nme.items()}, **degrees}

    def table(self) -> dict[str, dict[str, Any]]:
        """`figures` of faces from 64 pixels on, of bands of size, and of bands of yaw among the former; and of those of
        which the teacher is sure."""
        large = self.side >= SMALLEST_FACE
        rows = {f"from {SMALLEST_FACE:.0f} px": self.figures(large)}
        for low, high in itertools.pairwise(SIZES):
            name = f"{low:.0f} to {high:.0f} px" if np.isfinite(high) else f"from {low:.0f} px"
            rows[name] = self.figures((self.side >= low) & (self.side < high))
        yaw = np.abs(self.poses[:, 0])
        for low, high in itertools.pairwise(YAWS):
            rows[f"yaw {low:.0f} to {high:.0f}°"] = self.figures(large & (yaw >= low) & (yaw < high))
        rows["teacher sure"] = self.figures(large & (self.apart <= MOST_APART))
        return rows

    def line_from_points(self, training: MeshResults) -> dict[str, Any]:
        """Faces from 64 pixels on with meshes that follow from the box and its five points alone, by the linear map of
        least squares over the faces of `training` of which the teacher is sure: what a mesh branch must be better than.

        Returns:
            `figures` without angles.

        Raises:
            ValueError: `training` has fewer such faces than the map has inputs.
        """
        learned = training.apart <= MOST_APART
        if learned.sum() < POINT_INPUTS:
            raise ValueError(f"a line from five points needs {POINT_INPUTS} faces or more, found {learned.sum()}")
        known = in_box_units(training.meshes, training.faces.boxes)[learned].reshape(learned.sum(), -1)
        line = np.linalg.lstsq(_points_in_boxes(training.faces)[learned], known, rcond=None)[0]
        large = self.side >= SMALLEST_FACE
        if not large.any():
            return {"faces": 0}
        meshes = (_points_in_boxes(self.faces) @ line).reshape(self.meshes.shape)
        sides = self.faces.boxes[:, 2:] - self.faces.boxes[:, :2]
        apart = (meshes - in_box_units(self.meshes, self.faces.boxes)) * np.sqrt(sides.prod(axis=1))[:, None, None]
        errors = (100 * error[large] / self.unit[large] for error in mesh_errors(apart, np.zeros_like(apart)))
        flat, deep = (round(float(error.mean()), 2) for error in errors)
        return {"faces": int(large.sum()), "2d": flat, "3d": deep}


def _points_in_boxes(faces: Detections) -> np.ndarray:
    """float64 [N, 12]: five points from the box's centre in units of √(w·h), log of the box's w/h, and 1."""
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).astype(np.float64)
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    points = (faces.landmarks - centres[:, None]) / np.sqrt(sides.prod(axis=1))[:, None, None]
    return np.column_stack((points.reshape(len(faces), -1), np.log(sides[:, 0] / sides[:, 1]), np.ones(len(faces))))


def evaluate_meshes(detector: FaceDetector, targets: MeshTargets) -> MeshResults:
    """Detect on the pictures of a set, and compare the faces that were found with the teacher's.

    Detections and labelled faces, those without a mesh too, are paired one to one by falling IoU from 0.5 on.

    Args:
        detector: of a model with a mesh.
        targets: of `targets.mesh_targets`.

    Raises:
        ValueError: there is no such face.
    """
    assert detector.basis is not None
    at: list[int] = []  # of the targets
    labelled: list[np.ndarray] = []
    detections: list[Detections] = []
    for number in tqdm(np.unique(targets.sample), desc="detect", unit="image", leave=False, disable=None):
        sample = targets.samples[number]
        found = detector.detect(read_image(sample.image))
        pairs = paired(sample.boxes, found.boxes)
        for index in np.flatnonzero(targets.sample == number):
            face = int(targets.face[index])
            if face in pairs:
                at.append(int(index))
                labelled.append(sample.boxes[face])
                detections.append(found[[pairs[face]]])
    if not at:
        raise ValueError("the model finds none of the faces that the teacher has a mesh of")
    faces, expected, boxes = joined(detections), targets.meshes[np.array(at)], np.array(labelled)
    assert faces.mesh is not None and faces.pose is not None
    sides = boxes[:, 2:] - boxes[:, :2]
    # z is relative: only its shape counts, not where its zero is.
    level = np.array((0, 0, 1), np.float32) * faces.mesh.mean(axis=1, keepdims=True)
    unit = np.sqrt(sides.prod(axis=1))
    in_picture, in_space = (100 * error / unit for error in mesh_errors(faces.mesh - level, expected))
    poses = detector.basis.poses(expected)
    return MeshResults(
        len(targets.sample),
        faces,
        expected,
        poses,
        sides.min(axis=1),
        unit,
        targets.apart[np.array(at)],
        in_picture,
        in_space,
    )


def paired(labelled: np.ndarray, found: np.ndarray) -> dict[int, int]:
    """Labelled box → detection, one to one by falling IoU, from 0.5 on."""
    overlap = iou_matrix(labelled.astype(np.float32), found.astype(np.float32))
    pairs: dict[int, int] = {}
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        face, i = divmod(int(place), max(len(found), 1))
        if overlap[face, i] < LEAST_OVERLAP:
            break
        if face not in pairs and i not in pairs.values():
            pairs[face] = i
    return pairs
