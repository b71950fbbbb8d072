from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tflite.conftest import photo
from tflite.detector import STAGES
from tflite.images import write_image


def benchmark(root: Path, *arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "tflite.benchmark", *map(str, arguments)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout, result.stderr


def test_every_stage_and_thread_count(root: Path, model_dir: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", photo())
    code, stdout, stderr = benchmark(
        *(root, "--model", model_dir / "int8.tflite", "--image", tmp_path / "photo.png", "--threads", "1,2"),
        *("--runs", "5", "--json", tmp_path / "b.json"),
    )
    assert code == 0, stderr
    report = json.loads((tmp_path / "b.json").read_text())
    for stage in (*STAGES, "end_to_end"):
        assert set(report[f"{stage}_ms"]) == {"1", "2"}
        for figures in report[f"{stage}_ms"].values():
            assert 0 < figures["p50"] <= figures["p90"]
        assert stage in stdout
    for count in ("1", "2"):
        whole = report["end_to_end_ms"][count]["p50"]
        assert whole >= report["invoke_ms"][count]["p50"]
    assert report["faces"] > 0
    assert report["image"] == [128, 192]
    assert report["input"] == [64, 96]
    assert report["interpreter"].startswith("ai_edge_litert")
    assert 20 < report["peak_memory_mb"] < 1000
    if sys.platform == "linux":
        assert 5 < report["anonymous_memory_mb"] < report["peak_memory_mb"]
    parts = report["cold_start_ms"]
    assert parts["process_to_faces"] >= parts["import"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "{tmp}/none.tflite"), "cannot read the model"),
        (("--model", "{model}", "--threads", "0"), "--threads is 0, expected 1 to 256"),
        (("--model", "{model}", "--threads", "1,x"), "--threads is '1,x', expected whole numbers"),
        (("--model", "{model}", "--image", "{tmp}/none.jpg"), "none.jpg: cannot read the file"),
        (("--model", "{model}", "photo.jpg"), "unexpected argument 'photo.jpg'"),
        (("--model", "fast_9"), "fast_9: no such model, expected a .tflite file or one of fast_320, fast_640"),
        (("--model", "{model}", "--json", "{model}"), "int8.tflite: expected a file for text"),
        (("--model", "{model}", "--json", "{tmp}"), "is a folder, expected a file"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], message: str, root: Path, model_dir: Path, tmp_path: Path) -> None:
    values = {"tmp": tmp_path, "model": model_dir / "int8.tflite"}
    code, _, stderr = benchmark(root, *(argument.format(**values) for argument in arguments))
    assert code != 0
    assert message in stderr
