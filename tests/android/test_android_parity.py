"""Kotlin and Python compute the same: golden vectors, 2,000 random outputs, NMS, letterbox."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import exchange
import numpy as np
import pytest
import toolchain
from PIL import Image, ImageOps

from tflite.anchors import make_anchors
from tflite.decode import decode_outputs, sigmoid
from tflite.nms import nms
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

TOLERANCE = 1e-4  # pixels
ORIENTATION = 0x0112  # EXIF tag
WIDTHS = {"score": 1, "box": 4, "landmark": 10}


def assert_same_faces(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """The same anchors in the same order; boxes, landmarks and scores within the tolerance, infinities alike."""
    assert found["anchor"].tolist() == wanted["anchor"].tolist(), name
    for field in ("box", "landmarks"):
        np.testing.assert_allclose(found[field], wanted[field], rtol=0, atol=TOLERANCE, err_msg=f"{name} {field}")
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=0, atol=1e-6, err_msg=f"{name} score")


def python_faces(case: exchange.DecodeCase) -> np.ndarray:
    """What tflite/ makes of a case, with the anchor of each face."""
    spec = case.spec
    anchors = make_anchors(spec.input_height, spec.input_width, spec.strides, spec.anchor_sizes)
    found = decode_outputs(case.tensors, anchors, spec, case.score_threshold, case.quantization)
    height, width = case.image_size
    scale = np.float32(case.scale)
    boxes = np.clip(found.boxes / scale, 0, np.array((width, height, width, height), np.float32))
    keep = nms(boxes, found.logits, case.iou_threshold, 0, spec.max_candidates, spec.max_faces)
    faces = np.empty(len(keep), exchange.FACE)
    faces["anchor"], faces["score"], faces["box"] = found.anchors[keep], sigmoid(found.logits[keep]), boxes[keep]
    faces["landmarks"] = (found.landmarks[keep] / scale).reshape(-1, 10)
    return faces


def kotlin_faces(jvm: toolchain.Jvm, folder: Path, cases: list[exchange.DecodeCase]) -> list[np.ndarray]:
    exchange.write_decode_cases(folder / "cases.bin", cases)
    jvm.proof("decode", folder / "cases.bin", folder / "faces.bin")
    return exchange.read_faces(folder / "faces.bin", len(cases))


def golden_case(entry: dict[str, Any], data: bytes) -> tuple[exchange.DecodeCase, np.ndarray]:
    """A case of tests/golden and the faces it must give."""
    spec = ModelSpec(
        input_height=entry["input"][0],
        input_width=entry["input"][1],
        strides=tuple(entry["strides"]),
        anchor_sizes=tuple(map(tuple, entry["anchor_sizes"])),
        variances=tuple(entry["variances"]),
        max_candidates=entry["max_candidates"],
        max_faces=entry["max_faces"],
    )
    tensors, quantization = {}, {}
    for name, (offset, scale, zero_point) in entry["tensors"].items():
        kind, stride = name.split("_")
        cells = -(-spec.input_height // int(stride)) * -(-spec.input_width // int(stride))
        tensors[name] = np.frombuffer(data, np.dtype(entry["dtype"]), cells * 2 * WIDTHS[kind], offset)
        if entry["dtype"] == "int8":
            quantization[name] = (scale, zero_point)
    expected = entry["expected"]
    faces = np.empty(expected["count"], exchange.FACE)
    for field, key, dtype, width in (
        ("anchor", "anchors", "<i4", 1),
        ("score", "scores", "<f4", 1),
        ("box", "boxes", "<f4", 4),
        ("landmarks", "landmarks", "<f4", 10),
    ):
        values = np.frombuffer(data, dtype, len(faces) * width, expected[key])
        faces[field] = values if width == 1 else values.reshape(-1, width)
    thresholds = entry["score_threshold"], entry["iou_threshold"]
    return exchange.DecodeCase(spec, tensors, quantization, tuple(entry["image"]), entry["scale"], *thresholds), faces


def test_golden_vectors(jvm: toolchain.Jvm, root: Path, tmp_path: Path) -> None:
    golden = root / "tests" / "golden"
    entries = json.loads((golden / "golden.json").read_text())["cases"]
    data = (golden / "golden.bin").read_bytes()
    cases = [golden_case(entry, data) for entry in entries]
    assert len(cases) >= 200
    found = kotlin_faces(jvm, tmp_path, [case for case, _ in cases])
    for entry, (_, wanted), faces in zip(entries, cases, found, strict=True):
        assert_same_faces(faces, wanted, entry["name"])


def golden_meshes(root: Path) -> tuple[bytes, list[exchange.DecodeCase], list[dict[str, Any]]]:
    """The contents of `mesh.f16`, the cases of tests/golden/mesh.json, and what the file expects of each."""
    golden = root / "tests" / "golden"
    entries = {entry["name"]: entry for entry in json.loads((golden / "golden.json").read_text())["cases"]}
    file = json.loads((golden / "mesh.json").read_text())
    data = (golden / "golden.bin").read_bytes()
    cases = []
    for wanted in file["cases"]:
        entry = entries[wanted["case"]]
        case, _ = golden_case(entry, data)
        tensors, quantization = dict(case.tensors), dict(case.quantization)
        for name, (text, scale, zero_point) in wanted["tensors"].items():
            tensors[name] = np.frombuffer(base64.b64decode(text), np.dtype(entry["dtype"]))
            if entry["dtype"] == "int8":
                quantization[name] = (scale, zero_point)
        cases.append(replace(case, tensors=tensors, quantization=quantization))
    return base64.b64decode(file["basis"]), cases, file["cases"]


def assert_golden_mesh(vertices: np.ndarray, poses: np.ndarray, wanted: dict[str, Any]) -> None:
    """Meshes [N, 468, 3] and poses [N, 3] of a case, of which the file has the first."""
    right = np.frombuffer(base64.b64decode(wanted["meshes"]), "<f4").reshape(-1, 468, 3)
    assert len(right) == len(wanted["poses"]) > 0
    np.testing.assert_allclose(vertices[: len(right)], right, rtol=1e-6, atol=1e-3, err_msg=wanted["case"])
    np.testing.assert_allclose(poses[: len(right)], wanted["poses"], rtol=0, atol=1e-3, err_msg=wanted["case"])


def test_golden_meshes(jvm: toolchain.Jvm, root: Path, tmp_path: Path) -> None:
    basis, cases, expected = golden_meshes(root)
    exchange.write_mesh_cases(tmp_path / "cases.bin", basis, cases)
    jvm.proof("meshes", tmp_path / "cases.bin", tmp_path / "meshes.bin")
    for wanted, found in zip(expected, exchange.read_meshes(tmp_path / "meshes.bin", len(cases)), strict=True):
        assert_golden_mesh(found["vertices"], found["pose"], wanted)
        axes = np.array(wanted["axes"])
        np.testing.assert_allclose(found["axes"][: len(axes)], axes, rtol=0, atol=1e-5, err_msg=wanted["case"])


def test_golden_tables(jvm: toolchain.Jvm, root: Path, tmp_path: Path) -> None:
    entries = json.loads((root / "tests" / "golden" / "golden.json").read_text())["tables"]
    cases = [(entry["mean"], entry["scale"], entry["zero_point"]) for entry in entries]
    exchange.write_table_cases(tmp_path / "cases.bin", cases)
    jvm.proof("tables", tmp_path / "cases.bin", tmp_path / "tables.bin")
    found = np.fromfile(tmp_path / "tables.bin", np.int8).reshape(len(entries), 256, 3)
    assert found.tolist() == [entry["values"] for entry in entries]


def test_golden_shapes(jvm: toolchain.Jvm, root: Path, tmp_path: Path) -> None:
    entries = json.loads((root / "tests" / "golden" / "golden.json").read_text())["shapes"]
    exchange.write_shape_cases(tmp_path / "cases.bin", [(entry["image"], entry["own"]) for entry in entries])
    jvm.proof("shapes", tmp_path / "cases.bin", tmp_path / "shapes.bin")
    found = np.fromfile(tmp_path / "shapes.bin", "<i4").reshape(-1, 2)
    assert found.tolist() == [entry["input"] for entry in entries]


def test_photos_are_turned_as_pillow_turns_them(jvm: toolchain.Jvm, tmp_path: Path) -> None:
    """All eight orientations, sizes below, at and above the squares that Kotlin turns them in."""
    random = np.random.default_rng(8)
    sizes = ((1, 1), (1, 70), (33, 64), (32, 32), (100, 31), (480, 641))
    cases = [
        (orientation, random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in sizes
        for orientation in range(1, 9)
    ]
    exchange.write_upright_cases(tmp_path / "cases.bin", cases)
    jvm.proof("upright", tmp_path / "cases.bin", tmp_path / "images.bin")
    for (orientation, stored), found in zip(
        cases, exchange.read_pictures(tmp_path / "images.bin", len(cases)), strict=True
    ):
        image = Image.fromarray(stored)
        image.getexif()[ORIENTATION] = orientation
        np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(image)), err_msg=str(orientation))


def random_case(random: np.random.Generator) -> exchange.DecodeCase:
    """One output of an imagined network: any size, anchors, thresholds; often with ties, extremes or nothing."""
    sides = (32, 64, 96)
    count = int(random.integers(1, 4))
    sizes = [tuple(float(s) for s in random.choice((8, 10, 16, 33.3, 64, 200), count)) for _ in range(3)]
    spec = ModelSpec(
        input_height=int(random.choice(sides)),
        input_width=int(random.choice(sides)),
        anchor_sizes=tuple(sizes),
        variances=(float(random.choice((0.1, 0.15, 1))), float(random.choice((0.2, 0.3, 1)))),
        max_candidates=int(random.choice((5, 40, 5000))),
        max_faces=int(random.choice((1, 10, 750))),
    )
    int8 = bool(random.random() < 0.7)
    spread = float(random.choice((0.5, 3, 30)))
    ceiling = -120 if random.random() < 0.1 else 128  # now and then no score is high
    tensors, quantization = {}, {}
    for stride in spec.strides:
        cells = -(-spec.input_height // stride) * -(-spec.input_width // stride) * count
        for kind, width in WIDTHS.items():
            name = f"{kind}_{stride}"
            if int8:
                high = ceiling if kind == "score" else 128
                low = -128 if random.random() < 0.8 else high - 8
                tensors[name] = random.integers(low, high, cells * width).astype(np.int8)
                scale = np.float32(random.choice((0.02, 0.25, 1.7)) if kind == "score" else spread / 40)
                quantization[name] = (float(scale), int(random.integers(-128, 128)))
            else:
                values = random.normal(0, 3 if kind == "score" else spread, cells * width)
                tensors[name] = (np.round(values) if random.random() < 0.3 else values).astype(np.float32)
    height, width = (int(side) for side in random.integers(1, 3000, 2))
    scale = min(spec.input_height / height, spec.input_width / width)
    threshold = float(random.choice((0.02, 0.3, 0.5, 0.9, random.uniform(0.01, 0.99))))
    overlap = float(random.choice((0.2, 0.4, 0.7, random.uniform(0.01, 0.99))))
    return exchange.DecodeCase(spec, tensors, quantization, (height, width), scale, threshold, overlap)


def test_two_thousand_random_outputs(jvm: toolchain.Jvm, tmp_path: Path) -> None:
    random = np.random.default_rng(20261124)
    cases = [random_case(random) for _ in range(2000)]
    wanted = [python_faces(case) for case in cases]
    # The cases must say something: faces in most of them, none in some, and the limits reached.
    counts = np.array(list(map(len, wanted)))
    assert counts.sum() > 20_000 and (counts == 0).sum() > 50
    assert sum(len(faces) == case.spec.max_faces for case, faces in zip(cases, wanted, strict=True)) > 200
    for i, (faces, expected) in enumerate(zip(kotlin_faces(jvm, tmp_path, cases), wanted, strict=True)):
        assert_same_faces(faces, expected, f"case {i}")


def random_nms_case(random: np.random.Generator) -> exchange.NmsCase:
    count = int(random.choice((0, 1, 7, 60, 300)))
    corner = random.uniform(-20, 100, (count, 2))
    size = random.uniform(0, 60, (count, 2)) * (random.random((count, 1)) > 0.05)
    boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    scores = random.normal(0, 2, count).astype(np.float32)
    if random.random() < 0.5:
        boxes, scores = np.round(boxes / np.float32(8)) * np.float32(8), np.round(scores)
    limits = int(random.choice((3, 50, 5000))), int(random.choice((1, 20, 750)))
    return exchange.NmsCase(boxes, scores, float(random.choice((0.2, 0.4, 0.5, 0.9))), int(random.integers(2)), *limits)


def test_nms_alone(jvm: toolchain.Jvm, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    cases = [random_nms_case(random) for _ in range(300)]
    exchange.write_nms_cases(tmp_path / "cases.bin", cases)
    jvm.proof("nms", tmp_path / "cases.bin", tmp_path / "kept.bin")
    for i, (case, kept) in enumerate(zip(cases, exchange.read_indices(tmp_path / "kept.bin", len(cases)), strict=True)):
        settings = (case.iou_threshold, case.pixel_offset, case.max_candidates, case.max_faces)
        assert kept == nms(case.boxes, case.scores, *settings).tolist(), i


LetterboxCase = tuple[np.ndarray, int, int, tuple[float, ...], bool]


def letterboxes(jvm: toolchain.Jvm, folder: Path, cases: list[LetterboxCase]) -> list[np.ndarray]:
    """What Kotlin makes of (image, height, width, mean, antialias)."""
    exchange.write_letterbox_cases(folder / "cases.bin", cases)
    jvm.proof("letterbox", folder / "cases.bin", folder / "pixels.bin")
    data, offset, result = np.fromfile(folder / "pixels.bin", np.uint8), 0, []
    for _, height, width, *_ in cases:
        result.append(data[offset : offset + height * width * 3].reshape(height, width, 3))
        offset += height * width * 3
    assert offset == data.size
    return result


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_letterbox_matches_opencv(jvm: toolchain.Jvm, tmp_path: Path, kind: str, antialias: bool) -> None:
    """At most 2 of 255 apart (measured with opencv 5.0 on x86-64: equal), scaled up, down, to half and not at all."""
    random = np.random.default_rng(5)
    sizes = [(48, 64), (64, 64), (1, 1), (1, 500), (500, 1), (128, 128), (96, 128), (37, 911), (63, 65), (480, 640)]
    sizes += [(int(height), int(width)) for height, width in random.integers(2, 400, (30, 2))]
    cases: list[LetterboxCase] = []
    for i, (height, width) in enumerate(sizes):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if kind == "smooth":
            ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array((1, 2, 3))
            image = (ramp % 256).astype(np.uint8)
        cases.append((image, *((64, 64), (96, 32), (320, 224))[i % 3], (104.0, 117.5, 123.0), antialias))
    for case, found in zip(cases, letterboxes(jvm, tmp_path, cases), strict=True):
        wanted, _ = letterbox(*case[:4], antialias=antialias)
        difference = np.abs(found.astype(int) - wanted)
        assert difference.max() <= 2, (case[0].shape, case[1:3], difference.max())
        assert difference.mean() < 0.01
