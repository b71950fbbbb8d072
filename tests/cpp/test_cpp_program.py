"""The example program and the C interface: the faces that Python finds with the shipped models."""

from __future__ import annotations

import ctypes
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from benchmarks import cpp_speed
from tests.cpp import build
from tests.tflite import fuzz
from tests.tflite.conftest import build_mesh_model
from tflite.detector import FaceDetector
from tflite.postprocess import Detections
from tflite.results import faces_json
from tflite.shipped import find_model, model_names
from tflite.spec import attach_spec, read_spec

TOLERANCE = 0.5  # pixels
# The reports of memory that LiteRT itself keeps to the end of the process are not ours.
SANITIZER = {"LSAN_OPTIONS": "suppressions=tests/cpp/lsan.supp:print_suppressions=0"}


def assert_python_faces(found: list[dict[str, object]], wanted: Detections, name: str) -> None:
    assert len(found) == len(wanted), name
    for face, expected in zip(found, wanted.to_list(), strict=True):
        np.testing.assert_allclose(face["box"], expected["box"], rtol=0, atol=TOLERANCE, err_msg=name)
        np.testing.assert_allclose(face["landmarks"], expected["landmarks"], rtol=0, atol=TOLERANCE, err_msg=name)
        assert abs(float(str(face["score"])) - expected["score"]) < 0.02, name


@pytest.fixture(scope="module")
def files(twenty: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i}{'.png' if i % 2 else '.jpg'}" for i in range(len(twenty))]
    for path, picture in zip(paths, twenty, strict=True):
        assert cv2.imwrite(str(path), picture)
    return paths


def run_program(program: Path, model: Path, files: list[Path], *flags: str) -> dict[str, list[dict[str, object]]]:
    done = build.run([program, "--model", model, *flags, *files], **SANITIZER)
    assert done.returncode == 0, done.stderr
    assert "ERROR: " not in done.stderr and "runtime error" not in done.stderr, done.stderr
    faces = json.loads(done.stdout)
    assert faces_json(faces) == done.stdout  # the very text of tflite.detect --json
    assert list(faces) == list(map(str, files))
    return dict(faces)


@pytest.mark.parametrize("name", model_names())
def test_faces_of_twenty_pictures(program: Path, files: list[Path], name: str) -> None:
    model = find_model(name)
    faces = run_program(program, model, files)
    with FaceDetector(model, num_threads=1) as detector:
        for path in files:
            assert_python_faces(faces[str(path)], detector.detect(path), f"{name}, {path.name}")
    counts = [len(faces[str(path)]) for path in files]
    assert counts[9] == 1 and max(counts) >= 8


