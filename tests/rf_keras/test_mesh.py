"""The teacher's meshes as targets, their basis, and errors against them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from rf_keras.config import FAST, ModelConfig, check_no_mesh
from rf_keras.labels import Sample
from rf_keras.mesh import targets
from rf_keras.mesh.basis import fit_basis, in_box_units, stored_basis, text_of
from rf_keras.mesh.evaluation import MeshResults, evaluate_meshes, mesh_errors, paired
from rf_keras.mesh.mirror import MIRROR, mirrored
from rf_keras.mesh.targets import mesh_targets
from rf_keras.mesh.teacher import CROP_SIZE, MeshTeacher, crop_matrix
from rf_keras.model import build_model, flatten_outputs, output_names
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.mesh import VERTICES, MeshBasis, placed
from tflite.postprocess import Detections


def faces_of(count: int, seed: int = 0) -> np.ndarray:
    """Meshes in box units that two numbers describe, each mirrored one too."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 0.3, (VERTICES, 3))
    mean = (mean + mirrored(mean)) / 2
    shapes = rng.normal(0, 0.1, (2, VERTICES, 3))
    shapes = np.stack([shapes[0] + mirrored(shapes[0]), shapes[1] - mirrored(shapes[1])])
    return (mean + np.tensordot(rng.normal(0, 1, (count, 2)), shapes, 1)).astype(np.float32)


def test_mirror() -> None:
    assert (MIRROR[MIRROR] == np.arange(VERTICES)).all() and (np.arange(VERTICES) == MIRROR).sum() == 28
    # Outer corners of the eyes, corners of the mouth, edges of the face; the nose is in the middle.
    assert [int(MIRROR[i]) for i in (33, 61, 234, 1)] == [263, 291, 454, 1]
    meshes = faces_of(2)
    np.testing.assert_array_equal(mirrored(mirrored(meshes)), meshes)


def test_basis_of_meshes_that_two_numbers_describe() -> None:
    meshes = faces_of(60)
    basis, share = fit_basis(meshes, 2)
    assert share > 0.9999
    flat = (meshes - basis.mean).reshape(60, -1)
    shapes = basis.shapes.reshape(2, -1)
    coefficients = flat @ np.linalg.pinv(shapes)
    np.testing.assert_allclose(basis.in_box_units(coefficients), meshes, atol=2e-3)
    assert 0.7 < np.sqrt((coefficients**2).mean()) < 1.4  # 1 is a usual one
    np.testing.assert_allclose(mirrored(basis.mean), basis.mean, atol=1e-3)
    with pytest.raises(ValueError, match="1 meshes, expected at least 2"):
        fit_basis(meshes[:1], 2)


def test_basis_in_a_weights_file() -> None:
    basis, _ = fit_basis(faces_of(9), 2)
    found = stored_basis({"mesh": text_of(basis)}, 2, "w")
    assert found is not None
    np.testing.assert_array_equal(found.shapes, basis.shapes)
    assert stored_basis({}, 0, "w") is None
    for meta, coefficients, told in (
        ({}, 2, "no usable basis"),
        ({"mesh": "?"}, 2, "no usable basis"),
        ({"mesh": text_of(basis)}, 3, "2 shapes, the network has 3"),
    ):
        with pytest.raises(ValueError, match=f"w: .*{told}"):
            stored_basis(meta, coefficients, "w")


def test_box_units_and_back() -> None:
    meshes, boxes = faces_of(3), np.array([[0, 0, 30, 40], [5, 5, 15, 95], [-9, 2, 60, 50]], np.float32)
    meshes[..., 2] -= meshes[..., 2].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(in_box_units(placed(meshes, boxes), boxes), meshes, atol=1e-5)


def test_crop() -> None:
    box = np.array([100, 50, 140, 130])  # its longer side is 80: 120 pixels become 192
    matrix = crop_matrix(box, np.array([[100, 80], [130, 110]]))
    np.testing.assert_allclose(matrix @ [120, 90, 1], [CROP_SIZE / 2] * 2)
    left, right = matrix @ [100, 80, 1], matrix @ [130, 110, 1]
    assert right[1] == pytest.approx(left[1]) and right[0] - left[0] == pytest.approx(np.hypot(30, 30) * 1.6)
    for eyes in (None, np.array([[7, 7], [7, 7]])):
        np.testing.assert_allclose(crop_matrix(box, eyes)[:, :2], np.eye(2) * 1.6)


