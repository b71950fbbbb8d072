"""Cases for the Kotlin proof programs and what they answer, as little-endian binary files.

A text is its int32 length and UTF-8 bytes; an image is int32 height and width and its BGR bytes. Every case file starts
with an int32 count. Faces: int32 count, then per face int32 anchor, float32 score, box ×4, landmarks ×10. Meshes: int32
count, then per face float32 yaw, pitch, roll, axes ×6, vertices ×468×3.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tflite.spec import ModelSpec

ELEMENT_TYPES = (np.dtype(np.int8), np.dtype(np.float32))
FACE = np.dtype([("anchor", "<i4"), ("score", "<f4"), ("box", "<f4", 4), ("landmarks", "<f4", 10)])
MESH = np.dtype([("pose", "<f4", 3), ("axes", "<f4", (3, 2)), ("vertices", "<f4", (468, 3))])


@dataclass(frozen=True)
class DecodeCase:
    """Raw outputs and the settings that turn them into faces; image_size is (height, width)."""

    spec: ModelSpec
    tensors: Mapping[str, np.ndarray]
    quantization: Mapping[str, tuple[float, int]]
    image_size: tuple[int, int]
    scale: float
    score_threshold: float
    iou_threshold: float


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<i", len(data)) + data


def _image(image: np.ndarray) -> bytes:
    return struct.pack("<ii", *image.shape[:2]) + np.ascontiguousarray(image).tobytes()


def write_decode_cases(path: Path, cases: Sequence[DecodeCase]) -> None:
    """For the command `decode`: spec, thresholds (float64), image height, width, scale (float64), tensors.

    A tensor is its name, int32 type (0 int8, 1 float32), int32 count, float32 scale, int32 zero point, values.
    """
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for case in cases:
            out.write(_text(json.dumps(asdict(case.spec))))
            out.write(struct.pack("<ddiid", case.score_threshold, case.iou_threshold, *case.image_size, case.scale))
            out.write(struct.pack("<i", len(case.tensors)))
            for name, values in case.tensors.items():
                scale, zero_point = case.quantization.get(name, (0.0, 0))
                kind = ELEMENT_TYPES.index(values.dtype)
                out.write(_text(name) + struct.pack("<iifi", kind, values.size, scale, zero_point) + values.tobytes())


def read_faces(path: Path, count: int) -> list[np.ndarray]:
    """`count` lists of faces, arrays of `FACE`."""
    return _read_lists(path, count, FACE)


def _read_lists(path: Path, count: int, dtype: np.dtype) -> list[np.ndarray]:
    data, offset, result = path.read_bytes(), 0, []
    for _ in range(count):
        (length,) = struct.unpack_from("<i", data, offset)
        result.append(np.frombuffer(data, dtype, length, offset + 4))
        offset += 4 + length * dtype.itemsize
    assert offset == len(data)
    return result


def write_mesh_cases(path: Path, basis: bytes, cases: Sequence[DecodeCase]) -> None:
    """For the command `meshes`: int32 length and bytes of `mesh.f16`, then as for `decode`."""
    write_decode_cases(path, cases)
    path.write_bytes(struct.pack("<i", len(basis)) + basis + path.read_bytes())


def read_meshes(path: Path, count: int, dtype: np.dtype = MESH) -> list[np.ndarray]:
    """`count` lists of meshes with their poses, arrays of `dtype`."""
    return _read_lists(path, count, dtype)


@dataclass(frozen=True)
class NmsCase:
    """Arguments of `tflite.nms.nms`."""

    boxes: np.ndarray
    scores: np.ndarray
    iou_threshold: float
    pixel_offset: int
    max_candidates: int
    max_faces: int


def write_nms_cases(path: Path, cases: Sequence[NmsCase]) -> None:
    """For the command `nms`: int32 count, float64 threshold, three int32, boxes, scores."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for case in cases:
            settings = (case.iou_threshold, case.pixel_offset, case.max_candidates, case.max_faces)
            out.write(struct.pack("<idiii", len(case.scores), *settings))
            out.write(case.boxes.astype("<f4").tobytes() + case.scores.astype("<f4").tobytes())


def read_indices(path: Path, count: int) -> list[list[int]]:
    """`count` lists of int32, each with its length in front."""
    values = np.fromfile(path, "<i4").tolist()
    result, at = [], 0
    for _ in range(count):
        result.append(values[at + 1 : at + 1 + values[at]])
        at += 1 + values[at]
    assert at == len(values)
    return result


def write_letterbox_cases(path: Path, cases: Sequence[tuple[np.ndarray, int, int, Sequence[float], bool]]) -> None:
    """For the command `letterbox`: int32 height, width, antialias, float64 mean ×3, image; answers: raw pixels."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for image, height, width, mean, antialias in cases:
            out.write(struct.pack("<iiiddd", height, width, antialias, *mean) + _image(image))


def write_table_cases(path: Path, cases: Sequence[tuple[Sequence[float], float, int]]) -> None:
    """For the command `tables`: (mean, scale, zero point) as float64 ×3, float32, int32; answers are int8 [256, 3]."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for mean, scale, zero_point in cases:
            out.write(struct.pack("<dddfi", *mean, scale, zero_point))


def write_images(path: Path, images: Sequence[np.ndarray]) -> None:
    """For the commands `photos` and `photo_meshes`."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(images)))
        for image in images:
            out.write(_image(image))


def write_inputs(path: Path, inputs: Sequence[np.ndarray]) -> None:
    """For the command `network`: int32 height and width, raw input tensor [height, width, 3]."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(inputs)))
        for values in inputs:
            out.write(struct.pack("<ii", *values.shape[:2]) + values.tobytes())


def write_shape_cases(path: Path, cases: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """For the command `shapes`: (height, width) of a picture and of a model as int32; answers: int32 height, width."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for image, own in cases:
            out.write(struct.pack("<iiii", *image, *own))


def write_upright_cases(path: Path, cases: Sequence[tuple[int, np.ndarray]]) -> None:
    """For the command `upright`: int32 EXIF orientation, image as stored; answers: images."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for orientation, image in cases:
            out.write(struct.pack("<i", orientation) + _image(image))


def read_pictures(path: Path, count: int) -> list[np.ndarray]:
    """`count` images, uint8 [H, W, 3], BGR."""
    data, offset, result = path.read_bytes(), 0, []
    for _ in range(count):
        height, width = struct.unpack_from("<ii", data, offset)
        result.append(np.frombuffer(data, np.uint8, height * width * 3, offset + 8).reshape(height, width, 3))
        offset += 8 + height * width * 3
    assert offset == len(data)
    return result
