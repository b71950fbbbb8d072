"""The real model on the JVM: Kotlin calls LiteRT's C API and finds the faces that Python finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import exchange
import numpy as np
import pytest
import toolchain

from tests.tflite.conftest import HEIGHT, WIDTH, build_mesh_model
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.interpreter import load_interpreter, resize, tensor_details
from tflite.preprocess import apply_table, input_table, letterbox
from tflite.spec import read_spec

# Kotlin scales pictures by OpenCV's arithmetic; where another OpenCV differs by an LSB, faces move by less than this.
FACE_TOLERANCE = 0.5  # pixels


@pytest.fixture(scope="session")
def library() -> Path:
    """libLiteRt.so of the installed ai-edge-litert: Kotlin and Python then run the same kernels."""
    spec = importlib.util.find_spec("ai_edge_litert")
    assert spec and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "libLiteRt.so"


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """Grace Hopper, a photo in the public domain that matplotlib ships."""
    return read_image(portrait_path())


def portrait_path() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def network_input(model: Path, image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The int8 input tensor of a picture at a shape."""
    interpreter, _ = load_interpreter(model.read_bytes(), 1, "model")
    source, _ = tensor_details(interpreter, "model")
    spec = read_spec(model)
    boxed, _ = letterbox(image, *shape, spec.mean, antialias=spec.antialias)
    values = np.empty(boxed.shape, source["dtype"])
    scale, zero_point = source["quantization"]
    apply_table(boxed, input_table(spec.mean, scale, zero_point, source["dtype"]), values)
    return values


def python_outputs(model: Path, values: np.ndarray) -> bytes:
    """Raw outputs of ai_edge_litert at the input's shape, in the order of the outputs' sorted names."""
    interpreter, name = load_interpreter(model.read_bytes(), 1, "model")
    assert name.startswith("ai_edge_litert"), name
    source, outputs = tensor_details(interpreter, "model")
    resize(interpreter, source["index"], (1, *values.shape))
    interpreter.set_tensor(source["index"], values[None])
    interpreter.invoke()
    return b"".join(interpreter.get_tensor(outputs[name]["index"]).tobytes() for name in sorted(outputs))


def test_outputs_are_byte_equal(
    jvm: toolchain.Jvm, model: Path, library: Path, portrait: np.ndarray, tmp_path: Path
) -> None:
    """At the model's own shape, at others, and at its own again."""
    random = np.random.default_rng(3)
    shapes = ((640, 640), (480, 640), (640, 480), (384, 640), (64, 640), (640, 640))
    inputs = [network_input(model, portrait, shape) for shape in shapes]
    inputs += [random.integers(-128, 128, inputs[1].shape).astype(np.int8), np.zeros_like(inputs[0])]
    exchange.write_inputs(tmp_path / "inputs.bin", inputs)
    jvm.proof("network", library, model, tmp_path / "inputs.bin", tmp_path / "outputs.bin")
    wanted = [python_outputs(model, values) for values in inputs]
    assert len(set(wanted)) == len(inputs) - 1
    assert (tmp_path / "outputs.bin").read_bytes() == b"".join(wanted)


def assert_python_faces(
    jvm: toolchain.Jvm, model: Path, library: Path, folder: Path, images: list[np.ndarray]
) -> list[int]:
    """The whole Kotlin pipeline, each picture at its own shape, gives Python's faces in order; how many each has."""
    exchange.write_images(folder / "images.bin", images)
    jvm.proof("photos", library, model, folder / "images.bin", folder / "faces.bin")
    counts = []
    with FaceDetector(model, num_threads=1) as detector:
        for i, (image, faces) in enumerate(
            zip(images, exchange.read_faces(folder / "faces.bin", len(images)), strict=True)
        ):
            wanted = detector.detect(image)
            assert len(faces) == len(wanted), i
            np.testing.assert_allclose(faces["box"], wanted.boxes, rtol=0, atol=FACE_TOLERANCE)
            np.testing.assert_allclose(
                faces["landmarks"], wanted.landmarks.reshape(-1, 10), rtol=0, atol=FACE_TOLERANCE
            )
            np.testing.assert_allclose(faces["score"], wanted.scores, rtol=0, atol=0.02)
            counts.append(len(faces))
    return counts


