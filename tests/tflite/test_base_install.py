"""`pip install .` without extras: a fresh virtual environment finds faces and has no TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.tflite.conftest import photo
from tflite.images import write_image


def test_detects_with_the_base_install_alone(root: Path, model_dir: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", photo())
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*command: str | Path) -> str:
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # A wheel from a copy: building in the repository would leave build/ and *.egg-info behind.
    run(
        "cp", "-r", *[root / name for name in ("setup.py", "pyproject.toml", "tflite", "rf_keras", "quantization")], "."
    )
    run(python, "-m", "pip", "install", "--quiet", ".")
    for name in ("tflite", "rf_keras", "quantization"):
        run("rm", "-r", name)
    packages = {entry["name"].lower() for entry in json.loads(run(python, "-m", "pip", "list", "--format", "json"))}
    assert not packages & {
        "tensorflow",
        "tf-keras",
        "keras",
        "tf_keras",
        "tensorflow-model-optimization",
        "tensorflow-cpu",
    }
    assert "ai-edge-litert" in packages

    run(python, "-m", "tflite.detect", "photo.png", "--model", model_dir / "int8.tflite", "--json", "faces.json")
    faces = json.loads((tmp_path / "faces.json").read_text())["photo.png"]
    assert faces
    x1, y1, x2, y2 = faces[0]["box"]
    assert abs((x1 + x2) / 2 - 64) < 20
    assert abs((y1 + y2) / 2 - 48) < 20
