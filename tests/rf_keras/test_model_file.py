"""Weights files: round trip, the configuration inside, and damaged files."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from quantization import compare, convert, qat_steps
from quantization.config import QatConfig
from rf_keras import average, publish
from rf_keras.config import SMALL_ANCHORS, ModelConfig, TrainConfig
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.teacher import open_teacher
from rf_keras.evaluation.scoring import open_detector
from rf_keras.model import build_model
from rf_keras.model_file import (
    CONFIG_MEMBER,
    WEIGHTS_MEMBER,
    ModelFileError,
    load_model,
    read_config,
    save_model,
)
from rf_keras.publish import round_kernels
from rf_keras.run_state import Run
from tflite.images import write_image

CONFIG = ModelConfig(activation="relu", anchor_sizes=SMALL_ANCHORS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    model = build_model(CONFIG)
    path = tmp_path_factory.mktemp("weights") / "w.keras"
    save_model(model, CONFIG, path, {"source": "test"})
    return model, path


def test_round_trip(saved: tuple[keras.Model, Path]) -> None:
    model, path = saved
    read, config, meta = load_model(path)
    assert config == CONFIG and meta == {"source": "test"}
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    for a, b in zip(model(image), read(image), strict=True):
        np.testing.assert_array_equal(a, b)
    assert path.stat().st_size < 2_000_000
    assert [p.name for p in path.parent.iterdir()] == ["w.keras"]  # nothing temporary is left


def test_keras_reads_the_file_without_this_package(saved: tuple[keras.Model, Path]) -> None:
    assert keras.models.load_model(saved[1], compile=False).count_params() == saved[0].count_params()


def test_rounded_weights_take_less_than_in_a_deflated_file_of_keras(
    saved: tuple[keras.Model, Path], tmp_path: Path
) -> None:
    model, _, _ = load_model(saved[1])
    round_kernels(model, 12)
    save_model(model, CONFIG, tmp_path / "ours.keras")
    model.save(tmp_path / "theirs.keras", save_format="keras")
    with zipfile.ZipFile(tmp_path / "ours.keras") as ours, zipfile.ZipFile(tmp_path / "theirs.keras") as theirs:
        deflated = zlib.compress(theirs.read(WEIGHTS_MEMBER), 9)
        assert ours.getinfo(WEIGHTS_MEMBER).compress_size < 0.95 * len(deflated)


def test_damaged_files(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    data = saved[1].read_bytes()
    cases = {"empty": b"", "text": b"hello", "cut": data[: len(data) // 2]}
    for name, content in cases.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=name):
            load_model(path)
    with pytest.raises(ModelFileError, match="no such"):
        load_model(tmp_path / "absent.keras")
    foreign = tmp_path / "foreign.keras"
    saved[0].save(foreign, save_format="keras")
    with pytest.raises(ModelFileError, match=CONFIG_MEMBER):
        read_config(foreign)


def test_unknown_settings_in_the_file_are_errors(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CONFIG_MEMBER, '{"model": {"colour": "blue"}, "meta": {}}')
    with pytest.raises(ModelFileError, match="colour"):
        read_config(path)


@pytest.mark.parametrize("name", ["retinaface_mobilenet0.25_qat_320", "retinaface_fast"])
def test_shipped_weights_are_what_keras_reads(name: str, root: Path) -> None:
    """With batch normalization folded, and without."""
    path = root / "rf_keras" / "weights" / f"{name}.keras"
    ours, theirs = load_model(path)[0], keras.models.load_model(path, compile=False)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert ours.output_names == theirs.output_names
    for layer in ours.layers:
        for a, b in zip(layer.get_weights(), theirs.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def with_attack(source: Path, target: Path, mark: Path, foreign: bool) -> Path:
    """A weights file whose graph makes `mark` when Keras builds it: a Lambda layer of os.system, called on a constant.

    Args:
        foreign: without the arrays of the network.
    """
    attack = {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
    output = {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None}
    config = {"name": "evil", "trainable": True, "dtype": "float32", "function": attack, "function_type": "function"}
    layer = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None, "name": "evil"}
    layer |= {"config": config | {"module": "os", "arguments": {}} | output}
    layer |= {"inbound_nodes": [[["_CONSTANT_VALUE", -1, f"touch {mark}", {}]]]}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member == "config.json":
                graph = json.loads(data)
                graph["config"]["layers"].insert(1, layer)
                data = json.dumps(graph).encode()
            elif member == WEIGHTS_MEMBER and foreign:
                buffer = io.BytesIO()
                with h5py.File(buffer, "w") as file:
                    file.create_group("layers/lambda/vars")
                data = buffer.getvalue()
            new.writestr(member, data)
    return target


def test_a_graph_in_the_file_is_not_run(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = with_attack(saved[1], tmp_path / "w.keras", mark, foreign=False)
    with contextlib.suppress(Exception):
        keras.models.load_model(path, compile=False, safe_mode=True)
    assert mark.exists(), "Keras itself runs it"
    mark.unlink()
    for a, b in zip(load_model(path)[0].get_weights(), saved[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not mark.exists()


def test_every_command_refuses_a_foreign_graph(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = with_attack(saved[1], tmp_path / "w.keras", mark, foreign=True)
    photos = tmp_path / "photos"
    write_image(photos / "a.png", np.zeros((64, 64, 3), np.uint8))
    training = TrainConfig(model=CONFIG, init=str(path), size=64)
    output, new = tmp_path / "new.keras", tmp_path / "new"
    commands: dict[str, Callable[[], object]] = {
        "train": lambda: Run(training, new, tf.distribute.get_strategy()),
        "evaluate": lambda: open_detector(path, "64"),
        "average": lambda: average.run(average.Options(weights=(path, path), output=output)),
        "publish": lambda: publish.run(publish.Options(weights=path, output=output)),
        "qat": lambda: qat_steps.prepare(QatConfig(str(path), ("a",)), new),
        "convert": lambda: convert.run(convert.Options(int8=True, weights=path, data_dir=(photos,), size="64")),
        "compare": lambda: compare.measure_float(path, "64", []),
        "teacher": lambda: open_teacher(Distillation(str(path))),
    }
    for name, command in commands.items():
        with pytest.raises(ModelFileError, match=r"w\.keras: array .* is missing: 0 arrays") as caught:
            command()
        assert "\n" not in str(caught.value), name
    assert not mark.exists() and not output.exists() and not new.exists()


def test_equal_weights_give_equal_files_whatever_the_clock_says(
    saved: tuple[keras.Model, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # 1970, as on boards without a clock; zip begins in 1980
    save_model(saved[0], CONFIG, tmp_path / "again.keras", {"source": "test"})
    assert (tmp_path / "again.keras").read_bytes() == saved[1].read_bytes()


def test_suffix_must_be_keras(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"\.h5"):
        save_model(saved[0], CONFIG, tmp_path / "w.h5")
