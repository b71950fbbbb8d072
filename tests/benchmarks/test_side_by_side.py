from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import side_by_side
from benchmarks.contestants import OTHERS
from benchmarks.report import BEGIN, END
from tests.tflite.conftest import photo
from tflite.images import write_image


def test_the_whole_way_with_one_model_and_one_photo(root: Path, model_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_image(data / "images" / "photo.png", photo())
    (data / "label.txt").write_text("# photo.png\n48 32 32 32 " + "-1.0 " * 15 + "0.9\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    command = [sys.executable, "benchmarks/side_by_side.py", "--models", model_dir / "int8.tflite"]
    command += [model_dir / "fp32.tflite", "--data_dir", data, "--images", "1", "--rounds", "2", "--cold_starts", "1"]
    command += ["--peers", "onnxruntime,yunet", "--json", tmp_path / "b.json", "--readme", readme]
    command += ["--plot", tmp_path / "plot.png"]
    done = subprocess.run([*map(str, command)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    assert [row["ours"] for row in report["rows"]] == [True, True, False]
    for row in report["rows"]:
        assert row["size"] == [64, 96]
        assert 0 < row["inference_ms"]["p50"] <= row["inference_ms"]["p90"]
        assert row["end_to_end_ms"]["p50"] > 0
        assert row["to_reference"] > 0
        assert row["to_package"] is None
        assert row["cold_start_ms"] > 0
        assert row["peak_memory_mb"] > 20
        assert 0 <= row["ap"]["all"] <= 100
    assert report["rows"][2]["to_reference"] == 1
    assert report["rows"][0]["faces"] > 0
    assert report["rows"][0]["model_bytes"] == (model_dir / "int8.tflite").stat().st_size
    assert report["skipped"] == {"yunet": "no --yunet FILE given"}
    lines = readme.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert sum("**ours: int8" in line for line in lines) == 1
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": ["onnxruntime", "dlib"]}, "--peers names 'dlib', expected some of onnxruntime"),
        ({"plot": "p.png"}, "--plot draws AP over time: give --data_dir"),
        ({"readme": "{tmp}/none.md"}, "none.md: no such file"),
        ({"yunet": "{tmp}/none.onnx"}, "none.onnx: no such file, expected YuNet's ONNX file"),
        ({"models": ["{tmp}/none.tflite"]}, "none.tflite: cannot read the model"),
        ({"data_dir": "{tmp}/none"}, "none"),
        ({"photos": ["{tmp}/*.jpg"]}, "no file matches the pattern"),
    ],
)
def test_bad_input_ends_before_the_work(options: dict[str, Any], message: str, model_dir: Path, tmp_path: Path) -> None:
    def filled(value: Any) -> Any:
        return [filled(v) for v in value] if isinstance(value, list) else str(value).format(tmp=tmp_path)

    given = {key: filled(value) for key, value in options.items()}
    models = given.pop("models", [str(model_dir / "int8.tflite")])
    defaults: dict[str, Any] = {"peers": list(OTHERS), "photos": [], "images": 1, "limit": 0}
    defaults |= dict.fromkeys(("plot", "readme", "data_dir", "gt_dir", "json", "yunet"))
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        side_by_side.run(SimpleNamespace(**(defaults | given)), models)
    assert message in str(error.value)


def test_spread() -> None:
    assert side_by_side.spread(range(10), 3) == [0, 4, 9]
    assert side_by_side.spread(range(2), 5) == [0, 1]
