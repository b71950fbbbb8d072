"""A mesh branch for a frozen network: what it learns from, its training, and the file with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rf_keras.labels
import rf_keras.mesh.targets
from quantization import convert, mesh_features, train_mesh
from quantization.graph import FoldedNetwork, Ranges
from quantization.mesh_branch import BranchTrainer, TrainedBranch, set_branch, with_branch
from quantization.mesh_features import FeatureRunner, Patches, draw_window, feature_file
from quantization.verify import FileRunner
from rf_keras.labels import Sample
from rf_keras.mesh.mirror import mirrored
from rf_keras.mesh.targets import MeshTargets
from rf_keras.model_file import load_model, save_model
from tflite.detector import FaceDetector
from tflite.mesh import VERTICES, MeshBasis, read_basis
from tflite.spec import ModelSpec

from .conftest import SIZE


def face(generator: np.random.Generator, x: float, y: float, side: float) -> np.ndarray:
    """A mesh that fills a square."""
    mesh = generator.uniform(-0.5, 0.5, (VERTICES, 3))
    mesh[:2, :2] = [[-0.5, -0.5], [0.5, 0.5]]
    mesh[:, 2] -= mesh[:, 2].mean()
    return (mesh * side + [x, y, 0]).astype(np.float32)


def test_a_window_moves_meshes_as_it_moves_the_picture() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    mesh = np.zeros((VERTICES, 3), np.float32)
    mesh[:, :2] = np.random.default_rng(0).uniform((150, 100), (230, 180), (VERTICES, 2))
    mesh[7] = 200, 120, 5
    cv2.circle(image, (200, 120), 4, (255, 255, 255), -1)
    seen = {False: 0, True: 0}
    for seed in range(24):
        window, meshes = draw_window(image, np.array([[150, 100, 230, 180]]), mesh[None], np.random.default_rng(seed))
        assert window.shape[0] == window.shape[1] and window.shape[0] in (320, 640)
        if not len(meshes):
            continue
        # Vertex 7 stays vertex 7, or becomes its mirror image's.
        mirror = not np.isclose(meshes[0, 7, 2], np.abs(meshes[0, :, 2]).max())
        vertex = (mirrored(meshes) if mirror else meshes)[0, 7, :2] * ((-1, 1) if mirror else (1, 1))
        bright = np.argwhere(window[..., 0] > 200)
        if len(bright):
            np.testing.assert_allclose(bright.mean(axis=0)[::-1], vertex, atol=1.5)
            seen[mirror] += 1
    assert min(seen.values()) > 3


def patches(count: int, seed: int = 0) -> tuple[Patches, MeshBasis]:
    """The context says the first coefficient at one anchor, the backbone, beside its cell, the second at the other."""
    rng = np.random.default_rng(seed)
    basis = MeshBasis(np.zeros((VERTICES, 3), np.float32), rng.normal(0, 0.1, (2, VERTICES, 3)).astype(np.float32))
    context = rng.integers(-128, 127, (count, 1, 1, 4)).astype(np.int8)
    backbone = rng.integers(-128, 127, (count, 3, 3, 2)).astype(np.int8)
    anchor = rng.integers(0, 2, count)
    values = np.stack((context[:, 0, 0, 1], backbone[:, 2, 0, 1]), axis=1).astype(np.float32)
    chosen = np.where(np.arange(2) == anchor[:, None], (values + 128) / 100, 0).astype(np.float32)
    meshes = basis.in_box_units(chosen).astype(np.float16)
    return Patches(context, backbone, anchor, np.ones(count, bool), meshes, np.arange(count)), basis


@pytest.mark.parametrize("grid", [(0.01, -128), (0.0, 0)], ids=["int8", "float"])
def test_a_branch_learns(grid: tuple[float, int]) -> None:
    data, basis = patches(2000)
    if not grid[0]:
        context, backbone = (part.astype(np.float32) / 100 for part in (data.context, data.backbone))
        data = dataclasses.replace(data, context=context, backbone=backbone)
    trainer = BranchTrainer(data.part(data.picture < 1900), (grid, grid), basis, (8, 8), 2, seed=0)
    branch = trainer.train(40)
    held = data.part(data.picture >= 1900)
    error = trainer.errors(branch, held)[0].mean()
    assert error < 0.5 * np.linalg.norm(held.meshes.astype(np.float32)[..., :2], axis=-1).mean()
    assert branch.ranges[0][0] == 0 and branch.ranges[1][0] < 0 < branch.ranges[1][1]


def test_the_network_below_stays(folded: FoldedNetwork, images: np.ndarray) -> None:
    image = images[:1].astype(np.float32) - np.array(ModelSpec.mean, np.float32)
    before = folded.model(image)
    larger = with_branch(folded, 3)
    convs = ("mesh_16_context_conv", "mesh_16_backbone_conv", "mesh_16")
    shapes = [larger.model.get_layer(name).get_weights()[0].shape for name in convs]
    kernels, biases = [np.ones(shape, np.float32) for shape in shapes], [np.ones(shape[3]) for shape in shapes]
    branch = TrainedBranch(kernels, biases, [(0.0, 4.0), (-1.0, 2.0)])
    assert set_branch(larger, 16, branch) == {"mesh_16_concat": (0.0, 4.0), "mesh_16": (-1.0, 2.0)}
    after = larger.model(image)
    assert len(after) == 12 and all(np.array_equal(a, b) for a, b in zip(before, after[:9], strict=True))
    without = with_branch(larger, 0).model(image)
    assert len(without) == 9 and all(np.array_equal(a, b) for a, b in zip(before, without, strict=True))


def test_from_weights_to_a_file_with_a_mesh(
    folded: FoldedNetwork, ranges: Ranges, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = folded.copy()
    for stride in (8, 16, 32):  # every anchor is a face: the branch has something to learn
        layer = network.model.get_layer(f"class_{stride}")
        layer.set_weights([layer.get_weights()[0] * 1e-3, layer.get_weights()[1] * 0 + 1])
        layer = network.model.get_layer(f"box_{stride}")
        layer.set_weights([values * 1e-3 for values in layer.get_weights()])
    config = dataclasses.replace(network.config, anchor_sizes=((24, 30), (40, 50), (60, 75)))
    meta = {"quantization": {"size": [SIZE, SIZE], "ranges": {name: list(pair) for name, pair in ranges.items()}}}
    save_model(network.model, config, tmp_path / "w.keras", meta)

    rng = np.random.default_rng(0)
    samples, meshes = [], []
    for path in sorted(photos.iterdir()):
        x, y = rng.uniform(30, 50), rng.uniform(25, 35)
        samples.append(Sample(path, np.array([[x - 20, y - 20, x + 20, y + 20]], np.float32), np.full((1, 5, 2), -1.0)))
        meshes.append(face(rng, x, y, 40))
    numbers = np.arange(len(samples))
    targets = MeshTargets(samples, numbers, 0 * numbers, np.array(meshes), np.zeros(len(samples), np.float32))
    monkeypatch.setattr(rf_keras.labels, "read_labels", lambda folder: samples)
    monkeypatch.setattr(rf_keras.mesh.targets, "mesh_targets", lambda samples, label: targets)
    contents: list[bytes] = []

    def kept_feature_file(*arguments: Any) -> bytes:
        contents.append(feature_file(*arguments))
        return contents[-1]

    monkeypatch.setattr(mesh_features, "feature_file", kept_feature_file)
    options = train_mesh.Options(
        weights=tmp_path / "w.keras",
        data_dir=(photos,),
        output=tmp_path / "m.keras",
        coefficients=4,
        windows=4,
        epochs=1,
    )
    figures = train_mesh.run(options)
    assert all(figures[str(stride)]["anchors"] > 5 for stride in (8, 16, 32))
    _, config, found = load_model(tmp_path / "m.keras")
    assert config.mesh == 4 and set(found["quantization"]["ranges"]) - set(ranges) == {
        f"mesh_{stride}{part}" for stride in (8, 16, 32) for part in ("", "_concat")
    }

    output = tmp_path / "m.tflite"
    options = convert.Options(
        int8=True, weights=tmp_path / "m.keras", data_dir=(photos,), size=str(SIZE), output=output
    )
    convert.run(options)
    dense = FileRunner(output.read_bytes(), ModelSpec.mean)
    image = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    plain = FeatureRunner(contents[0], config, SIZE)  # the network without a mesh
    plain.run(image)
    after = dense(image)
    assert len(after) == 12 and {f"mesh_{stride}" for stride in (8, 16, 32)} < set(after)
    for name in set(after) - {f"mesh_{stride}" for stride in (8, 16, 32)}:
        assert np.array_equal(plain.raw(name), after[name]), name
    basis = read_basis(output.read_bytes())
    assert basis is not None and basis.coefficients == 4
    faces = FaceDetector(output, num_threads=1).detect(image)
    assert faces.mesh is not None and faces.mesh.shape == (len(faces), VERTICES, 3) and len(faces)
