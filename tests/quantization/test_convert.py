from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantization import convert, qat, source
from quantization.source import WeightsSource, find_source, parse_side
from rf_keras.config import TAUGHT_THRESHOLD
from rf_keras.model_file import load_model, save_model
from rf_keras.run_dir import BEST, CONFIG
from tflite.command import parse
from tflite.detector import FaceDetector
from tflite.spec import read_spec

from .conftest import SIZE


def command(script: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


def parsed(module: Any, *arguments: str | Path) -> Any:
    """The options of a command."""
    return parse(module.Options, list(map(str, arguments)))


def test_same_input_gives_the_same_bytes_as_script_and_as_module(
    shallow_file: Path, photos: Path, root: Path, tmp_path: Path
) -> None:
    arguments = ("--int8", "--weights", shallow_file, "--data_dir", photos, "--size", SIZE, "--score_threshold", 0.3)
    first = command("quantization/convert.py", *arguments, "--output", tmp_path / "a.tflite", cwd=root)
    assert first.returncode == 0, first.stderr
    assert "int8-ptq" in first.stdout and "CONV_2D" in first.stdout and "difference to the float model" in first.stdout
    assert "warning: 12 calibration images" in first.stderr
    second = command("-mquantization.convert", *arguments, "--output", tmp_path / "b.tflite", cwd=root)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()

    spec = read_spec(tmp_path / "a.tflite")
    assert (spec.quantization, spec.source, spec.input_height) == ("int8-ptq", "random", SIZE)
    assert spec.score_threshold == 0.3
    detector = FaceDetector(tmp_path / "a.tflite", num_threads=1)
    assert detector.detect(np.full((50, 60, 3), 90, np.uint8), 0.02).boxes.shape[1] == 4


@pytest.mark.parametrize(
    ("meta", "size", "expected"),
    [
        ({"train": {"size": 320}}, (640, 640), "W.keras: trained at 320 pixels, exporting at 640×640: faces above 320"),
        ({"train": {"size": 320}}, (256, 352), "train the last part at 352"),
        ({"train": {"size": 640}}, (640, 640), ""),
        ({"train": {"size": 640}}, (320, 320), ""),
        ({"train": {"size": 320, "more_sizes": [512]}}, (640, 640), "trained at 512 pixels, exporting at 640×640"),
        ({"train": {"size": 320, "more_sizes": [640]}}, (640, 640), ""),
        ({"quantization": {"size": [320, 320]}}, (640, 640), "tuned at [320, 320] pixels, exporting at [640, 640]"),
        ({"quantization": {"size": [640, 640]}}, (640, 640), ""),
        ({}, (640, 640), ""),
        ({"train": None}, (640, 640), ""),
    ],
)
def test_larger_than_trained(
    meta: dict[str, object], size: tuple[int, int], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.warn_of_size(WeightsSource(Path("W.keras"), (), None, meta, "given"), size)
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == bool(expected)


def test_run_directory_gives_weights_images_and_size(
    weights_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model, config, meta = load_model(weights_file)
    save_model(model, config, run / BEST, meta | {"train": {"size": SIZE // 2, "teacher": "scrfd.onnx"}})
    (run / CONFIG).write_text(json.dumps({"data_dirs": [str(photos)], "size": SIZE, "val_size": 0}))
    figures = convert.run(convert.Options(fp32=True, weights=run))
    assert read_spec(run / "best_fp32.tflite").score_threshold == TAUGHT_THRESHOLD
    assert figures["size"] == [SIZE, SIZE] and figures["quantization"] == "fp32"
    assert max(d["largest"] for d in figures["differences"].values()) < 1e-3
    assert json.loads(json.dumps(figures)) == figures
    said = capsys.readouterr()
    assert str(photos) in said.out and f"trained at {SIZE // 2} pixels" in said.err


def test_newest_run_then_shipped_weights(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "SHIPPED_WEIGHTS", tmp_path / "none.keras")
    with pytest.raises(ValueError, match=r"no --weights given, no run with weights below .* train first"):
        find_source(None)
    monkeypatch.setattr(source, "SHIPPED_WEIGHTS", weights_file)
    assert find_source(None).how == "shipped weights"
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / BEST).write_bytes(weights_file.read_bytes())
    (run / CONFIG).write_text("{}")
    assert find_source(None).weights == Path("runs/one") / BEST
    for text in ("[]", "{", '{"data_dirs": "abc"}', '{"data_dirs": [1]}', '{"size": 100}', '{"size": true}'):
        (run / CONFIG).write_text(text)
        with pytest.raises(ValueError, match=r"^runs/one/config\.json: [^\n]*$"):
            find_source(None)


def test_photos_at_hand_serve_calibration(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "synthetic_dir", lambda split, size: tmp_path / "drawn")
    mine = WeightsSource(Path("w.keras"), (), 64, {"train": {"data_dirs": ["wider"]}}, "")
    drawn = WeightsSource(Path("w.keras"), (), 64, {"train": {"data_dirs": []}}, "")
    assert mine.calibration_folders(()) == [tmp_path / "drawn" / "images"]
    assert "only drawn faces to calibrate on" in capsys.readouterr().err
    assert drawn.calibration_folders(()) == [tmp_path / "drawn" / "images"], "what they know"
    few = tmp_path / "photos" / "val" / "images"
    few.mkdir(parents=True)
    (few / "a.jpg").touch()
    assert source.photos_at_hand() is None
    shutil.copytree(photos, tmp_path / "photos" / "train" / "images")
    assert mine.calibration_folders(()) == mine.images_from(()) == [Path("photos/train")]
    assert mine.calibration_folders([tmp_path]) == [tmp_path]
    assert dataclasses.replace(mine, data_dirs=("own",)).calibration_folders(()) == [Path("own")]
    assert drawn.calibration_folders(()) == [tmp_path / "drawn" / "images"]
    assert capsys.readouterr().err == ""


def test_where_files_go(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def output(weights: Path) -> Path:
        return WeightsSource(weights, (), None, {}, "").output_for("int8", ".tflite")

    assert output(tmp_path / "run" / "best.keras") == tmp_path / "run" / "best_int8.tflite"
    here = Path("retinaface_fast_int8.tflite")
    assert source.SHIPPED_WEIGHTS == "retinaface_fast.keras"
    assert output(root / "rf_keras" / "weights" / source.SHIPPED_WEIGHTS) == here
    assert output(tmp_path / "site-packages" / "rf_keras" / "weights" / source.SHIPPED_WEIGHTS) == here


def test_sizes() -> None:
    known = WeightsSource(Path("w.keras"), (), 320, {}, "")
    assert parse_side(None, known) == (320, 320)
    assert parse_side("640", known) == (640, 640)
    assert parse_side("480x640", known) == (480, 640)
    for text in ("100", "0", "-32", "64x", "32x32x32", "a", ""):
        with pytest.raises(ValueError, match="multiple of 32"):
            parse_side(text, known)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --fp32 --fp16 --dynamic --int8, found none"),
        (["--int8", "--fp16"], "found --fp16 --int8"),
        (["--int8", "--weights", "absent.keras"], "absent.keras: no such weights file"),
        (["--int8", "--weights", "EMPTY_DIR"], "no weights in the folder, expected best.keras or last.keras"),
        (["--int8", "--weights", "TEXT"], "not a .keras file"),
        (["--int8", "--weights", "WEIGHTS", "--output", "model.bin"], "expected a name ending in .tflite"),
        (["--int8", "--weights", "WEIGHTS", "--size", "100"], "expected a multiple of 32"),
        (["--int8", "--weights", "WEIGHTS", "--data_dir", "EMPTY_DIR"], "no image in the folder"),
        (["--int8", "--weights", "WEIGHTS", "--data_dir", "absent"], "absent"),
    ],
)
def test_bad_input_of_convert(
    arguments: list[str], message: str, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.keras").write_text("no weights")
    names = {"EMPTY_DIR": "empty", "TEXT": "text.keras", "WEIGHTS": str(weights_file)}
    with pytest.raises(ValueError) as caught:
        convert.run(parsed(convert, *[names.get(a, a) for a in arguments]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume goes on with --run_dir"),
        (["--resume", "--run_dir", "EMPTY_DIR"], "no run, config.json is missing"),
        (["--weights", "absent.keras"], "absent.keras: no such weights file"),
        (["--weights", "WEIGHTS", "--data_dir", "EMPTY_DIR"], "no image in the folder"),
        (["--weights", "WEIGHTS", "--data_dir", "PHOTOS", "--multibox"], "no labels"),
        (["--weights", "WEIGHTS", "--data_dir", "PHOTOS", "--set", "val_images=99"], "12 images, expected at least"),
        (["--weights", "WEIGHTS", "--data_dir", "PHOTOS", "--size", "100"], "size is 100, expected a multiple of 32"),
        (["--weights", "WEIGHTS", "--data_dir", "PHOTOS", "--nodistill"], "distill, multibox or a teacher"),
        (["--weights", "WEIGHTS", "--data_dir", "PHOTOS", "--steps", "0"], "steps is 0, expected at least 1"),
    ],
)
def test_bad_input_of_qat(
    arguments: list[str],
    message: str,
    weights_file: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"EMPTY_DIR": "empty", "WEIGHTS": str(weights_file), "PHOTOS": str(photos)}
    with pytest.raises(ValueError) as caught:
        qat.run(parsed(qat, *[names.get(a, a) for a in arguments]))
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists(), "nothing is written for a command that cannot work"


def test_the_commands_say_it_in_one_line_and_fail(root: Path) -> None:
    done = command("quantization/convert.py", "--int8", "--weights", "absent.keras", cwd=root)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: absent.keras: no such weights file"
    assert "Traceback" not in done.stderr
