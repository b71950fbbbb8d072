"""Write tests/golden/golden.json and golden.bin: output tensors and the faces that must come out of them.

    python tests/golden/make_golden.py

The expected faces come from `reference` below: the contract as plain loops, independent of tflite/. README.md beside
this file describes the format. Same NumPy, same files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
STRIDES = (8, 16, 32)
REFERENCE_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
SMALL_SIZES = ((10.0, 20.0), (32.0, 64.0), (128.0, 256.0))
WIDTHS = {"score": 1, "box": 4, "landmark": 10}
F = np.float32


@dataclass
class Case:
    """One model output with its settings; sizes are (height, width) in pixels."""

    name: str
    input_size: tuple[int, int]
    image_size: tuple[int, int]
    tensors: dict[str, np.ndarray]
    quantization: dict[str, tuple[float, int]]  # empty for float32
    score_threshold: float = 0.5
    iou_threshold: float = 0.4
    anchor_sizes: tuple[tuple[float, ...], ...] = REFERENCE_SIZES
    variances: tuple[float, float] = (0.1, 0.2)
    max_candidates: int = 5000
    max_faces: int = 750
    expected: dict[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        return min(self.input_size[0] / self.image_size[0], self.input_size[1] / self.image_size[1])


def wanted_logit(threshold: float) -> np.float32:
    return F(math.log(threshold / (1 - threshold)))


def slow_min_quantized(threshold: float, scale: float, zero_point: int) -> int:
    for q in range(-128, 128):
        if F(q - zero_point) * F(scale) >= wanted_logit(threshold):
            return q
    return 128


def slow_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 IoU of one box [4] with boxes [N, 4]; 0/0 counts as no overlap."""
    width = np.maximum(np.minimum(a[2], b[:, 2]) - np.maximum(a[0], b[:, 0]), F(0))
    height = np.maximum(np.minimum(a[3], b[:, 3]) - np.maximum(a[1], b[:, 1]), F(0))
    inter = width * height
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(inter / (area_a + area_b - inter))


