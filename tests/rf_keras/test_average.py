"""Averages of weights files: each weight the mean."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from quantization.fold import fold
from rf_keras import average
from rf_keras.average import average_weights
from rf_keras.config import FAST, ModelConfig
from rf_keras.model import build_model
from rf_keras.model_file import load_model, save_model
from tests.durability import Disk
from tests.quantization.test_convert import parsed

SMALL = dataclasses.replace(FAST, neck_channels=16, ssh_channels=16, blocks=(1, 0))
DEEPER = dataclasses.replace(SMALL, blocks=(1, 1))


def filled(config: ModelConfig, value: float) -> keras.Model:
    model = build_model(config)
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


def test_each_weight_is_the_mean() -> None:
    three = average_weights([(filled(SMALL, value), SMALL, Path("x")) for value in (1.0, 2.0, 6.0)])
    assert all((weight == 3.0).all() for weight in three.get_weights())


def test_by_shares() -> None:
    two = average_weights([(filled(SMALL, value), SMALL, Path("x")) for value in (1.0, 5.0)], (3.0, 1.0))
    assert all((weight == 2.0).all() for weight in two.get_weights())


def run(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rf_keras.average", *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_command(root: Path, tmp_path: Path) -> None:
    first, second, output = (tmp_path / f"{name}.keras" for name in ("first", "second", "output"))
    save_model(filled(SMALL, 1.0), SMALL, first, {"train": {"size": 320}, "ap": {"640": 1}})
    save_model(filled(SMALL, 4.0), SMALL, second, {"train": {"size": 64}})
    done = run(root, "--weights", first, "--weights", second, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "the mean of 2 files" in done.stdout
    model, config, meta = load_model(output)
    assert config == SMALL
    assert meta == {"train": {"size": 320}, "averaged": ["first.keras", "second.keras"]}
    assert {float(weight.flat[0]) for weight in model.get_weights()} == {2.5}

    ranges = {"quantization": {"size": [64, 64], "ranges": {"image": [0.0, 1.0]}}}
    network = fold(filled(SMALL, 1.0), SMALL)
    folded, folded_config = network.model, network.config
    for name, value in (("qat", 4.0), ("other_qat", 6.0)):
        folded.set_weights([np.full_like(weight, value) for weight in folded.get_weights()])
        save_model(folded, folded_config, tmp_path / f"{name}.keras", ranges)
    both = ["--weights", tmp_path / "qat.keras", "--weights", tmp_path / "other_qat.keras"]
    with Disk() as disk:
        average.run(parsed(average, *both, "--output", output))
    assert output.name not in disk.lost(tmp_path), "a power cut could take it"
    model, _, meta = load_model(output)
    assert meta["quantization"] == ranges["quantization"], "convert.py goes by them"
    assert all((weight == 5.0).all() for weight in model.get_weights())
    narrower = {"quantization": {"size": [64, 64], "ranges": {"image": [0.0, 0.5]}}}
    save_model(folded, folded_config, tmp_path / "narrower_qat.keras", narrower)
    given = ["--weights", tmp_path / "qat.keras", "--weights", tmp_path / "narrower_qat.keras", "--output", output]
    with pytest.raises(ValueError, match=r"narrower_qat\.keras: its quantization ranges differ"):
        average.run(parsed(average, *given))
    with pytest.raises(ValueError, match="--shares: 3 given, expected 2"):
        average.run(parsed(average, *given, "--first_ranges", "--shares=1,2,3"))
    average.run(parsed(average, *given, "--first_ranges", "--shares=1,3"))
    model, _, meta = load_model(output)
    assert meta["quantization"] == ranges["quantization"] and float(model.get_weights()[0].flat[0]) == 5.5
    wide = replace(FAST, blocks=(1, 0))
    save_model(build_model(wide), wide, tmp_path / "wide.keras")
    save_model(filled(DEEPER, 1.0), DEEPER, tmp_path / "deep.keras")
    bad = ("--output", tmp_path / "bad.keras")
    for others, message in (
        (["qat.keras"], "qat.keras: its quantization ranges differ from "),
        (["wide.keras"], "wide.keras: neck_channels is 48, expected 16 as in "),
        (["deep.keras"], r"deep.keras: blocks is \(1, 1\), expected \(1, 0\) as in "),
        (["none.keras"], "none.keras: no such weights file"),
    ):
        given = [flag for name in ("first.keras", *others) for flag in ("--weights", tmp_path / name)]
        with pytest.raises(ValueError, match=message):
            average.run(parsed(average, *given, *bad))
    done = run(root, "--weights", first, *bad)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: --weights: 1 given, expected two or more"
    assert "Traceback" not in done.stderr
