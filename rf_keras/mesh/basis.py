"""Mean face and principal components of meshes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from rf_keras.mesh.mirror import mirrored
from tflite.mesh import SHAPE_VALUES, VERTICES, MeshBasis, basis_from_bytes
from tflite.messages import one_line

MOST_MESHES = 10_000  # more add nothing to a covariance of 1,404 values


def fit_basis(meshes: np.ndarray, coefficients: int) -> tuple[MeshBasis, float]:
    """Principal components of meshes and their mirror images, scaled so that a coefficient of 1 is the usual one.

    Args:
        meshes: [N, 468, 3] in box units (`tflite.mesh`).
        coefficients: how many components.

    Returns:
        The basis, rounded as files hold it (float16), and the share of the variance that it holds, 0 to 1.

    Raises:
        ValueError: fewer meshes than components.
    """
    if len(meshes) < coefficients:
        raise ValueError(f"{len(meshes)} meshes, expected at least {coefficients}, as many as coefficients")
    some = meshes[:: -(-len(meshes) // MOST_MESHES)].astype(np.float64)
    both = np.concatenate((some, mirrored(some))).reshape(-1, SHAPE_VALUES)
    mean = both.mean(axis=0)
    centred = both - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(both))
    largest = np.maximum(values[::-1][:coefficients], 0)
    shapes = vectors[:, ::-1][:, :coefficients].T * np.sqrt(largest)[:, None]
    basis = MeshBasis(mean.reshape(VERTICES, 3), shapes.reshape(-1, VERTICES, 3))
    return basis_from_bytes(basis.to_bytes(), "basis"), float(largest.sum() / max(values.sum(), 1e-12))


def stored_basis(meta: dict[str, Any], coefficients: int, name: str) -> MeshBasis | None:
    """The basis among the facts of a weights file (`model_file.load_model`); None for a network without a mesh.

    Args:
        meta: the facts; "mesh" is what a .tflite file's `mesh.f16` holds, in base64.
        coefficients: of the network (`ModelConfig.mesh`).
        name: the file, for errors.

    Raises:
        ValueError: it is missing, damaged, or of another number of coefficients.
    """
    if not coefficients:
        return None
    try:
        basis = basis_from_bytes(base64.b64decode(meta.get("mesh", ""), validate=True), name)
    except ValueError as error:
        raise ValueError(f"{name}: a network with a mesh, but no usable basis of it ({one_line(error)})") from error
    if basis.coefficients != coefficients:
        raise ValueError(f"{name}: a basis of {basis.coefficients} shapes, the network has {coefficients} coefficients")
    return basis


def text_of(basis: MeshBasis) -> str:
    """As `stored_basis` reads it."""
    return base64.b64encode(basis.to_bytes()).decode()


def in_box_units(meshes: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """float32 [N, 468, 3]: meshes relative to boxes [N, 4], z with a mean of 0; the inverse of `tflite.mesh.placed`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centred = meshes.astype(np.float64)
    centred[:, :, :2] -= (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    centred[:, :, 2] -= centred[:, :, 2].mean(axis=1, keepdims=True)
    return (centred / np.sqrt(sides[:, 0] * sides[:, 1])[:, None, None]).astype(np.float32)