class StubTeacher:
    """Says of each box that its mesh is a grid in it; of a dark picture that there is no face."""

    asked = 0

    def __call__(self, image: np.ndarray, box: np.ndarray, eyes: np.ndarray | None) -> tuple[np.ndarray, float, float]:
        StubTeacher.asked += 1
        mesh = np.zeros((VERTICES, 3), np.float32)
        mesh[:, 0] = np.linspace(box[0], box[2], VERTICES)
        mesh[:, 1] = np.linspace(box[1], box[3], VERTICES)
        if eyes is None:
            mesh[:, :2] += 60  # of another face
        return mesh, float(image.mean() > 50), 2.0


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """A bright and a dark picture; the bright one has a good face, a small one, and one that the teacher misses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(targets, "MeshTeacher", StubTeacher)
    StubTeacher.asked = 0
    boxes = np.array([[10, 10, 30, 60], [10, 10, 50, 90], [100, 10, 140, 90]], np.float32)
    points = np.full((3, 5, 2), 20, np.float32)
    points[2] = -1
    found = []
    for number, value in enumerate((200, 20)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((100, 200, 3), value, np.uint8))
        found.append(Sample(path, boxes, points))
    return found


def test_targets(samples: list[Sample]) -> None:
    found = mesh_targets(samples, "test")
    assert (found.sample.tolist(), found.face.tolist()) == ([0], [1]) and StubTeacher.asked == 4
    np.testing.assert_allclose(found.meshes[0, -1], [50, 90, 0])
    assert found.apart == pytest.approx(2 / np.sqrt(40 * 80))
    assert len(found.part(found.apart > 1).meshes) == 0


def test_targets_are_kept_by_content(samples: list[Sample], capsys: pytest.CaptureFixture[str]) -> None:
    first = mesh_targets(samples, "test")
    again = mesh_targets(samples, "test")
    assert (
        StubTeacher.asked == 4 and np.array_equal(first.meshes, again.meshes) and np.array_equal(first.face, again.face)
    )
    (kept,) = (samples[0].image.parent / "cache" / "retinaface-keras" / "mesh").iterdir()
    kept.write_bytes(b"PK damaged")
    assert len(mesh_targets(samples, "test").face) == 1 and StubTeacher.asked == 8
    assert "damaged" in capsys.readouterr().err
    cv2.imwrite(str(samples[1].image), np.full((100, 200, 3), 220, np.uint8))
    assert len(mesh_targets(samples, "test").face) == 2


def test_the_real_teacher() -> None:
    image = read_image(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    face = FaceDetector("fast_320", num_threads=1).detect(image)[0]
    mesh, presence, apart = MeshTeacher()(image, np.array(face.box), np.array(face.landmarks[:2]))
    side = face.box.x2 - face.box.x1
    assert presence > 0.9 and apart < 0.05 * side
    # The middle of each eye, the tip of the nose, the corners of the mouth.
    points = np.stack([mesh[[33, 133]].mean(axis=0), mesh[[362, 263]].mean(axis=0), mesh[1], mesh[61], mesh[291]])
    assert np.abs(points[:, :2] - np.array(face.landmarks)).max() < 0.1 * side
    assert mesh[1, 2] < mesh[[234, 454], 2].min() - 0.2 * side  # the nose is nearer than the ears
    assert abs(mesh[:, 2].mean()) < 1e-2


def test_errors() -> None:
    expected = np.zeros((1, VERTICES, 3))
    flat, deep = mesh_errors(expected + np.array([3, 4, 12]), expected)
    assert flat.tolist() == [pytest.approx(5)] and deep.tolist() == [pytest.approx(13)]


def test_pairs_one_to_one() -> None:
    labelled = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)
    found = np.array([[1.8, 0, 11.8, 10], [52, 58, 70, 80]], np.float32)
    assert paired(labelled, found) == {1: 0}
    assert paired(labelled[:0], found) == {} == paired(labelled, found[:0])


def test_evaluation_by_hand(samples: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    basis = MeshBasis(rng.normal(0, 0.3, (VERTICES, 3)).astype(np.float32), np.zeros((1, VERTICES, 3), np.float32))
    found = dataclasses.replace(mesh_targets(samples, "test"), meshes=40 * basis.mean[None])

    class Stub:
        """Finds the labelled face, its mesh 2 pixels to the right and 7 deeper; the depth does not count."""

        def __init__(self) -> None:
            self.basis = basis

        def detect(self, image: np.ndarray) -> Detections:
            box, mesh = samples[0].boxes[1:2], 40 * basis.mean[None] + np.array([2, 0, 7], np.float32)
            level = 40 * basis.mean[:, 2].mean()
            mesh[..., 2] -= level
            return Detections(
                box, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32), mesh, np.float32([[1, 2, -359]])
            )

    shallow = found.meshes - np.array([0, 0, 40 * basis.mean[:, 2].mean()], np.float32)
    results = evaluate_meshes(Stub(), dataclasses.replace(found, meshes=shallow))  # type: ignore[arg-type]
    row = results.table()["32 to 64 px"]
    unit = 100 / np.sqrt(40 * 80)
    assert row == {"faces": 1, "2d": round(2 * unit, 2), "3d": round(2 * unit, 2), "yaw": 1, "pitch": 2, "roll": 1}
    assert results.table()["from 64 px"] == {"faces": 0} and results.targets == 1


def line_results(count: int, seed: int) -> MeshResults:
    """Faces whose vertices are a linear function of their five points in the box, and of nothing else."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 50, (count, 2))
    boxes = np.column_stack((boxes, boxes + rng.uniform(100, 200, (count, 2))))
    sides = boxes[:, 2:] - boxes[:, :2]
    unit = np.sqrt(sides.prod(axis=1))
    points = rng.normal(0, 0.2, (count, 5, 2))
    line = np.random.default_rng(9).normal(0, 0.1, (10, 3 * VERTICES))
    meshes = (points.reshape(count, -1) @ line).reshape(count, VERTICES, 3) * unit[:, None, None]
    centres = np.column_stack(((boxes[:, :2] + boxes[:, 2:]) / 2, np.zeros(count)))[:, None]
    landmarks = points * unit[:, None, None] + centres[..., :2]
    faces = Detections(boxes, np.ones(count), landmarks, meshes + centres, np.zeros((count, 3)))
    none = np.zeros(count)
    return MeshResults(count, faces, meshes + centres, none, sides.min(axis=1), unit, none, none, none)


