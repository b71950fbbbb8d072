"""Write tests/golden/mesh.json: mesh outputs for cases of golden.json, and the meshes and poses that come out.

    python -m tests.golden.make_mesh

The expected numbers come from plain loops in float64 below, not from tflite/. README.md beside this file describes the
format.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.make_golden import STRIDES, Case, F, make_cases, reference

FOLDER = Path(__file__).resolve().parent
VERTICES = 468
COEFFICIENTS = 4
FACES = 3  # of a case, the first of its faces
LIMIT = 1e3
# int8 and float32, inputs that are no squares, boxes beyond the picture, small anchors.
CASES = ("plain_24", "outside_01", "outside_02", "extreme_00", "all_02")
BROKEN = "all_02"  # float32: some of its coefficients are not finite, or too large


def make_basis() -> np.ndarray:
    """float16 [1 + K, 468, 3]: a dome; its turns to the side, up and in the picture; its mirror image in depth."""
    random = np.random.default_rng(468)
    angle, radius = random.uniform(0, 2 * math.pi, VERTICES), np.sqrt(random.uniform(0, 1, VERTICES))
    x, y = 0.4 * radius * np.cos(angle), 0.5 * radius * np.sin(angle)
    z = 0.5 * radius**2 - 0.25
    none = np.zeros(VERTICES)
    shapes = [(x, y, z), (z, none, -x), (none, -z, y), (-y, x, none), (none, none, -2 * z)]
    basis = np.stack([np.stack(shape, axis=1) for shape in shapes])
    basis[1:] += random.normal(0, 0.02, basis[1:].shape)
    return basis.astype(np.float16)


def mesh_tensors(case: Case, random: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, int]]]:
    """`mesh_{stride}` of a case, of its type, and the quantization of each."""
    tensors, quantization = {}, {}
    for stride in STRIDES:
        name = f"mesh_{stride}"
        cells = -(-case.input_size[0] // stride), -(-case.input_size[1] // stride)
        shape = (1, *cells, 2 * COEFFICIENTS)
        if case.quantization:
            tensors[name] = random.integers(-128, 128, shape).astype(np.int8)
            quantization[name] = float(F(random.uniform(0.4, 0.9) / 127)), int(random.integers(-30, 30))
        else:
            tensors[name] = random.normal(0, 0.5, shape).astype(F)
    return tensors, quantization


def place(anchor: int, case: Case) -> tuple[int, int, np.float32, tuple[np.float32, np.float32]]:
    """Stride, number in its level, size and centre of an anchor."""
    number = anchor
    for stride, sizes in zip(STRIDES, case.anchor_sizes, strict=True):
        rows, columns = -(-case.input_size[0] // stride), -(-case.input_size[1] // stride)
        if number < rows * columns * len(sizes):
            cell, which = divmod(number, len(sizes))
            row, column = divmod(cell, columns)
            return stride, number, F(sizes[which]), (F((column + 0.5) * stride), F((row + 0.5) * stride))
        number -= rows * columns * len(sizes)
    raise ValueError(f"anchor {anchor} is beyond the levels")


def values(case: Case, kind: str, stride: int, number: int, width: int) -> list[np.float32]:
    """Dequantised numbers of one anchor."""
    name = f"{kind}_{stride}"
    raw = case.tensors[name].reshape(-1, width)[number]
    if name not in case.quantization:
        return [F(value) for value in raw]
    scale, zero_point = case.quantization[name]
    return [F(int(q) - zero_point) * F(scale) for q in raw]


def decoded_box(case: Case, stride: int, number: int, size: np.float32, centre: tuple[Any, Any]) -> list[float]:
    """x1 y1 x2 y2 in input pixels, not clipped, in the arithmetic of the faces."""
    delta = values(case, "box", stride, number, 4)
    low, high = [], []
    for axis in (0, 1):
        middle = centre[axis] + delta[axis] * F(case.variances[0]) * size
        exponent = np.minimum(delta[axis + 2] * F(case.variances[1]), F(math.log(1000 / 16)))
        half = size * F(np.exp(np.float64(exponent))) * F(0.5)
        low.append(float(middle - half))
        high.append(float(middle + half))
    return low + high


def usable(value: float) -> float:
    """A coefficient as it counts: none where it is no number, else within ±1,000."""
    return 0.0 if math.isnan(value) else min(max(value, -LIMIT), LIMIT)


def rotation(mesh: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """[3, 3]: turns `mean` so that, scaled and shifted, it is nearest to `mesh`; a turn, never a reflection."""
    left, _, right = np.linalg.svd((mesh - mesh.mean(axis=0)).T @ (mean - mean.mean(axis=0)))
    if np.linalg.det(left @ right) < 0:
        left[:, 2] = -left[:, 2]
    return left @ right


def expected(case: Case, basis: np.ndarray) -> list[dict[str, Any]]:
    """Mesh [468, 3] in image pixels, pose in degrees and axes of the first faces of a case."""
    result = []
    exact = basis.astype(np.float64)
    for anchor in reference(case)["anchors"][:FACES].tolist():
        stride, number, size, centre = place(anchor, case)
        coefficients = [usable(float(v)) for v in values(case, "mesh", stride, number, COEFFICIENTS)]
        x1, y1, x2, y2 = decoded_box(case, stride, number, size, centre)
        side = math.sqrt((x2 - x1) * (y2 - y1))
        shape = exact[0] + sum(c * one for c, one in zip(coefficients, exact[1:], strict=True))
        mesh = np.array([(x1 + x2) / 2, (y1 + y2) / 2, 0]) + side * shape
        turn = rotation(shape, exact[0])
        pose = (
            math.atan2(turn[2, 0], turn[2, 2]),
            -math.asin(min(max(turn[2, 1], -1), 1)),
            math.atan2(-turn[0, 1], turn[1, 1]),
        )
        axes = (turn[:2, 0], turn[:2, 1], -turn[:2, 2])  # to the face's right in the picture, down, out of it
        result.append(
            {
                "mesh": mesh / case.scale,
                "pose": [round(math.degrees(value), 6) for value in pose],
                "axes": [[round(float(value), 6) for value in axis] for axis in axes],
            }
        )
    return result


def text_of(array: np.ndarray) -> str:
    """Little-endian bytes in base64."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def entry_of(case: Case, number: int, basis: np.ndarray) -> dict[str, Any]:
    """A case as the file has it."""
    random = np.random.default_rng((number, 16))
    tensors, quantization = mesh_tensors(case, random)
    case.tensors |= tensors
    case.quantization |= quantization
    if case.name == BROKEN:
        for anchor, bad in zip(reference(case)["anchors"].tolist(), (np.nan, np.inf, -1e30), strict=False):
            stride, row, *_ = place(anchor, case)
            tensors[f"mesh_{stride}"].reshape(-1, COEFFICIENTS)[row, 2] = bad
    faces = expected(case, basis)
    return {
        "case": case.name,
        "tensors": {name: [text_of(values), *quantization.get(name, (0.0, 0))] for name, values in tensors.items()},
        "meshes": text_of(np.array([face["mesh"] for face in faces], F)),
        "poses": [face["pose"] for face in faces],
        "axes": [face["axes"] for face in faces],
    }


def make_entries() -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The basis, and the cases."""
    basis = make_basis()
    cases = {case.name: case for case in make_cases()}
    return basis, [entry_of(cases[name], number, basis) for number, name in enumerate(CASES)]


def main() -> None:
    basis, entries = make_entries()
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    text = f'{{"basis": "{text_of(basis)}",\n"cases": [\n{lines}\n]}}\n'
    (FOLDER / "mesh.json").write_text(text)
    print(f"{len(entries)} cases, {sum(len(entry['poses']) for entry in entries)} faces; {len(text)} bytes")


if __name__ == "__main__":
    main()
