"""Weights for git: rounded, smaller, with the AP that was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras as keras

from rf_keras import publish
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from rf_keras.model_file import load_model, save_model
from rf_keras.publish import measured, round_kernels, without_folders
from tests.durability import Disk

SMALL = ModelConfig(neck_channels=16, ssh_channels=16)


def write_metrics(path: Path, **changes: Any) -> Path:
    metrics = {"easy": 85.04, "medium": 86.16, "hard": 60.0, "size": 640, "model": "m.keras"}
    path.write_text(json.dumps(metrics | changes))
    return path


def test_kernels_keep_their_leading_bits() -> None:
    model = keras.Sequential([keras.layers.Conv2D(1, 1, input_shape=(1, 1, 4))])
    kernel, bias = np.float32([1.0, -1.3, 0.7, 0.0]).reshape(1, 1, 4, 1), np.float32([0.123456])
    model.set_weights([kernel, bias])
    round_kernels(model, 3)
    rounded, kept = model.get_weights()
    np.testing.assert_array_equal(rounded.ravel(), [1.0, -1.25, 0.75, 0.0])
    np.testing.assert_array_equal(kept, bias)


@pytest.mark.parametrize("bits", [8, 12, 24])
def test_the_error_is_bounded_and_a_second_rounding_changes_nothing(bits: int) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(SMALL)
    before = model.get_weights()
    round_kernels(model, bits)
    once = model.get_weights()
    round_kernels(model, bits)
    for old, new, again in zip(before, once, model.get_weights(), strict=True):
        assert np.all(np.abs(new - old) <= np.abs(old) * 2.0**-bits)
        np.testing.assert_array_equal(new, again)
    changed = [not np.array_equal(old, new) for old, new in zip(before, once, strict=True)]
    assert any(changed) == (bits < 24)


def test_the_command_writes_a_smaller_file_with_its_figures(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    save_model(build_model(SMALL), SMALL, tmp_path / "w.keras", {"source": "test"})
    files = [
        write_metrics(tmp_path / "a.json"),
        write_metrics(tmp_path / "b.json", model="m.tflite", easy=84.96),
        write_metrics(tmp_path / "c.json", model="m.tflite", size=320),
    ]
    command = [sys.executable, "-m", "rf_keras.publish", "--weights", str(tmp_path / "w.keras")]
    command += ["--output", str(tmp_path / "p.keras"), "--split", "photos", *(f"--metrics={path}" for path in files)]
    history = [{"what": "training", "images": 7, "sizes": [64], "data": ["train"], "teacher": ""}]
    (tmp_path / "history.json").write_text(json.dumps(history))
    command += ["--antialias", "--history", str(tmp_path / "history.json"), "--license", "MIT"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.keras").stat().st_size < 0.8 * (tmp_path / "w.keras").stat().st_size
    _, config, meta = load_model(tmp_path / "p.keras")
    assert config == replace(SMALL, antialias=True) and meta["source"] == "test"
    assert meta["license"] == "MIT"
    assert meta["parts"] == history and meta["images_seen"] == 7
    assert config.spec(64, 64).antialias and not SMALL.spec(64, 64).antialias
    assert meta["ap"] == {
        "split": "photos",
        "640": {
            "float": {"easy": 85.0, "medium": 86.2, "hard": 60.0},
            "int8": {"easy": 85.0, "medium": 86.2, "hard": 60.0},
        },
        "320": {"int8": {"easy": 85.0, "medium": 86.2, "hard": 60.0}},
    }
    with Disk() as disk:
        publish.run(publish.Options(weights=tmp_path / "p.keras", output=tmp_path / "again.keras"))
    assert "again.keras" not in disk.lost(tmp_path), "a power cut could take it"


def test_paths_lose_their_folders() -> None:
    meta = {"train": {"data_dirs": ["/data/wider", "near/by"], "init": "/a/w.keras", "seed": 1}, "source": "a / b"}
    expected = {"train": {"data_dirs": ["wider", "near/by"], "init": "w.keras", "seed": 1}, "source": "a / b"}
    assert without_folders(meta) == expected


def test_files_that_are_no_metrics_are_named(tmp_path: Path) -> None:
    good = write_metrics(tmp_path / "good.json")
    with pytest.raises(ValueError, match=r"good\.json: a second file for float at 640"):
        measured([good, good], "photos")
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"bad\.json: lacks \['easy', .* expected what `rf_keras.evaluate"):
        measured([tmp_path / "bad.json"], "photos")
    unofficial = write_metrics(tmp_path / "labels.json", easy=None, medium=None, hard=None)
    with pytest.raises(ValueError, match=r"labels\.json: lacks \['easy', 'medium', 'hard'\]"):
        measured([unofficial], "photos")
    (tmp_path / "text.json").write_text("AP 85")
    with pytest.raises(ValueError, match=r"text\.json: not JSON"):
        measured([tmp_path / "text.json"], "photos")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metrics", "m.json"], "error: --metrics and --split belong together"),
        (["--split", "photos", "--metrics", "m.json"], "m.json"),
        ([], "no such weights file"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(tmp_path: Path, flags: list[str], message: str) -> None:
    weights = tmp_path / "w.keras"
    if flags:
        save_model(build_model(SMALL), SMALL, weights)
    command = [sys.executable, "-m", "rf_keras.publish", f"--weights={weights}", f"--output={tmp_path / 'p.keras'}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "p.keras").exists()
