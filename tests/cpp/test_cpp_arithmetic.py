"""C++ and Python compute the same: golden vectors, 2,000 random outputs, the network's input byte for byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

import exchange
import numpy as np
import pytest
import test_android_parity as kotlin

from tests.cpp.build import Driver, InputCase, write_input_cases
from tflite.images import read_image
from tflite.interpreter import load_interpreter, tensor_details
from tflite.preprocess import InputWriter, letterbox_size
from tflite.shapes import auto_shape
from tflite.shipped import find_model, model_names
from tflite.spec import ModelSpec, read_spec

MEAN = (104.0, 117.0, 123.0)
SCALE, ZERO_POINT = float(np.float32(151 / 140)), -13  # of the shipped models' input


def cpp_faces(driver: Driver, folder: Path, cases: list[exchange.DecodeCase]) -> list[np.ndarray]:
    exchange.write_decode_cases(folder / "cases.bin", cases)
    driver("decode", folder / "cases.bin", folder / "faces.bin")
    return exchange.read_faces(folder / "faces.bin", len(cases))


def test_golden_vectors(driver: Driver, root: Path, tmp_path: Path) -> None:
    golden = root / "tests" / "golden"
    entries = json.loads((golden / "golden.json").read_text())["cases"]
    data = (golden / "golden.bin").read_bytes()
    cases = [kotlin.golden_case(entry, data) for entry in entries]
    assert len(cases) >= 200
    found = cpp_faces(driver, tmp_path, [case for case, _ in cases])
    for entry, (_, wanted), faces in zip(entries, cases, found, strict=True):
        kotlin.assert_same_faces(faces, wanted, entry["name"])


def test_golden_meshes(driver: Driver, root: Path, tmp_path: Path) -> None:
    basis, cases, expected = kotlin.golden_meshes(root)
    exchange.write_mesh_cases(tmp_path / "cases.bin", basis, cases)
    driver("meshes", tmp_path / "cases.bin", tmp_path / "meshes.bin")
    mesh = np.dtype([("pose", "<f4", 3), ("vertices", "<f4", (468, 3))])
    for wanted, found in zip(expected, exchange.read_meshes(tmp_path / "meshes.bin", len(cases), mesh), strict=True):
        kotlin.assert_golden_mesh(found["vertices"], found["pose"], wanted)


@pytest.fixture(scope="module")
def random_cases() -> list[tuple[exchange.DecodeCase, np.ndarray]]:
    random = np.random.default_rng(20261129)
    cases = [kotlin.random_case(random) for _ in range(2000)]
    return [(case, kotlin.python_faces(case)) for case in cases]


def test_two_thousand_random_outputs(
    driver: Driver, random_cases: list[tuple[exchange.DecodeCase, np.ndarray]], tmp_path: Path
) -> None:
    counts = np.array([len(faces) for _, faces in random_cases])
    assert counts.sum() > 20_000 and (counts == 0).sum() > 50  # they say something
    found = cpp_faces(driver, tmp_path, [case for case, _ in random_cases])
    for i, ((_, wanted), faces) in enumerate(zip(random_cases, found, strict=True)):
        kotlin.assert_same_faces(faces, wanted, f"case {i}")


def test_the_largest_box(driver: Driver, tmp_path: Path) -> None:
    """No box is more than 62.5 times its anchor: one of 500 pixels in the middle of a picture, which clips nothing."""
    spec = ModelSpec(anchor_sizes=((8.0,), (64.0,), (256.0,)))
    tensors = {}
    for stride in spec.strides:
        cells = (640 // stride) ** 2
        tensors[f"score_{stride}"] = np.full(cells, -9, np.float32)
        tensors[f"box_{stride}"] = np.zeros(cells * 4, np.float32)
        tensors[f"landmark_{stride}"] = np.zeros(cells * 10, np.float32)
    middle = 40 * 80 + 40
    tensors["score_8"][middle] = 9
    tensors["box_8"][4 * middle + 2 : 4 * middle + 4] = 1000
    case = exchange.DecodeCase(spec, tensors, {}, (640, 640), 1.0, 0.5, 0.4)
    (faces,) = cpp_faces(driver, tmp_path, [case])
    kotlin.assert_same_faces(faces, kotlin.python_faces(case), "the largest box")
    assert abs(faces["box"][0, 2] - faces["box"][0, 0] - 500) < 1e-3


def test_scores_around_the_threshold(driver: Driver, tmp_path: Path) -> None:
    """A face of exactly the threshold's logit is one; the next smaller float32 is none."""
    spec = ModelSpec(anchor_sizes=((8.0,), (64.0,), (256.0,)))
    cases = []
    for threshold in (0.02, 0.3, 0.4, 0.5, 0.8, 0.98):
        tensors = {}
        for stride in spec.strides:
            cells = (640 // stride) ** 2
            tensors[f"score_{stride}"] = np.full(cells, -99, np.float32)
            tensors[f"box_{stride}"] = np.zeros(cells * 4, np.float32)
            tensors[f"landmark_{stride}"] = np.zeros(cells * 10, np.float32)
        least = np.float32(math.log(threshold / (1 - threshold)))
        tensors["score_8"][[100, 200, 300]] = (np.nextafter(least, np.float32(-99)), least, least + np.float32(1e-4))
        cases.append(exchange.DecodeCase(spec, tensors, {}, (640, 640), 1.0, threshold, 0.4))
    for case, faces in zip(cases, cpp_faces(driver, tmp_path, cases), strict=True):
        assert len(faces) == 2, case.score_threshold
        kotlin.assert_same_faces(faces, kotlin.python_faces(case), f"threshold {case.score_threshold}")


def test_golden_tables(driver: Driver, root: Path, tmp_path: Path) -> None:
    entries = json.loads((root / "tests" / "golden" / "golden.json").read_text())["tables"]
    cases = [(entry["mean"], entry["scale"], entry["zero_point"]) for entry in entries]
    exchange.write_table_cases(tmp_path / "cases.bin", cases)
    found = np.frombuffer(driver("tables", tmp_path / "cases.bin", tmp_path / "tables.bin"), np.int8)
    assert found.reshape(len(entries), 256, 3).tolist() == [entry["values"] for entry in entries]


def test_shapes(driver: Driver, root: Path, tmp_path: Path) -> None:
    """The golden ones, and random ones with the letterbox's size."""
    golden = json.loads((root / "tests" / "golden" / "golden.json").read_text())["shapes"]
    sides = [[*entry["image"], *entry["own"]] for entry in golden]
    random = np.random.default_rng(4)
    sides += [[*random.integers(1, 9000, 2).tolist(), *(32 * random.integers(2, 41, 2)).tolist()] for _ in range(2000)]
    np.array([len(sides), *np.ravel(sides)], "<i4").tofile(tmp_path / "cases.bin")
    found = np.frombuffer(driver("shapes", tmp_path / "cases.bin", tmp_path / "shapes.bin"), "<i4").reshape(-1, 4)
    assert found[: len(golden), :2].tolist() == [entry["input"] for entry in golden]
    for row, case in zip(found.tolist(), sides, strict=True):
        assert row == [*auto_shape(*case), *letterbox_size(*case)[:2]], case


def python_input(bgr: np.ndarray, case: InputCase) -> np.ndarray:
    _, _, shape, mean, scale, zero_point, antialias = case
    writer = InputWriter(*shape, mean, scale, zero_point, np.int8 if scale else np.float32, antialias)
    tensor = np.empty((*shape, 3), np.int8 if scale else np.float32)
    writer.write(writer.resize(bgr)[0], tensor)
    return tensor


def assert_same_inputs(driver: Driver, folder: Path, pictures: list[np.ndarray], cases: list[InputCase]) -> None:
    """Byte for byte what Python makes of the B, G, R pixels `pictures`."""
    write_input_cases(folder / "cases.bin", cases)
    data, at = driver("inputs", folder / "cases.bin", folder / "inputs.bin"), 0
    for i, (bgr, case) in enumerate(zip(pictures, cases, strict=True)):
        wanted = python_input(bgr, case).tobytes()
        assert data[at : at + len(wanted)] == wanted, (i, bgr.shape, case[1:])
        at += len(wanted)
    assert at == len(data)


def ordered(bgr: np.ndarray, order: str) -> np.ndarray:
    """The picture's pixels in another channel order; alpha is noise that must not matter."""
    rgb = bgr[..., ::-1] if order.startswith("rgb") else bgr
    alpha = np.random.default_rng(0).integers(0, 256, (*bgr.shape[:2], 1), dtype=np.uint8)
    return np.concatenate((rgb, alpha), axis=2) if order.endswith("a") else rgb


@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_inputs_of_every_size_and_order(driver: Driver, tmp_path: Path, kind: str) -> None:
    """Scaled up, down, to half and not at all; with and without halving; int8 and float32; other means and scales."""
    random = np.random.default_rng(5)
    sizes = [(48, 64), (64, 64), (1, 1), (1, 500), (500, 1), (128, 128), (96, 128), (37, 911), (63, 65), (480, 640)]
    sizes += [(int(height), int(width)) for height, width in random.integers(2, 400, (50, 2))]
    sizes += [(40, 130), (130, 40)] * 6  # at 64×64 one side is exactly twice the input's and the other more
    pictures, cases = [], []
    for i, (height, width) in enumerate(sizes):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if kind == "smooth":
            ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array((1, 2, 3))
            image = (ramp % 256).astype(np.uint8)
        order = ("bgr", "rgb", "bgra", "rgba")[i % 4]
        shape = ((64, 64), (96, 32), (320, 224))[i % 3]
        mean, scale, zero_point = ((MEAN, SCALE, ZERO_POINT), ((0.0, 127.5, 255.0), 1.0, 3), (MEAN, 0.0, 0))[i % 7 % 3]
        for antialias in (False, True):
            pictures.append(image)
            cases.append((ordered(image, order), order, shape, mean, scale, zero_point, antialias))
    grey = random.integers(0, 256, (100, 150), dtype=np.uint8)
    pictures.append(np.repeat(grey[..., None], 3, axis=2))
    cases.append((grey, "gray", (64, 96), MEAN, SCALE, ZERO_POINT, True))
    assert_same_inputs(driver, tmp_path, pictures, cases)


def shipped_cases(pictures: list[np.ndarray]) -> list[InputCase]:
    """The pictures as the default model's network gets them."""
    model = find_model(None)
    spec = read_spec(model)
    interpreter, _ = load_interpreter(model.read_bytes(), 1, "model")
    scale, zero_point = tensor_details(interpreter, "model")[0]["quantization"]
    shapes = [auto_shape(*picture.shape[:2], spec.input_height, spec.input_width) for picture in pictures]
    return [
        (picture, "bgr", shape, spec.mean, scale, zero_point, spec.antialias)
        for picture, shape in zip(pictures, shapes, strict=True)
    ]


def test_inputs_of_twenty_pictures(driver: Driver, twenty: list[np.ndarray], tmp_path: Path) -> None:
    assert_same_inputs(driver, tmp_path, twenty, shipped_cases(twenty))


@pytest.mark.shared_data
def test_inputs_of_twenty_photos(driver: Driver, shared_data: Path, tmp_path: Path) -> None:
    photos = sorted((shared_data / "wider" / "dev" / "images").rglob("*.jpg"))[::15][:20]
    assert len(photos) == 20
    pictures = [read_image(photo) for photo in photos]
    assert_same_inputs(driver, tmp_path, pictures, shipped_cases(pictures))


def test_the_shipped_models_have_the_input_of_these_tests() -> None:
    for name in model_names():
        interpreter, _ = load_interpreter(find_model(name).read_bytes(), 1, name)
        scale, zero_point = tensor_details(interpreter, name)[0]["quantization"]
        assert (round(scale, 6), zero_point) == (round(SCALE, 6), ZERO_POINT), name