def test_portrait_in_many_shapes(
    jvm: toolchain.Jvm, model: Path, library: Path, portrait: np.ndarray, tmp_path: Path
) -> None:
    """Scaled up and down, turned, cut, mirrored, darkened: 20 pictures of many shapes that every clone can make."""
    height, width = portrait.shape[:2]
    images = [cv2.resize(portrait, None, fx=f, fy=f, interpolation=cv2.INTER_AREA) for f in (0.2, 0.35, 0.5, 0.8, 1.7)]
    images += [cv2.resize(portrait, size) for size in ((640, 640), (320, 320), (1280, 1280), (900, 300))]
    images += [portrait, portrait[:, ::-1], portrait[: height // 2], portrait[:, width // 4 :], portrait // 3]
    images += [np.hstack((portrait,) * n) for n in (2, 3)] + [np.vstack((portrait,) * 2), np.tile(portrait, (3, 3, 1))]
    images += [np.rot90(portrait), np.full((48, 64, 3), 128, np.uint8)]
    assert len(images) == 20
    counts = assert_python_faces(jvm, model, library, tmp_path, images)
    assert counts[9] == 1 and counts[-1] == 0 and max(counts) >= 9


def test_meshes_of_pictures(jvm: toolchain.Jvm, library: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    """Pictures of exactly the input's size: the network's input is then the same whatever OpenCV rounds."""
    model = tmp_path / "mesh.tflite"
    model.write_bytes(build_mesh_model())
    corners = [(y, x) for y in (0, 90, 180, 400) for x in (0, 150, 300, 410)]
    images = [np.ascontiguousarray(portrait[y : y + HEIGHT, x : x + WIDTH]) for y, x in corners]
    exchange.write_images(tmp_path / "images.bin", images)
    jvm.proof("photo_meshes", library, model, tmp_path / "images.bin", tmp_path / "meshes.bin")
    count = 0
    with FaceDetector(model, num_threads=1) as detector:
        for image, found in zip(images, exchange.read_meshes(tmp_path / "meshes.bin", len(images)), strict=True):
            wanted = detector.detect(image)
            assert wanted.mesh is not None and wanted.pose is not None and len(found) == len(wanted)
            np.testing.assert_allclose(found["vertices"], wanted.mesh, rtol=0, atol=1e-3)
            np.testing.assert_allclose(found["pose"], wanted.pose, rtol=0, atol=1e-2)
            count += len(found)
    assert count > 10


@pytest.mark.shared_data
def test_twenty_photos(jvm: toolchain.Jvm, model: Path, library: Path, shared_data: Path, tmp_path: Path) -> None:
    groups = sorted((shared_data / "groups" / "images").rglob("*.jpg"))[::60][:10]
    photos = groups + sorted((shared_data / "wider" / "dev" / "images").rglob("*.jpg"))[::30][:10]
    assert len(photos) == 20
    counts = assert_python_faces(jvm, model, library, tmp_path, [read_image(photo) for photo in photos])
    assert sum(counts) > 50


def test_picture_of_the_overlay(jvm: toolchain.Jvm, model: Path, library: Path, root: Path, tmp_path: Path) -> None:
    """The app's screen for the portrait, read by Java's own JPEG decoder; kept for people to look at."""
    output = toolchain.BUILD / "overlay.png"
    assert jvm.proof("picture", library, model, portrait_path(), output).startswith("1 faces\n")
    screen = read_image(output)
    assert screen.shape == (1280, 720, 3)
    # The box's green is on the screen, the landmarks' blue inside it.
    green = np.argwhere((screen == (0xAE, 0xF0, 0x69)).all(axis=2))
    blue = np.argwhere((screen == (0xF7, 0xC3, 0x4F)).all(axis=2))
    assert len(green) > 200 and len(blue) > 20
    assert (green.min(axis=0) < blue.min(axis=0)).all() and (green.max(axis=0) > blue.max(axis=0)).all()
