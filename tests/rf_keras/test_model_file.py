"""Weights files: round trip, the configuration inside, and damaged files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from rf_keras.config import SMALL_ANCHORS, ModelConfig
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


def test_suffix_must_be_keras(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"\.h5"):
        save_model(saved[0], CONFIG, tmp_path / "w.h5")