@pytest.fixture(scope="module")
def mesh_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a mesh."""
    path = tmp_path_factory.mktemp("model") / "mesh.tflite"
    path.write_bytes(build_mesh_model())
    return path


def test_meshes_and_poses(program: Path, files: list[Path], mesh_model: Path) -> None:
    pictures = files[1::2]  # those without loss
    faces = run_program(program, mesh_model, pictures, "--mesh", "--pose")
    meshes = 0
    with FaceDetector(mesh_model, num_threads=1) as detector:
        for path in pictures:
            wanted = detector.detect(path)
            assert_python_faces(faces[str(path)], wanted, path.name)
            for face, expected in zip(faces[str(path)], wanted.to_list(mesh=True, pose=True), strict=True):
                np.testing.assert_allclose(face["mesh"], expected["mesh"], rtol=1e-6, atol=0.0101, err_msg=path.name)
                assert isinstance(face["pose"], dict) and list(face["pose"]) == ["yaw", "pitch", "roll"]
                angles = list(face["pose"].values())
                np.testing.assert_allclose(angles, list(expected["pose"].values()), rtol=0, atol=0.0101)
                meshes += 1
    assert meshes > 20
    assert set(run_program(program, mesh_model, pictures[:1])[str(pictures[0])][0]) == {"box", "score", "landmarks"}


@pytest.mark.shared_data
def test_faces_of_twenty_photos(program: Path, shared_data: Path) -> None:
    photos = sorted((shared_data / "wider" / "dev" / "images").rglob("*.jpg"))[7::15][:20]
    assert len(photos) == 20
    model = find_model(None)
    faces = run_program(program, model, photos)
    with FaceDetector(model, num_threads=1) as detector:
        for photo in photos:
            assert_python_faces(faces[str(photo)], detector.detect(photo), photo.name)
    assert sum(map(len, faces.values())) > 50


def test_metadata_that_contradicts_the_tensors(program: Path, files: list[Path], tmp_path: Path) -> None:
    content = find_model("fast_320").read_bytes()
    spec = read_spec(content)
    flatbuffer = fuzz.split(content)[0]
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(attach_spec(flatbuffer, replace(spec, input_height=640)))
    done = build.run([program, "--model", wrong, files[9]], **SANITIZER)
    assert done.returncode == 1
    assert "tensor image has another shape than its metadata needs" in done.stderr


def test_errors_are_one_line(program: Path, files: list[Path], tmp_path: Path) -> None:
    model = find_model("fast_320")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(files[0].read_bytes()[:1000])
    cases = (
        ([], "usage:"),
        (["--model", model], "usage:"),
        (["--model", tmp_path / "none.tflite", files[0]], "cannot read the model"),
        (["--model", files[0], files[0]], "not a TFLite model"),
        (["--model", model, "--threads", "none", files[0]], "expected a number from 1 to 256"),
        (["--model", model, "--faces", "1", files[0]], "unknown flag --faces"),
        (["--model", model, "--pose", files[0]], "has no mesh, expected a model with one for --pose"),
        (["--model", model, cut], "expected a complete picture"),
        (["--model", model, model], "neither JPEG nor PNG"),
    )
    for arguments, message in cases:
        done = build.run([program, *arguments], **SANITIZER)
        assert done.returncode == 1, arguments
        # LiteRT tells of its delegate, and has no setting for it.
        lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
        assert len(lines) == 1 and message in lines[0], (arguments, done.stderr)


def test_one_bad_picture_leaves_the_others(program: Path, files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / 'a "bad"\\name.png'
    bad.write_bytes(b"\x89PNG")
    done = build.run([program, "--model", find_model("fast_320"), bad, files[9]], **SANITIZER)
    assert done.returncode == 1 and list(json.loads(done.stdout)) == [str(files[9])]


class CFace(ctypes.Structure):
    _fields_ = (("box", ctypes.c_float * 4), ("score", ctypes.c_float), ("landmarks", ctypes.c_float * 10))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefix of what cmake --install installs; beside it `build`, with the program that only runs LiteRT."""
    build.need("cmake")
    build.need(build.COMPILERS[0])
    folder = tmp_path_factory.mktemp("cmake")
    cpp_speed.build(folder / "build")
    done = build.run(["cmake", "--install", folder / "build", "--prefix", folder / "prefix"])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "prefix"


def c_library(installed: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(next(installed.glob("lib*/**/libretinaface.so"))))
    library.retinaface_open.restype = ctypes.c_void_p
    library.retinaface_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
    library.retinaface_close.argtypes = (ctypes.c_void_p,)
    library.retinaface_detect.argtypes = (
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t, ctypes.c_int),
        *(ctypes.c_double, ctypes.POINTER(CFace), ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t),
    )
    return library


