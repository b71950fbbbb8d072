"""The teacher's meshes of a labelled set, kept in a cache: the set's own folder stays as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rf_keras.cache import cache_dir
from rf_keras.labels import UNKNOWN, Sample
from rf_keras.mesh.teacher import MEMBER_SHA256, MeshTeacher
from tflite.files import replacing
from tflite.images import ImageError, read_image
from tflite.mesh import VERTICES
from tflite.messages import note
from tflite.overlap import iou_matrix

SMALLEST_FACE = 32.0  # pixels of the shorter side: the teacher sees little in less
LEAST_PRESENCE = 0.7
LEAST_OVERLAP = 0.5  # IoU of the mesh's bounds with the labelled box: less is another face than the one asked about
MOST_APART = 0.05  # of √(w·h): where its answers are further apart the teacher does not know the face
VERSION = 2  # of what is kept


@dataclass(frozen=True, eq=False)
class MeshTargets:
    """Faces with a mesh.

    Attributes:
        samples: the pictures.
        sample: int64 [N], which of them each face is in; rising.
        face: int64 [N], which of its boxes.
        meshes: float32 [N, 468, 3], x y z in pixels of the upright picture (`teacher.MeshTeacher`).
        apart: float32 [N], how far the teacher's two answers are from one another, as a share of the box's √(w·h).
    """

    samples: Sequence[Sample]
    sample: np.ndarray
    face: np.ndarray
    meshes: np.ndarray
    apart: np.ndarray

    def part(self, which: np.ndarray) -> MeshTargets:
        """The faces of a mask."""
        return MeshTargets(self.samples, self.sample[which], self.face[which], self.meshes[which], self.apart[which])

    @property
    def boxes(self) -> np.ndarray:
        """float32 [N, 4], the labelled ones."""
        if not len(self.sample):
            return np.zeros((0, 4), np.float32)
        pairs = zip(self.sample, self.face, strict=True)
        return np.stack([self.samples[sample].boxes[face] for sample, face in pairs])


def large_enough(sample: Sample) -> np.ndarray:
    """Indices of the faces that are worth asking the teacher about."""
    if not len(sample.boxes):
        return np.zeros(0, np.int64)
    return np.flatnonzero((sample.boxes[:, 2:] - sample.boxes[:, :2]).min(axis=1) >= SMALLEST_FACE)


def mesh_targets(samples: Sequence[Sample], label: str) -> MeshTargets:
    """Ask the teacher about every face of at least 32 pixels, unless the cache has its answers.

    Args:
        samples: labelled pictures; faces without known points are cropped upright.
        label: what the set is called while it is worked on.

    Returns:
        The faces whose presence is at least 0.7, and whose mesh lies on their box.

    Raises:
        ImportWeightsError: the teacher cannot be had.
    """
    path = cache_dir() / "mesh" / f"{_digest(samples)}.npz"
    if path.exists():
        try:
            with np.load(path) as kept:
                found = MeshTargets(samples, *(kept[name] for name in ("sample", "face", "meshes", "apart")))
            if found.meshes.shape == (len(found.sample), VERTICES, 3):
                return found
        except Exception as error:  # a damaged archive raises BadZipFile, KeyError, zlib.error, ValueError, …
            note(f"{path}: damaged ({type(error).__name__}), made anew")
    teacher = MeshTeacher()
    rows: list[tuple[int, int, np.ndarray, float]] = []
    for number, sample_ in enumerate(tqdm(samples, desc=f"meshes of {label}", unit="image", leave=False, disable=None)):
        faces = large_enough(sample_)
        if not len(faces):
            continue
        try:
            image = read_image(sample_.image)
        except ImageError as error:
            note(f"left out: {error}")
            continue
        for index in faces:
            eyes = sample_.landmarks[index, :2]
            box = sample_.boxes[index]
            mesh, presence, apart = teacher(image, box, None if (eyes == UNKNOWN).all() else eyes)
            bounds = np.concatenate((mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)))
            if presence >= LEAST_PRESENCE and iou_matrix(bounds[None], box[None])[0, 0] >= LEAST_OVERLAP:
                rows.append((number, int(index), mesh, apart / float(np.sqrt(np.prod(box[2:] - box[:2])))))
    found = MeshTargets(
        samples,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32).reshape(-1, VERTICES, 3),
        np.array([row[3] for row in rows], np.float32),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, sample=found.sample, face=found.face, meshes=found.meshes, apart=found.apart)
    return found


def _digest(samples: Sequence[Sample]) -> str:
    """Of the teacher and of all that it would be shown: a picture of other bytes or another label gives another one."""
    digest = hashlib.sha256(f"{VERSION} {MEMBER_SHA256} {SMALLEST_FACE} {LEAST_PRESENCE} {LEAST_OVERLAP}".encode())
    for sample in samples:
        digest.update(np.int64(len(sample.boxes)).tobytes())
        if len(large_enough(sample)):
            digest.update(sample.boxes.tobytes() + sample.landmarks.tobytes() + _content(sample.image))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b"unreadable"
