"""A run's folder: configuration, metrics, curves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from quantization.config import QatConfig, Recipe
from rf_keras.cache import cache_dir
from rf_keras.config import TrainConfig
from rf_keras.distillation.config import Distillation
from rf_keras.run_dir import CURVES, METRICS, MetricsLog, Panel, RunError, check_unchanged, create_run, read_config
from tflite.images import read_image

QAT = QatConfig(
    "w.keras", ("a", "b"), distillation=Distillation("t", correct_with_labels=(1, 0)), recipe=Recipe("minmax")
)


def test_configurations_come_back(tmp_path: Path) -> None:
    for config in (TrainConfig(data_dirs=("a",), more_sizes=(320,)), QAT):
        create_run(tmp_path / type(config).__name__, config)
        assert read_config(tmp_path / type(config).__name__, type(config)) == config
    with pytest.raises(RunError, match="holds a run already; add --resume"):
        create_run(tmp_path / "QatConfig", QAT)
    with pytest.raises(RunError, match=r"config\.json: not a TrainConfig \(.*unknown settings"):
        read_config(tmp_path / "QatConfig", TrainConfig)
    with pytest.raises(RunError, match=r"absent: no run, config\.json is missing"):
        read_config(tmp_path / "absent", TrainConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "found list, expected settings of TrainConfig"),
        (b"{", "Expecting"),
        (b"[" * 100_000, "recursion"),
        (b"\xff", "decode"),
        (b'{"batch": true}', "batch is 'True', expected int"),
        (b'{"size": "640"}', "size is '640', expected int"),
        (b'{"learning_rate": NaN}', "learning_rate is 'nan', expected float"),
        (b'{"model": []}', "model: found list, expected settings of ModelConfig"),
        (b'{"data_dirs": "abc"}', "data_dirs is 'abc', expected tuple"),
        (b'{"seed": ' + b"9" * 4000 + b'}\n{"x\x1b": 1}', "Extra data"),
    ],
)
def test_a_damaged_configuration_is_one_line(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(RunError, match=r"config\.json: not a TrainConfig \(") as caught:
        read_config(tmp_path, TrainConfig)
    assert message in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And without an entry in the system's list of users."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(ValueError, match="set XDG_CACHE_HOME"):
        cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "retinaface-keras"


def test_a_run_keeps_its_settings(tmp_path: Path) -> None:
    check_unchanged(tmp_path, QAT, {"steps": 900})
    with pytest.raises(RunError, match="steps is 900 in this run, 5 was given"):
        check_unchanged(tmp_path, QAT, {"steps": 5})


@pytest.mark.parametrize(("stored", "expected"), [(0, ""), (640, "640"), ("480x640", "480x640")])
def test_validation_sizes_of_earlier_runs(tmp_path: Path, stored: int | str, expected: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"val_size": stored}))
    assert read_config(tmp_path, TrainConfig).val_size == expected


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    panels = (Panel(("loss", "box"), "step", "loss"), Panel(("ap",), "step", "AP, %", percent=True))
    log = MetricsLog(tmp_path, 0, ("step", "loss", "box", "ap"), panels)
    for step in (1, 2, 3):
        log.add({"step": step, "loss": 1 / step, "box": 0.0, "ap": 10 * step} if step > 1 else {"step": 1, "loss": 1.0})
    assert read_image(tmp_path / CURVES).std() > 10
    MetricsLog(tmp_path, 2, ("step", "loss", "box", "ap"), panels)
    with (tmp_path / METRICS).open(newline="") as file:
        assert [(row["step"], row["ap"]) for row in csv.DictReader(file)] == [("1", ""), ("2", "20")]
