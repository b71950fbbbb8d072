"""Meshes from coefficients, poses from meshes, and the basis in a model file."""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from tflite.decode import Candidates
from tflite.detect_options import DetectOptions
from tflite.detector import FaceDetector
from tflite.draw import draw_detections
from tflite.finder import load_detector
from tflite.interpreter import ModelError
from tflite.mesh import (
    LARGEST_COEFFICIENT,
    MESH_FILE,
    SHAPE_VALUES,
    VERTICES,
    MeshBasis,
    MeshOutputs,
    attach_basis,
    axes,
    basis_from_bytes,
    placed,
    read_basis,
)
from tflite.outputs import UsageError
from tflite.postprocess import Detections, detections_from_candidates, joined
from tflite.shipped import find_model
from tflite.spec import ModelSpec, SpecError, attach_spec, read_model, read_spec
from tflite.tiling import merge_parts
from tflite.turns import detect_any_rotation, turned_back

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(32)


def make_basis(count: int = 4, seed: int = 0) -> MeshBasis:
    rng = np.random.default_rng(seed)
    return MeshBasis(
        rng.normal(0, 0.3, (VERTICES, 3)).astype(np.float16).astype(np.float32),
        rng.normal(0, 0.1, (count, VERTICES, 3)).astype(np.float16).astype(np.float32),
    )


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The matrix for angles in degrees as `MeshBasis.poses` names them: x right, y down, z away from the camera."""
    return axes(np.array([yaw, pitch, roll])).T @ np.diag([1, 1, -1])


def test_a_vertex_by_hand() -> None:
    basis = make_basis(2)
    boxes = np.array([[10, 20, 50, 110]], np.float32)  # centre 30, 65; √(40·90) = 60
    found = placed(basis.in_box_units(np.array([[2.0, -1.0]], np.float32)), boxes)
    shape = basis.mean[7] + 2 * basis.shapes[0, 7] - basis.shapes[1, 7]
    np.testing.assert_allclose(found[0, 7], 60 * shape + [30, 65, 0], rtol=1e-5)
    assert found.shape == (1, VERTICES, 3) and found.dtype == np.float32


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (0, -25, 0), (0, 0, 170), (-80, 20, 40), (120, 5, -60)])
def test_pose_of_a_turned_mean_face(angles: tuple[float, float, float]) -> None:
    basis = make_basis()
    turned = 7.5 * basis.mean @ rotation(*angles).T + [100, 40, -3]
    np.testing.assert_allclose(basis.poses(np.stack([turned, turned])), [angles, angles], atol=1e-3)


def test_signs_of_a_pose() -> None:
    assert axes(np.zeros(3)).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, -1]]  # the nose points at the camera
    assert axes(np.array([20, 0, 0]))[2, 0] > 0  # to the right of the picture
    assert axes(np.array([0, 20, 0]))[2, 1] < 0  # up
    assert axes(np.array([0, 0, 20]))[0, 1] > 0  # the right eye goes down: clockwise
    np.testing.assert_allclose(axes(np.array([90, 0, 0]))[2], [1, 0, 0], atol=1e-12)


def test_a_mirrored_mesh_is_no_reflection() -> None:
    basis = make_basis()
    assert np.isfinite(basis.poses((basis.mean * [-1, 1, 1])[None])).all()
    assert basis.poses(np.zeros((0, VERTICES, 3))).shape == (0, 3)
    assert np.isfinite(basis.poses(np.zeros((1, VERTICES, 3)))).all()


def outputs(count: int, dtype: type, strides: tuple[int, ...] = (8, 16)) -> dict[str, np.ndarray]:
    """mesh_8 of 4×4 cells and mesh_16 of 2×2, two anchors each."""
    rng = np.random.default_rng(1)
    shapes = {f"mesh_{stride}": (1, 32 // stride, 32 // stride, 2 * count) for stride in strides}
    if dtype is np.int8:
        return {name: rng.integers(-128, 128, shape, np.int8) for name, shape in shapes.items()}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def test_coefficients_are_those_of_the_anchor() -> None:
    basis, quantization = make_basis(3), {"mesh_8": (0.5, 3), "mesh_16": (0.25, -2)}
    tensors = outputs(3, np.int8)
    reader = MeshOutputs(basis, tensors, (8, 16), quantization)
    # Anchor 13 of stride 8: cell 6, which is row 1, column 2, its second anchor. Then the third of stride 16.
    found = reader.coefficients(np.array([32 + 2, 13]))
    np.testing.assert_array_equal(found[1], (tensors["mesh_8"][0, 1, 2, 3:].astype(np.float32) - 3) * 0.5)
    np.testing.assert_array_equal(found[0], (tensors["mesh_16"][0, 0, 1, :3].astype(np.float32) + 2) * 0.25)
    floats = outputs(3, np.float32)
    np.testing.assert_array_equal(
        MeshOutputs(basis, floats, (8, 16)).coefficients(np.array([0])), floats["mesh_8"][0, :1, 0, :3]
    )


def test_numbers_that_are_none_give_finite_meshes() -> None:
    floats = outputs(3, np.float32)
    floats["mesh_8"][0, 0, 0, :3] = np.nan, np.inf, -np.inf
    reader = MeshOutputs(make_basis(3), floats, (8, 16))
    assert reader.coefficients(np.array([0])).tolist() == [[0, LARGEST_COEFFICIENT, -LARGEST_COEFFICIENT]]
    huge = np.array([[-3e38, -3e38, 3e38, 3e38]], np.float32)
    found = Candidates(huge, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32), np.zeros(1, np.int64))
    faces = detections_from_candidates(found, ModelSpec(), (100, 100), 1.0, mesh_of=reader)
    assert faces.mesh is not None and np.isfinite(faces.mesh).all() and np.isfinite(faces.pose).all()


def test_meshes_of_the_faces_that_stay() -> None:
    reader = MeshOutputs(make_basis(3), outputs(3, np.float32), (8, 16))
    boxes = np.array([[0, 0, 20, 20], [40, 40, 60, 70], [41, 40, 60, 70]], np.float32)
    logits, anchors = np.array([1, 2, 3], np.float32), np.array([4, 9, 33])
    found = Candidates(boxes, logits, np.zeros((3, 5, 2), np.float32), anchors)
    faces = detections_from_candidates(found, ModelSpec(), (400, 400), 0.5, mesh_of=reader)
    mesh, pose = reader(anchors[[2, 0]], boxes[[2, 0]])
    np.testing.assert_allclose(faces.mesh, mesh / 0.5, rtol=1e-6)
    np.testing.assert_array_equal(faces.pose, pose)


def test_file_and_back() -> None:
    basis = make_basis(16)
    model = attach_basis(attach_spec(FLATBUFFER, ModelSpec()), basis)
    found = read_basis(model)
    assert found is not None and found.coefficients == 16
    np.testing.assert_array_equal(found.mean, basis.mean)
    np.testing.assert_array_equal(found.shapes, basis.shapes)
    assert len(model) - len(FLATBUFFER) < 60_000 and read_spec(model) == ModelSpec()
    assert read_basis(attach_spec(FLATBUFFER, ModelSpec())) is None
    # A reader in another language needs no more than this.
    data = zipfile.ZipFile(io.BytesIO(model)).read("mesh.f16")
    numbers = np.frombuffer(data, "<f2").reshape(-1, 468, 3)
    np.testing.assert_array_equal(numbers[1:], basis.shapes)


@pytest.mark.parametrize("size", [0, 2 * SHAPE_VALUES, 4 * SHAPE_VALUES - 1, 2 * SHAPE_VALUES * 66])
def test_a_basis_of_another_size(size: int) -> None:
    with pytest.raises(SpecError, match=rf"m.tflite: mesh.f16 has {size} bytes, expected 2808 for each of 2 to 65"):
        basis_from_bytes(bytes(size), "m.tflite")


def test_a_basis_that_is_not_finite_or_damaged() -> None:
    data = np.zeros(2 * SHAPE_VALUES, "<f2")
    data[5] = np.inf
    with pytest.raises(SpecError, match="not finite"):
        basis_from_bytes(data.tobytes(), "m")
    model = bytearray(attach_basis(FLATBUFFER, make_basis()))
    model[len(FLATBUFFER) + 100] ^= 1
    with pytest.raises(SpecError, match=f"no readable {MESH_FILE}"):
        read_basis(bytes(model))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MESH_FILE, bytes(50_000_000))
    with pytest.raises(SpecError, match=r"larger than 182520 bytes"):  # of which no more is read
        read_basis(bomb.getvalue())


def with_meshes(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (count, 2)).astype(np.float32)
    boxes = np.concatenate((corners, corners + 40), axis=1)
    mesh = rng.normal(20, 5, (count, VERTICES, 3)).astype(np.float32)
    pose = rng.uniform(-90, 90, (count, 3)).astype(np.float32)
    return Detections(
        boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), boxes.reshape(-1, 2, 2).repeat(3, 1)[:, :5], mesh, pose
    )


def test_parts_keep_their_meshes() -> None:
    faces = with_meshes(3)
    assert faces[[0, 2]].mesh is not None and faces.mesh is not None and faces.pose is not None
    np.testing.assert_array_equal(faces[[0, 2]].mesh, faces.mesh[[0, 2]])
    assert joined([faces[:1], faces[1:]]) == faces
    plain = Detections(faces.boxes, faces.scores, faces.landmarks)
    assert plain != faces and joined([plain]) == plain and plain[:2].mesh is None
    one = faces[:1]
    assert merge_parts([one, one[:0]], ModelSpec(), 0.4) == one


def test_json_on_request() -> None:
    faces = with_meshes(2)
    assert faces.pose is not None
    assert set(faces.to_list()[0]) == {"box", "score", "landmarks"}
    face = faces.to_list(mesh=True, pose=True)[1]
    assert list(face["pose"]) == ["yaw", "pitch", "roll"] and len(face["mesh"]) == VERTICES
    assert face["pose"]["roll"] == round(float(faces.pose[1, 2]), 2)
    plain = Detections(faces.boxes, faces.scores, faces.landmarks)
    assert set(plain.to_list(mesh=True, pose=True)[0]) == {"box", "score", "landmarks"}


@pytest.mark.parametrize("turns", range(4))
def test_turned_back(turns: int) -> None:
    basis = make_basis()
    mesh = (10 * basis.mean @ rotation(10, -5, 15).T + [30, 20, 0]).astype(np.float32)[None]
    # As the picture of 60×80 turned counter-clockwise shows it.
    x, y, z = np.moveaxis(mesh, -1, 0)
    for step in range(turns):
        x, y = y, (80 if step % 2 == 0 else 60) - x
    there = np.stack((x, y, z), axis=-1)
    box = np.array([[10, 5, 50, 40]], np.float32)
    faces = Detections(box, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32), there, basis.poses(there))
    back = turned_back(faces, turns, (60, 80))
    np.testing.assert_allclose(back.mesh, mesh, atol=1e-4)
    np.testing.assert_allclose(back.pose, [[10, -5, 15]], atol=1e-2)


def test_any_rotation_keeps_meshes() -> None:
    faces = with_meshes(1)
    found = detect_any_rotation(lambda image: faces if image.shape[0] == 100 else faces[:0], np.zeros((100, 200, 3)))
    assert found.mesh is not None and len(found.mesh) == len(found)


def test_fifty_meshes_take_no_time() -> None:
    basis = make_basis(16)
    tensors = {f"mesh_{s}": np.ones((1, 640 // s, 640 // s, 32), np.int8) for s in (8, 16, 32)}
    reader = MeshOutputs(basis, tensors, (8, 16, 32), dict.fromkeys(tensors, (0.05, 0)))
    anchors, boxes = np.arange(0, 16800, 336), np.tile(np.float32([10, 10, 60, 80]), (50, 1))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        reader(anchors, boxes)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005  # 1 ms on a free core


def test_a_basis_without_its_outputs() -> None:
    model = read_model(find_model("fast_320"))
    with pytest.raises(ModelError, match="no output 'mesh_8'"):
        FaceDetector(attach_basis(model, make_basis(16)))


@pytest.mark.parametrize("flag", ["mesh", "pose"])
def test_flags_need_a_model_with_a_mesh(flag: str) -> None:
    with pytest.raises(UsageError, match=f"has no mesh, expected a model with one for --{flag}"):
        load_detector(replace(DetectOptions(model="fast_320"), **{flag: True}), 1)


def test_drawing() -> None:
    faces = with_meshes(1)
    image = np.zeros((100, 100, 3), np.uint8)
    plain = draw_detections(image, faces)
    dots, lines = draw_detections(image, faces, mesh=True), draw_detections(image, faces, pose=True)
    assert faces.mesh is not None
    x, y, _ = np.rint(faces.mesh[0, faces.mesh[0, :, 2].argmin()]).astype(int)  # the nearest vertex, drawn last
    assert dots[y, x].tolist() == [255, 255, 0] and not np.array_equal(lines, plain)
    without = Detections(faces.boxes, faces.scores, faces.landmarks)
    np.testing.assert_array_equal(draw_detections(image, without, mesh=True, pose=True), plain)
