from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest

from benchmarks import operating_point
from benchmarks.operating_point import held_out, operating_points
from rf_keras.config import TrainConfig, config_to_dict
from rf_keras.evaluation.ground_truth import Truth
from rf_keras.evaluation.scoring import ImageResult
from rf_keras.evaluation.wider_ap import match_detections
from rf_keras.model import build_model
from rf_keras.model_file import save_model
from rf_keras.synthetic import make_dataset
from rf_keras.train_loop import split_samples
from tests.quantization.conftest import TINY
from tests.quantization.test_convert import parsed
from tflite.detector import Detections
from tflite.shipped import DEFAULT_MODEL
from tflite.spec import read_spec


def result(faces: list[list[float]], boxes: list[list[float]], scores: list[float]) -> ImageResult:
    true, found = np.array(faces, np.float32), np.array(boxes, np.float32)
    truth = Truth(Path("a.jpg"), true, np.full((len(true), 5, 2), -1, np.float32), np.ones(len(true), bool))
    confidence = np.array(scores, np.float32)
    detections = Detections(found, confidence, np.zeros((len(found), 5, 2), np.float32))
    return ImageResult(truth, detections, match_detections(found, confidence, true))


def test_by_hand() -> None:
    """Two faces of 40 px and one of 10; found: one twice, the small one, one at 0.42, and nothing at 0.3."""
    first, second, small, none = [0, 0, 40, 40], [100, 0, 140, 40], [60, 60, 70, 70], [200, 200, 240, 240]
    results = [
        result([first, small], [first, first, small, none], [0.9, 0.58, 0.65, 0.3]),
        result([second], [second], [0.42]),
    ]
    rows = {row["threshold"]: row for row in operating_points(results, 16)}
    assert rows[0.7] == {"threshold": 0.7, "recall": 50, "precision": 100, "false_alarms": 0}
    assert rows[0.5] == {"threshold": 0.5, "recall": 50, "precision": 50, "false_alarms": 1}
    assert rows[0.4] == {"threshold": 0.4, "recall": 100, "precision": 66.7, "false_alarms": 1}
    assert rows[0.2] == {"threshold": 0.2, "recall": 100, "precision": 50, "false_alarms": 2}
    assert {row["threshold"]: row for row in operating_points(results, 0)}[0.2]["precision"] == 60
    assert operating_points([], 16)[0]["recall"] == 0


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, TrainConfig]:
    """A weights file that says it was trained on a folder that has moved since."""
    make_dataset(tmp_path / "data", 12, 0, 96)
    config = TrainConfig(model=TINY, data_dirs=("/moved",), val_share=0.25, size=64)
    save_model(build_model(TINY), TINY, tmp_path / "w.keras", {"train": config_to_dict(config)})
    return tmp_path / "w.keras", config


def test_command(trained: tuple[Path, TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, _ = trained
    photos = tmp_path / "photos" / "images"
    photos.mkdir(parents=True)
    portrait = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    for number in range(12):
        shutil.copy(portrait, photos / f"{number}.jpg")
    face = "165 100 190 230 " + 15 * "-1 " + "1"  # x y w h, read off the photo by eye; no landmarks
    (photos.parent / "label.txt").write_text("".join(f"# {number}.jpg\n{face}\n" for number in range(12)))

    here = ["--weights", weights, "--models", DEFAULT_MODEL, "--data_dir", photos.parent]
    report = operating_point.run(parsed(operating_point, *here))
    assert json.loads(json.dumps(report)) == report
    assert report["images"] == 3
    rows = {row["threshold"]: row for row in report["models"][str(DEFAULT_MODEL)]["rows"]}
    own = read_spec(DEFAULT_MODEL).score_threshold
    assert rows[round(own, 2)] == {"threshold": own, "recall": 100, "precision": 100, "false_alarms": 0}
    said = capsys.readouterr().out
    assert "0.5" in said and said.count("the file's own") == 1


def test_held_out_images_are_the_trainings(trained: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    weights, config = trained
    expected = split_samples(dataclasses.replace(config, data_dirs=(str(tmp_path / "data"),)))[2]
    assert [s.image for s in held_out(weights, [tmp_path / "data"])] == [s.image for s in expected]


def test_bad_input(trained: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    weights, _ = trained
    save_model(build_model(TINY), TINY, tmp_path / "bare.keras", {})
    cases: list[tuple[list[Any], str]] = [
        (["--weights", tmp_path / "bare.keras"], "no training settings inside"),
        (["--weights", tmp_path / "absent.keras"], "absent.keras"),
        (["--weights", weights], "/moved"),
        (["--weights", weights, "--data_dir", "a", "--data_dir", "b"], "2 folders, .* was trained on 1: /moved"),
    ]
    for given, message in cases:
        with pytest.raises((ValueError, OSError), match=message):
            operating_point.run(parsed(operating_point, *given, "--models", DEFAULT_MODEL))