def reference(case: Case) -> dict[str, Any]:
    """Contract §7 steps 3 to 5, one anchor at a time."""
    found, index = [], 0
    for stride, sizes in zip(STRIDES, case.anchor_sizes, strict=True):
        rows, columns = -(-case.input_size[0] // stride), -(-case.input_size[1] // stride)
        for row in range(rows):
            for column in range(columns):
                for anchor, size in enumerate(sizes):
                    candidate = _candidate(case, stride, row, column, anchor, F(size), index)
                    if candidate:
                        found.append(candidate)
                    index += 1
    found.sort(key=lambda c: (-c["logit"], c["anchor"]))
    found = [c for c in found[: case.max_candidates] if c["finite"]]
    kept: list[dict[str, Any]] = []
    boxes = np.array([c["box"] for c in found], F).reshape(-1, 4)
    alive = np.ones(len(found), bool)
    for i, candidate in enumerate(found):
        if alive[i] and len(kept) < case.max_faces:
            kept.append(candidate)
            alive[i + 1 :] &= ~(slow_iou(boxes[i], boxes[i + 1 :]) > F(case.iou_threshold))
    return {
        "candidates": len(found),
        "anchors": np.array([c["anchor"] for c in kept], np.int32),
        "boxes": np.array([c["box"] for c in kept], F).reshape(-1, 4),
        "scores": np.array([1 / (1 + math.exp(-float(c["logit"]))) for c in kept], F),
        "landmarks": np.array([c["landmarks"] for c in kept], F).reshape(-1, 10),
    }


def _candidate(
    case: Case, stride: int, row: int, column: int, anchor: int, size: np.float32, index: int
) -> dict[str, Any] | None:
    def values(kind: str) -> list[np.float32]:
        width = WIDTHS[kind]
        raw = case.tensors[f"{kind}_{stride}"][0, row, column, anchor * width : (anchor + 1) * width]
        if not case.quantization:
            return [F(v) for v in raw]
        scale, zero_point = case.quantization[f"{kind}_{stride}"]
        return [F(int(q) - zero_point) * F(scale) for q in raw]

    logit = values("score")[0]
    if not logit >= wanted_logit(case.score_threshold):
        return None
    centre = F((column + 0.5) * stride), F((row + 0.5) * stride)
    v0, v1, scale = F(case.variances[0]), F(case.variances[1]), F(case.scale)
    delta = values("box")
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = [], []
        for axis in (0, 1):
            middle = centre[axis] + delta[axis] * v0 * size
            exponent = np.minimum(delta[axis + 2] * v1, F(math.log(1000 / 16)))
            half = size * F(np.exp(np.float64(exponent))) * F(0.5)
            low.append(middle - half)
            high.append(middle + half)
        points = [centre[i % 2] + d * v0 * size for i, d in enumerate(values("landmark"))]
        finite = all(map(np.isfinite, low + high + points))
        limits = (F(case.image_size[1]), F(case.image_size[0])) * 2
        box = [min(max(v / scale, F(0)), limit) for v, limit in zip(low + high, limits, strict=True)]
        landmarks = [v / scale for v in points]
    return {"anchor": index, "logit": logit, "box": box, "landmarks": landmarks, "finite": finite}


def level_shapes(input_size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {
        f"{kind}_{s}": (1, -(-input_size[0] // s), -(-input_size[1] // s), 2 * width)
        for s in STRIDES
        for kind, width in WIDTHS.items()
    }


def random_floats(random: np.random.Generator, input_size: tuple[int, int], kind: str) -> dict[str, np.ndarray]:
    """Tensors as a float network would give them."""
    spread = {"extreme": 30.0, "outside": 12.0}.get(kind, 1.5)
    tensors = {}
    for name, shape in level_shapes(input_size).items():
        if name.startswith("score"):
            shift = {"empty": -12.0, "all": 6.0, "crowd": 6.0}.get(kind, -2.5)
            values = random.normal(shift, 2.0, shape)
            if kind == "ties":
                values = random.integers(-2, 3, shape).astype(np.float64)
        else:
            values = random.normal(0, spread, shape)
            if kind == "ties" and random.random() < 0.5:
                values = np.zeros(shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def quantize(
    random: np.random.Generator, tensors: dict[str, np.ndarray], kind: str
) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, int]]]:
    """int8 tensors with a range of their own each; "coarse" has few steps, so many equal values."""
    result, params = {}, {}
    for name, values in tensors.items():
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = float(F(max(high - low, 1e-3) / 255 * random.uniform(0.8, 1.3)))
        if kind == "ties" and name.startswith("score"):
            scale = 0.5
        zero_point = int(np.clip(round(-128 - low / scale), -128, 127))
        result[name] = np.clip(np.floor(values / F(scale) + 0.5) + zero_point, -128, 127).astype(np.int8)
        params[name] = (scale, zero_point)
    return result, params


def make_cases() -> list[Case]:
    """All cases, smallest settings first; each has its own seed."""
    inputs = ((64, 64), (32, 64), (64, 32), (96, 64))
    images = ((64, 64), (48, 64), (480, 640), (37, 911), (1, 1), (3000, 4000), (333, 250), (1080, 1920))
    thresholds = (0.5, 0.02, 0.3, 0.9, 0.7)
    overlaps = (0.4, 0.2, 0.55, 0.7)
    cases = []
    for kind, count in (("plain", 66), ("ties", 42), ("outside", 24), ("extreme", 24), ("empty", 10), ("all", 24)):
        for i in range(count):
            random = np.random.default_rng((len(cases), 2026))
            int8 = i % 3 != 2
            input_size = inputs[i % 4] if int8 else inputs[1 + i % 2]
            tensors, params = random_floats(random, input_size, kind), {}
            if int8:
                tensors, params = quantize(random, tensors, kind)
            case = Case(f"{kind}_{i:02d}", input_size, images[i % 8], tensors, params)
            case.score_threshold = thresholds[i % 5]
            case.iou_threshold = overlaps[i // 2 % 4]
            case.anchor_sizes = SMALL_SIZES if i % 7 == 3 else REFERENCE_SIZES
            if i % 6 == 5:
                case.max_candidates, case.max_faces = 20, 5
            if i % 11 == 7:
                case.variances = (0.15, 0.3)
            cases.append(case)
    return cases + edge_cases() + crowd_cases()


def edge_cases() -> list[Case]:
    """Not finite, threshold on a step of the scores, and no integer above the threshold."""
    cases = []
    random = np.random.default_rng(99)
    for i, bad in enumerate((np.nan, np.inf, -np.inf, np.float32(3e38))):
        tensors = random_floats(random, (32, 64), "all")
        for name in ("score_8", "box_8", "landmark_16", "box_32"):
            tensors[name].reshape(-1)[i :: 7 + i] = bad
        cases.append(Case(f"nonfinite_{i}", (32, 64), (100, 200), tensors, {}))
    for i, (scale, zero_point) in enumerate(((0.25, 0), (0.25, 127), (0.01, 127), (0.01, -128), (0.1, -128), (3.0, 5))):
        tensors, params = quantize(random, random_floats(random, (64, 64), "plain"), "plain")
        for stride in STRIDES:
            tensors[f"score_{stride}"] = random.integers(-128, 128, tensors[f"score_{stride}"].shape).astype(np.int8)
            params[f"score_{stride}"] = (float(F(scale)), zero_point)
        cases.append(Case(f"step_{i}", (64, 64), (64, 64), tensors, params, score_threshold=(0.5, 0.9)[i % 2]))
    return cases


def crowd_cases() -> list[Case]:
    """Thousands of candidates: 5,000 and more, spread or in clusters, with the cuts to 5,000 and to 750."""
    cases = []
    for i, (input_size, spread, most) in enumerate(
        (((352, 352), 1.5, 750), ((384, 384), 1.5, 300), ((320, 384), 0.2, 150))
    ):
        random = np.random.default_rng((i, 5000))
        tensors, params = quantize(random, random_floats(random, input_size, "crowd"), "crowd")
        for name in [n for n in tensors if n.startswith("box")]:
            params[name] = (float(F(params[name][0] * spread)), params[name][1])
        case = Case(f"crowd_{i}", input_size, (720, 1280), tensors, params, 0.02, anchor_sizes=SMALL_SIZES)
        case.max_faces = most
        cases.append(case)
    return cases


def table_cases() -> list[dict[str, Any]]:
    """Input tables for the int8 input: (mean, scale, zero point) → 256 × 3 values, [pixel][channel]."""
    cases = []
    for mean, scale, zero_point in (
        ((104.0, 117.0, 123.0), 1.0, -5),
        ((104.0, 117.0, 123.0), 1.00392162799835, -9),
        ((104.0, 117.0, 123.0), 0.5, 0),
        ((0.0, 0.0, 0.0), 1.0, -128),
        ((127.5, 127.5, 127.5), 2.0, 0),
    ):
        values = [
            [int(min(max(math.floor((pixel - m) / float(F(scale)) + 0.5) + zero_point, -128), 127)) for m in mean]
            for pixel in range(256)
        ]
        cases.append({"mean": mean, "scale": float(F(scale)), "zero_point": zero_point, "values": values})
    return cases


def letterbox_cases() -> list[dict[str, Any]]:
    """Sizes of the scaled picture inside the input."""
    cases = []
    for image in (
        (480, 640),
        (640, 480),
        (1, 1),
        (1, 5000),
        (5000, 1),
        (333, 250),
        (1080, 1920),
        (641, 640),
        (37, 911),
    ):
        for height, width in ((640, 640), (320, 320), (384, 640)):
            scale = min(height / image[0], width / image[1])
            rows, columns = (max(1, math.floor(side * scale + 0.5)) for side in image)
            cases.append({"image": image, "input": (height, width), "scale": scale, "resized": (rows, columns)})
    return cases


def allowed_sides(own: int) -> list[int]:
    """What a side of a model's input may be: the least multiples of 32 that are 3/5, 7/10, 3/4 and all of its own."""
    multiples = range(32, own + 32, 32)
    parts = ((3, 5), (7, 10), (3, 4), (1, 1))
    return [next(side for side in multiples if side * whole >= own * part) for part, whole in parts]


def auto_shape_cases() -> list[dict[str, Any]]:
    """Input shapes for pictures: a model's own input, or with one side shortened where the letterboxed picture ends."""
    cases = []
    images = (
        *((480, 640), (640, 480), (720, 1280), (1080, 1920), (1920, 1080), (3000, 4000), (1, 1), (1, 5000), (5000, 1)),
        *((577, 1000), (601, 1000), (6000, 10000), (6004, 10000), (641, 640), (37, 911), (333, 250), (16384, 16383)),
        *((427, 640), (7500, 10000), (7501, 10000), (10000, 6001)),
    )
    for image in images:
        for own in ((640, 640), (320, 320), (384, 640), (640, 480), (1280, 1280), (96, 64), (32, 640)):
            # One side is the model's own; the other the first on the list where the picture at that scale fits.
            rows, columns = own
            if own[0] * image[1] > own[1] * image[0]:
                rows = next(side for side in allowed_sides(own[0]) if side * image[1] >= own[1] * image[0])
            else:
                columns = next(side for side in allowed_sides(own[1]) if side * image[0] >= own[0] * image[1])
            cases.append({"image": image, "own": own, "input": (rows, columns)})
    return cases


class Writer:
    """Appends arrays to the binary file, each at a multiple of 4 bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, array: np.ndarray) -> int:
        self.data += bytes(-len(self.data) % 4)
        offset = len(self.data)
        self.data += array.astype(array.dtype.newbyteorder("<")).tobytes()
        return offset


def case_entry(case: Case, writer: Writer) -> dict[str, Any]:
    faces = reference(case)
    tensors: dict[str, tuple[int, float, int]] = {}
    for name, values in case.tensors.items():
        scale, zero_point = case.quantization.get(name, (0.0, 0))
        tensors[name] = (writer.add(values), scale, zero_point)
    return {
        "name": case.name,
        "dtype": "int8" if case.quantization else "float32",
        "input": case.input_size,
        "image": case.image_size,
        "scale": case.scale,
        "strides": STRIDES,
        "anchor_sizes": case.anchor_sizes,
        "variances": case.variances,
        "score_threshold": case.score_threshold,
        "iou_threshold": case.iou_threshold,
        "max_candidates": case.max_candidates,
        "max_faces": case.max_faces,
        "tensors": tensors,
        "min_quantized": [
            slow_min_quantized(case.score_threshold, *case.quantization[f"score_{s}"])
            for s in STRIDES
            if case.quantization
        ],
        "expected": {
            "candidates": faces["candidates"],
            "count": len(faces["anchors"]),
            **{key: writer.add(faces[key]) for key in ("anchors", "boxes", "scores", "landmarks")},
        },
    }


def main() -> None:
    writer = Writer()
    entries = [case_entry(case, writer) for case in make_cases()]
    index = {"cases": entries, "tables": table_cases(), "letterbox": letterbox_cases(), "shapes": auto_shape_cases()}
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    text = f'{{"cases": [\n{lines}\n],\n"tables": {json.dumps(index["tables"])},\n'
    text += f'"letterbox": {json.dumps(index["letterbox"])},\n"shapes": {json.dumps(index["shapes"])}}}\n'
    (FOLDER / "golden.json").write_text(text)
    (FOLDER / "golden.bin").write_bytes(writer.data)
    counts = [entry["expected"]["count"] for entry in entries]
    print(
        f"{len(entries)} cases, {sum(counts)} faces, {counts.count(0)} without; {len(text)} + {len(writer.data)} bytes"
    )


if __name__ == "__main__":
    main()