def test_a_line_from_five_points() -> None:
    training, results = line_results(40, 0), line_results(7, 1)
    assert results.line_from_points(training) == {"faces": 7, "2d": 0.0, "3d": 0.0}
    # Where the teacher is not sure nothing is learned: a tenth of √(w·h) off there changes nothing.
    wrong = training.meshes + np.where(np.arange(40) % 2, 0.1, 0)[:, None, None] * training.unit[:, None, None]
    unsure = dataclasses.replace(training, meshes=wrong, apart=np.where(np.arange(40) % 2, 1.0, 0.0))
    assert results.line_from_points(unsure) == {"faces": 7, "2d": 0.0, "3d": 0.0}
    # The teacher's meshes 3 % further right.
    shifted = dataclasses.replace(results, meshes=results.meshes + [0.03, 0, 0] * results.unit[:, None, None])
    assert shifted.line_from_points(training) == {"faces": 7, "2d": 3.0, "3d": 3.0}
    small = dataclasses.replace(results, side=np.full(7, 63.0))
    assert small.line_from_points(training) == {"faces": 0}
    with pytest.raises(ValueError, match="needs 12 faces or more, found 7"):
        training.line_from_points(results)


def test_network_with_a_mesh() -> None:
    config = ModelConfig(width=0.125, neck_channels=8, ssh_channels=8, mesh=5)
    model = build_model(config, 64, 64)
    assert model.output_names == output_names(config) and model.output_names[9:] == ["mesh_8", "mesh_16", "mesh_32"]
    outputs = model(np.zeros((1, 64, 64, 3), np.float32))
    assert [tuple(value.shape) for value in outputs[9:]] == [(1, 8, 8, 10), (1, 4, 4, 10), (1, 2, 2, 10)]
    anchors = 2 * (64 + 16 + 4)
    assert [tuple(part.shape) for part in flatten_outputs(outputs, config)] == [(1, anchors, k) for k in (2, 4, 10)]
    with pytest.raises(ValueError, match="mesh is 65, expected 0 to 64 coefficients"):
        dataclasses.replace(FAST, mesh=65)
    check_no_mesh(FAST, "w")
    with pytest.raises(ValueError, match=r"w\.keras: has a mesh branch, expected the weights"):
        check_no_mesh(config, "w.keras")
