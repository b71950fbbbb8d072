from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import side_by_side
from tests.tflite.conftest import photo
from tflite.command import parse
from tflite.images import write_image


def test_the_whole_way_with_one_model_and_one_photo(root: Path, model_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_image(data / "images" / "photo.png", photo())
    (data / "label.txt").write_text("# photo.png\n48 32 32 32 " + "-1.0 " * 15 + "0.9\n")
    command = [sys.executable, "benchmarks/side_by_side.py", "--models", model_dir / "int8.tflite"]
    command += [model_dir / "fp32.tflite", "--data_dir", data, "--images", "1", "--rounds", "2", "--cold_starts", "1"]
    command += ["--closeups", "onnxruntime", "--peers", "onnxruntime,yunet", "--json", tmp_path / "b.json"]
    command += ["--plot", tmp_path / "plot.png", "--sizes", "96x64"]
    done = subprocess.run([*map(str, command)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    upright, own = report["rows"][:3], report["rows"][3:]
    assert [row["ours"] for row in report["rows"]] == [True, True, False] * 2
    assert [row["size"] for row in report["rows"]] == [[96, 64]] * 3 + [[64, 96]] * 3
    for row in report["rows"]:
        assert 0 < row["inference_ms"]["p50"] <= row["inference_ms"]["p90"]
        assert row["end_to_end_ms"]["p50"] > 0
        assert row["to_reference"] > 0
        assert row["cold_start_ms"] > 0
        assert row["peak_memory_mb"] > 20
        assert 0 <= row["ap"]["all"] <= 100
    assert upright[2]["to_reference"] == own[2]["to_reference"] == 1
    assert [row["large"] is None for row in report["rows"]] == [True] * 5 + [False], "of the models' own inputs alone"
    assert set(own[2]["large"]) == {"faces", "photos", "closeups", "turned"}
    assert own[0]["faces"] > 0
    assert own[0]["model_bytes"] == (model_dir / "int8.tflite").stat().st_size
    assert report["skipped"] == {"yunet": "no --yunet FILE given"}
    assert own[0]["file"] == "int8.tflite"
    assert own[0]["sha256"] == hashlib.sha256((model_dir / "int8.tflite").read_bytes()).hexdigest()
    assert "file" not in own[2]
    assert sum("| **int8** |" in line for line in done.stdout.splitlines()) == 2
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--peers", "onnxruntime,dlib"], "--peers names 'dlib', expected some of onnxruntime"),
        (["--peers", "yunet", "--closeups", "onnxruntime"], "--closeups names 'onnxruntime', expected some of yunet"),
        (["--sizes", "auto"], "--sizes names 'auto', expected HEIGHTxWIDTH such as 480x640"),
        (["--sizes", "96x64,480x640"], "--sizes names '480x640', but no model has a long side of 640 pixels"),
        (["--closeups", "onnxruntime"], "--closeups needs labelled photos: give --data_dir"),
        (["--plot", "p.png"], "--plot draws AP over time: give --data_dir"),
        (["--yunet", "{tmp}/none.onnx"], "none.onnx: no such file, expected YuNet's ONNX file"),
        (["--models", "{tmp}/none.tflite"], "none.tflite: cannot read the model"),
        (["--data_dir", "{tmp}/none"], "none"),
        (["--photos", "{tmp}/*.jpg"], "no file matches the pattern"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
    ],
)
def test_bad_input_ends_before_the_work(options: list[str], message: str, model_dir: Path, tmp_path: Path) -> None:
    given = ["--models", str(model_dir / "int8.tflite"), "--images", "1", *(o.format(tmp=tmp_path) for o in options)]
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        side_by_side.run(parse(side_by_side.Options, given))
    assert message in str(error.value)


def test_spread() -> None:
    assert side_by_side.spread(range(10), 3) == [0, 4, 9]
    assert side_by_side.spread(range(2), 5) == [0, 1]
