"""A run's folder: configuration, metrics, curves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from quantization.config import QatConfig, Recipe
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


def test_a_run_keeps_its_settings(tmp_path: Path) -> None:
    check_unchanged(tmp_path, QAT, {"steps": 900})
    with pytest.raises(RunError, match="steps is 900 in this run, 5 was given"):
        check_unchanged(tmp_path, QAT, {"steps": 5})


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    panels = (Panel(("loss", "box"), "step", "loss"), Panel(("ap",), "step", "AP, %", percent=True))
    log = MetricsLog(tmp_path, 0, ("step", "loss", "box", "ap"), panels)
    for step in (1, 2, 3):
        log.add({"step": step, "loss": 1 / step, "box": 0.0, "ap": 10 * step} if step > 1 else {"step": 1, "loss": 1.0})
    assert read_image(tmp_path / CURVES).std() > 10
    MetricsLog(tmp_path, 2, ("step", "loss", "box", "ap"), panels)
    with (tmp_path / METRICS).open(newline="") as file:
        assert [(row["step"], row["ap"]) for row in csv.DictReader(file)] == [("1", ""), ("2", "20")]
