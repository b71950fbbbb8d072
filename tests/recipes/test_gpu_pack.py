"""What goes to the GPU and comes back. The twin there needs PyTorch, and compares itself with `check.npz` each time."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recipes.gpu.gpu_pack import check_network, check_values, pack, plot, set_arrays, to_arrays, unpack
from rf_keras.augment_config import PRESETS as AUGMENTATIONS
from rf_keras.config import FAST, PRESETS, REFERENCE_ANCHORS, TrainConfig, config_to_dict
from rf_keras.distillation import mixing
from rf_keras.model import build_model
from rf_keras.model_file import load_model, save_model
from rf_keras.synthetic import make_dataset
from rf_keras.train_loop import split_samples
from tests.rf_keras.distillation.test_teacher import make_teacher
from tflite.images import read_image

ROOT = Path(__file__).resolve().parents[2]
NETWORK = replace(
    FAST, width=0.5, blocks=(1, 0), neck_channels=8, ssh_channels=8, anchor_sizes=REFERENCE_ANCHORS, antialias=False
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig]:
    """w.keras, teacher.onnx and two folders of images."""
    root = tmp_path_factory.mktemp("gpu")
    config = TrainConfig(model=NETWORK, data_dirs=("/moved", "/away"), val_share=0.25, seed=3)
    save_model(build_model(NETWORK), NETWORK, root / "w.keras", {"train": config_to_dict(config), "ap": {"640": 1}})
    make_teacher(root / "teacher.onnx")
    for name, count in (("a", 8), ("b", 4)):
        make_dataset(root / name, count, seed=count, size=96)
    return root, config


def test_a_pack_holds_what_training_reads(files: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    root, config = files
    folders = (str(root / "a"), str(root / "b"))
    pack(str(root / "w.keras"), str(root / "teacher.onnx"), folders, [1, 0], tmp_path)
    facts = np.load(tmp_path / "base" / "faces.npz")
    samples, sizes, held = split_samples(replace(config, data_dirs=folders))
    assert len(facts["part"]) == len(samples) and held
    np.testing.assert_array_equal(np.bincount(facts["folder"]), sizes)
    np.testing.assert_array_equal(facts["trusted"], facts["folder"] == 0)
    known = {sample.image.read_bytes(): sample for sample in samples}
    data, ends = (tmp_path / "part0" / "images.bin").read_bytes(), np.cumsum(facts["count"])
    for row, (start, length) in enumerate(zip(facts["start"], facts["length"], strict=True)):
        sample = known.pop(data[start : start + length])
        assert facts["size"][row].tolist() == list(read_image(sample.image).shape[1::-1])
        np.testing.assert_array_equal(facts["boxes"][ends[row] - facts["count"][row] : ends[row]], sample.boxes)
    assert not known and facts["start"][-1] + facts["length"][-1] == len(data)
    assert (tmp_path / "base" / "scrfd.onnx").read_bytes() == (root / "teacher.onnx").read_bytes()
    check = np.load(tmp_path / "base" / "check.npz")
    assert check["answers"].shape == check["corrected"].shape == (2, check["logit"].shape[1], 15)
    np.testing.assert_array_equal(check["answers"][1], check["corrected"][1])
    assert (check["answers"][0] != check["corrected"][0]).any(), "labels correct this teacher"
    total, box, classes, landmark, features = check["losses"]
    assert total == pytest.approx(2 * box + classes + landmark + features, rel=1e-5)


def test_arrays_come_back_as_a_weights_file(files: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    root, _ = files
    model, _, _ = load_model(root / "w.keras")
    arrays = {key: value + 0.5 for key, value in to_arrays(model).items()}
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    unpack(str(root / "w.keras"), str(tmp_path / "arrays.npz"), str(tmp_path / "new.keras"))
    trained, config, meta = load_model(tmp_path / "new.keras")
    assert config == NETWORK and meta["train"]["seed"] == 3 and "ap" not in meta
    for key, value in to_arrays(trained).items():
        np.testing.assert_array_equal(value, arrays[key])
    rows = [[0.0, 192, 0.0, *[1.0] * 10], [10.0, 9600, 0.1, *[0.5] * 10], [0.0, 192, 0.0, *[0.4] * 10]]
    np.savetxt(tmp_path / "log.csv", rows, delimiter=",")
    plot(tmp_path / "log.csv", tmp_path / "curves.png")
    assert read_image(tmp_path / "curves.png").std() > 10
    with pytest.raises(ValueError, match=r"odd.npz: stem_bn/gamma is None, expected \(8,\)"):
        set_arrays(model, {key: value for key, value in arrays.items() if key != "stem_bn/gamma"}, "odd.npz")


def test_other_networks_have_no_twin(files: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    root, _ = files
    check_network(NETWORK, "w")
    with pytest.raises(ValueError, match="w: backbone is mobilenet, expected fast, of which there is a twin"):
        check_network(PRESETS["mobilenet0.25"].model, "w")
    save_model(build_model(NETWORK), NETWORK, tmp_path / "bare.keras")
    with pytest.raises(ValueError, match=r"bare.keras: no training settings inside"):
        pack(str(tmp_path / "bare.keras"), str(root / "teacher.onnx"), [str(root / "a")], [], tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    make_dataset(tmp_path / "large", 2, seed=1, size=672)
    arguments = ["--weights", root / "w.keras", "--teacher", root / "teacher.onnx", "--pack", tmp_path / "pack"]
    command = [sys.executable, "recipes/gpu/gpu_pack.py", *arguments, "--data_dir", tmp_path / "large"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "672×672 pixels, expected at most 640" in done.stderr.splitlines()[-1]


def test_the_twin_augments_as_we_do() -> None:
    """Its own check compares network, teacher, corrections and losses; these it has to repeat, without TensorFlow."""
    known: dict[str, object] = {}
    for node in ast.parse((ROOT / "recipes/gpu/gpu_train.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            target = node.targets[0]
            names = [target] if isinstance(target, ast.Name) else target.elts
            values = [node.value] if isinstance(target, ast.Name) else getattr(node.value, "elts", [])
            known |= {
                name.id: ast.literal_eval(value)
                for name, value in zip(names, values, strict=False)
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant | ast.Tuple)
            }
    recipe = AUGMENTATIONS["mixed"]
    assert known["CROP_SCALES"] == recipe.crop_scales and known["MIN_FACE"] == recipe.min_face
    assert (known["BRIGHTNESS"], known["HUE"]) == (recipe.brightness, recipe.hue)
    assert known["FACTORS"] == recipe.contrast == recipe.saturation
    assert known["COLOUR_CHANCE"] == recipe.colour_chance
    for name in ("LARGEST_OPACITY", "MIX_SIDES"):
        assert known[name] == getattr(mixing, name), name
    assert known["WEIGHT_DECAY"] == TrainConfig.weight_decay and known["MOMENTUM"] == TrainConfig.momentum


def test_values_to_check_with_are_the_networks(files: tuple[Path, TrainConfig]) -> None:
    root, config = files
    model, _, _ = load_model(root / "w.keras")
    samples = split_samples(replace(config, data_dirs=(str(root / "a"),)))[0]
    one, two = (check_values(model, NETWORK, str(root / "teacher.onnx"), samples)["logit"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    for layer in model.layers:
        if layer.name.startswith("class_"):
            layer.bias.assign_add(np.full(layer.bias.shape, 2.0, np.float32))
    moved = check_values(model, NETWORK, str(root / "teacher.onnx"), samples)["logit"]
    np.testing.assert_allclose(moved - one, 2, atol=1e-4)
