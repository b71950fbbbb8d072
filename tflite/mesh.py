"""Dense faces: 468 vertices from the coefficients of one anchor, and the head's pose from the vertices.

A model file with a mesh branch has three outputs more, `mesh_{stride}` [1, H/s, W/s, anchors·K], and a second member in
its zip archive, `mesh.f16`: little-endian float16, 1 + K shapes of 468 vertices x y z, the mean face first. K follows
from the member's size. A file without that member has no mesh, whatever outputs it has.

The vertices are those of MediaPipe's face mesh, in its order. In box units, of a box with the centre c and the sides w
and h: position = c + √(w·h) · (mean + Σ coefficient · shape), where the box is the decoded one, before clipping; z has
the scale of x and y, grows away from the camera and is about 0 on average over a face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tflite.archives import MemberError, open_zip, read_member, with_member
from tflite.decode import dequantize
from tflite.spec import SpecError

MESH_FILE = "mesh.f16"
VERTICES = 468
MAX_COEFFICIENTS = 64
LARGEST_COEFFICIENT = 1e3  # a coefficient of 1 is a usual one; beyond, sums of squares could overflow
FACES_AT_ONCE = 8
MESH = "mesh"  # first part of the outputs' names
SHAPE_VALUES = 3 * VERTICES


@dataclass(frozen=True, eq=False)
class MeshBasis:
    """The mean face and the shapes that coefficients weigh.

    Attributes:
        mean: float32 [468, 3], in box units.
        shapes: float32 [K, 468, 3], in box units for a coefficient of 1.
    """

    mean: np.ndarray
    shapes: np.ndarray

    @property
    def coefficients(self) -> int:
        """K."""
        return len(self.shapes)

    def vertices(self, coefficients: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Meshes in the boxes' pixels.

        Args:
            coefficients: float32 [N, K].
            boxes: float32 [N, 4], x1 y1 x2 y2 as decoded, not clipped.

        Returns:
            float32 [N, 468, 3], x y z.
        """
        return placed(self.in_box_units(coefficients), boxes)

    def in_box_units(self, coefficients: np.ndarray) -> np.ndarray:
        """float32 [N, 468, 3], relative to the boxes' centres in units of √(w·h), for coefficients [N, K]."""
        weights = coefficients.astype(np.float32, copy=False)
        shapes = self.shapes.reshape(len(self.shapes), -1)
        flat = np.empty((len(weights), SHAPE_VALUES), np.float32)
        # A few at a time: products so small stay on one thread, where threads would wait for one another on busy cores.
        for first in range(0, len(weights), FACES_AT_ONCE):
            np.matmul(weights[first : first + FACES_AT_ONCE], shapes, out=flat[first : first + FACES_AT_ONCE])
        flat += self.mean.reshape(-1)
        return flat.reshape(-1, VERTICES, 3)

    def poses(self, meshes: np.ndarray) -> np.ndarray:
        """Head poses: the rotation that, with a scale and a shift, brings the mean face nearest to each mesh.

        Args:
            meshes: [N, 468, 3], in any unit.

        Returns:
            float32 [N, 3], degrees: yaw (positive: the nose points to the right of the picture), pitch (positive: up)
            and roll (positive: clockwise). The rotation is roll · pitch · yaw, yaw first; 0 is the mean face's pose.

        Source: Umeyama 1991, eq. 39-43.
        """
        if not len(meshes):
            return np.empty((0, 3), np.float32)
        mean = self.mean.astype(np.float64)
        mean -= mean.mean(axis=0)  # so that it does not matter where the meshes are
        left, _, right = np.linalg.svd(np.tensordot(meshes, mean, ((1,), (0,))))  # [N, 3, 3]
        left[:, :, 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]  # never a reflection
        turn = left @ right
        yaw = np.arctan2(turn[:, 2, 0], turn[:, 2, 2])
        pitch = -np.arcsin(np.clip(turn[:, 2, 1], -1, 1))
        roll = np.arctan2(-turn[:, 0, 1], turn[:, 1, 1])
        return np.degrees(np.stack((yaw, pitch, roll), axis=1)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As `mesh.f16` holds it."""
        return np.concatenate((self.mean[None], self.shapes)).astype("<f2").tobytes()


def axes(angles: np.ndarray) -> np.ndarray:
    """Directions of a head's axes in the picture's coordinates (x right, y down, z away from the camera).

    Args:
        angles: [3], yaw, pitch and roll in degrees (`MeshBasis.poses`).

    Returns:
        float64 [3, 3], a row each: to the face's right as the picture shows it, down, and where the nose points.
    """
    yaw, pitch, roll = np.deg2rad(np.asarray(angles, np.float64) * (-1, -1, 1))
    sy, cy, sp, cp, sr, cr = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y @ np.diag([1, 1, -1])).T


def placed(meshes: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Meshes [N, 468, 3] in box units → float32 in the pixels of their boxes [N, 4]; `MeshBasis.vertices`."""
    with np.errstate(over="ignore", invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        found = meshes * np.sqrt(sides[:, 0] * sides[:, 1])[:, None, None]
        found[:, :, :2] += ((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))[:, None]
    return found


def basis_from_bytes(data: bytes, name: str) -> MeshBasis:
    """The contents of `mesh.f16`.

    Raises:
        SpecError: another size than that of a whole number of shapes, two at least, or a number that is not finite.
    """
    rows, rest = divmod(len(data), 2 * SHAPE_VALUES)
    if rest or not 2 <= rows <= MAX_COEFFICIENTS + 1:
        raise SpecError(
            f"{name}: {MESH_FILE} has {len(data)} bytes, expected {2 * SHAPE_VALUES} for each of 2 to "
            f"{MAX_COEFFICIENTS + 1} shapes of {VERTICES} vertices"
        )
    shapes = np.frombuffer(data, "<f2").astype(np.float32).reshape(rows, VERTICES, 3)
    if not np.isfinite(shapes).all():
        raise SpecError(f"{name}: {MESH_FILE} holds numbers that are not finite")
    return MeshBasis(shapes[0], shapes[1:])


def attach_basis(model: bytes, basis: MeshBasis) -> bytes:
    """A .tflite file to whose archive (`spec.attach_spec`) the basis is added (same input, same bytes)."""
    return with_member(model, MESH_FILE, basis.to_bytes())


def read_basis(model: bytes, name: str = "model") -> MeshBasis | None:
    """The basis of a .tflite file; None where it has none.

    Args:
        model: the file's contents, whose metadata `spec.read_spec` has read.
        name: what to call it in errors.

    Raises:
        SpecError: it is there, but damaged or not of a possible size.
    """
    try:
        with open_zip(model) as archive:
            data = read_member(archive, MESH_FILE, 2 * SHAPE_VALUES * (MAX_COEFFICIENTS + 1))
    except KeyError:
        return None
    except MemberError as error:
        raise SpecError(f"{name}: {error}") from error
    except Exception as error:  # a damaged archive raises BadZipFile, KeyError, zlib.error, struct.error, ValueError, …
        raise SpecError(f"{name}: no readable {MESH_FILE} in the file, though it is listed") from error
    return basis_from_bytes(data, name)


class MeshOutputs:
    """The mesh outputs of one run, and how to read them.

    Args:
        basis: of the model.
        outputs: `mesh_{stride}` for each stride, [1, H/s, W/s, anchors·K], int8 or float32.
        strides: of the levels, in the order of the anchor table.
        quantization: scale and zero point of each integer output; not needed for float tensors.
    """

    def __init__(
        self,
        basis: MeshBasis,
        outputs: Mapping[str, np.ndarray],
        strides: tuple[int, ...],
        quantization: Mapping[str, tuple[float, int]] | None = None,
    ) -> None:
        self._basis, self._outputs, self._strides, self._quantization = basis, outputs, strides, quantization

    def coefficients(self, anchors: np.ndarray) -> np.ndarray:
        """float32 [N, K], dequantised, of anchors int64 [N], indices into the anchor table in any order.

        Numbers beyond ±`LARGEST_COEFFICIENT` are cut to that; those that are none become 0.
        """
        count = self._basis.coefficients
        found = np.zeros((len(anchors), count), np.float32)
        first = 0
        for stride in self._strides:
            name = f"{MESH}_{stride}"
            rows = self._outputs[name].reshape(-1, count)
            here = ((anchors >= first) & (anchors < first + len(rows))).nonzero()[0]
            if len(here):
                values = rows[anchors[here] - first]
                if self._quantization is not None and values.dtype.kind in "iu":
                    values = dequantize(values, *self._quantization[name])
                found[here] = values
            first += len(rows)
        return np.clip(np.nan_to_num(found), -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)

    def __call__(self, anchors: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Meshes float32 [N, 468, 3] in the pixels of the boxes, and poses [N, 3] (`MeshBasis.poses`).

        Args:
            anchors: int64 [N].
            boxes: float32 [N, 4], as decoded at these anchors, not clipped.
        """
        meshes = self._basis.in_box_units(self.coefficients(anchors))
        return placed(meshes, boxes), self._basis.poses(meshes)