def test_c_interface(installed: Path, twenty: list[np.ndarray]) -> None:
    library = c_library(installed)
    error = ctypes.create_string_buffer(200)
    model = find_model(None)
    assert not library.retinaface_open(b"none.tflite", 1, error, 200)
    assert error.value == b"none.tflite: cannot read the model"
    assert not library.retinaface_open(b"none.tflite", 1, error, 8) and error.value == b"none.tf"
    assert not library.retinaface_open(b"none.tflite", 1, None, 0)
    assert not library.retinaface_open(None, 1, error, 200) and not library.retinaface_open(b"m", 0, error, 200)
    detector = library.retinaface_open(str(model).encode(), 1, error, 200)
    assert detector, error.value
    faces = (CFace * 10)()

    def detect(pixels: np.ndarray, order: int = 0, stride: int | None = None, capacity: int = 10) -> int:
        height, width = pixels.shape[:2]
        start = pixels.ctypes.data if stride is None or stride > 0 else pixels[-1].ctypes.data
        step = pixels.strides[0] if stride is None else stride
        return int(
            library.retinaface_detect(
                detector, start, width, height, step, order, -1.0, faces, capacity, error, len(error)
            )
        )

    with FaceDetector(model, num_threads=1) as python:
        for picture in (twenty[9], twenty[15], twenty[19], twenty[9]):  # the first shape again, from those kept
            wanted = python.detect(picture)
            assert detect(picture) == len(wanted)
            for face, expected in zip(faces, wanted, strict=False):
                np.testing.assert_allclose(face.box, expected.box, rtol=0, atol=TOLERANCE)
                np.testing.assert_allclose(face.landmarks, np.ravel(expected.landmarks), rtol=0, atol=TOLERANCE)
                assert abs(face.score - expected.score) < 0.02
    one = twenty[9]
    wanted_box = list(faces[0].box)
    rgba = cv2.cvtColor(one, cv2.COLOR_BGR2RGBA)
    upside_down = np.ascontiguousarray(one[::-1])
    assert detect(rgba, order=3) == 1 and list(faces[0].box) == wanted_box
    assert detect(upside_down, stride=-upside_down.strides[0]) == 1 and list(faces[0].box) == wanted_box
    assert detect(np.hstack((one, one)), capacity=1) == 2  # the second is counted, not written
    assert detect(one, stride=10) == -1 and b"expected at least 1536" in error.value
    assert detect(one, order=9) == -1 and error.value.endswith(b"unknown channel order")
    assert library.retinaface_invoke(ctypes.c_void_p(detector), error, 200) == 0
    library.retinaface_close(detector)
    library.retinaface_close(None)


def test_what_is_installed(installed: Path, tmp_path: Path) -> None:
    """The program, small and with its libraries found; a C compiler takes the header; CMake finds the package."""
    program = next(installed.glob("bin/retinaface_detect"))
    library = next(installed.glob("lib*/**/libretinaface.so")).resolve()
    assert program.stat().st_size < 1_000_000 and library.stat().st_size < 1_000_000
    assert build.run([program]).stderr.startswith("retinaface_detect: usage:")
    assert (installed / "include" / "retinaface" / "litert.hpp").is_file()
    c_source = tmp_path / "main.c"
    c_source.write_text(
        "#include <retinaface/retinaface.h>\n#include <stdio.h>\nint main(void) {\n  char error[200];\n"
        '  if (retinaface_open("none.tflite", 1, error, sizeof error) != NULL) return 1;\n'
        "  puts(error);\n  return 0;\n}\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C CXX)\nfind_package(retinaface REQUIRED)\n"
        "add_executable(user main.c)\ntarget_link_libraries(user retinaface::retinaface)\n"
        'set(CMAKE_C_FLAGS "-std=c99 -Wall -Wextra -Werror -pedantic")\n'
    )
    if shutil.which("cc") is None:
        build.unavailable("cc is not installed")
    for command in (
        ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}"],
        ["cmake", "--build", tmp_path / "build"],
    ):
        done = build.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = build.run([tmp_path / "build" / "user"])
    assert (done.returncode, done.stdout) == (0, "none.tflite: cannot read the model\n"), done.stderr


def test_speed(installed: Path, twenty: list[np.ndarray]) -> None:
    """In processor time, which other work on the machine hardly changes."""
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    starts = cpp_speed.cold_starts(installed.parent / "build", find_model(None), photo, 5)
    assert starts["retinaface_detect"]["processor"]["least"] <= 40
    assert starts["LiteRT alone"]["clock"]["least"] > 1
    sizes = {(640, 640): 1.12, (1024, 754): 1.15}  # the second is scaled, row by row
    pictures = {str(size): cv2.resize(twenty[9], size) for size in sizes}
    rows = cpp_speed.end_to_end(installed.parent / "build", find_model(None), pictures, 40)
    for row, most in zip(rows, sizes.values(), strict=True):
        assert row["ratio"] <= most, row
