"""`pip install .` without extras: a fresh virtual environment finds faces and has no TensorFlow."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tflite.conftest import photo
from tflite import __version__
from tflite.images import write_image

TOP_LEVEL = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "retinaface_keras.py")
LARGEST_WHEEL = 6_000_000  # bytes, unpacked


def run(folder: Path, *command: str | Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def dist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, of a copy: building here would leave build/ and *.egg-info behind."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in TOP_LEVEL:
        shutil.copy(root / name, source)
    for name in ("tflite", "rf_keras", "quantization", "tests"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(source, sys.executable, "setup.py", "-q", "sdist", "-d", folder)
    run(folder, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, next(folder.glob("*.tar.gz")))
    return folder


def test_the_wheel_holds_the_device_side_and_the_licences(dist: Path, root: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert sum(info.file_size for info in archive.infolist()) <= LARGEST_WHEEL
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        head, _, description = archive.read(metadata).decode("utf-8").partition("\n\n")
        fields = email.message_from_string(head)
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        "tflite",
        "rf_keras",
        "quantization",
        "retinaface_keras.py",
    }
    assert not [name for name in names if name.endswith(".keras")]
    assert sorted(name for name in names if name.endswith(".tflite")) == sorted(
        f"tflite/models/{path.name}" for path in (root / "tflite" / "models").glob("*.tflite")
    )
    for package in ("tflite", "rf_keras", "quantization"):
        assert f"{package}/py.typed" in names
    for licence in ("LICENSE", "NOTICE"):
        assert [name for name in names if ".dist-info/" in name and name.endswith(licence)]
    assert fields["Version"] == __version__
    assert description.strip() == (root / "README.md").read_text(encoding="utf-8").strip()
    assert "Typing :: Typed" in fields.get_all("Classifier", [])
    required = fields.get_all("Requires-Dist", [])
    assert [line for line in required if line.startswith("tflite-runtime") and "armv7l" in line]
    assert not [line for line in required if line.startswith("tensorflow") and "extra" not in line]


def test_the_source_distribution_holds_the_licences(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*TOP_LEVEL, "tflite/py.typed", "tflite/models/retinaface_fast_640_int8.tflite"} <= names


def test_detects_with_the_base_install_alone(dist: Path, model_dir: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", photo())
    run(tmp_path, sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(tmp_path, python, "-m", "pip", "install", "--quiet", next(dist.glob("*.whl")))
    listed = json.loads(run(tmp_path, python, "-m", "pip", "list", "--format", "json"))
    packages = {entry["name"].lower() for entry in listed}
    assert not packages & {
        "tensorflow",
        "tf-keras",
        "keras",
        "tf_keras",
        "tensorflow-model-optimization",
        "tensorflow-cpu",
    }
    assert "ai-edge-litert" in packages

    retinaface = tmp_path / "venv" / "bin" / "retinaface"
    assert run(tmp_path, retinaface, "--version") == f"retinaface-keras {__version__}\n"
    run(tmp_path, retinaface, "detect", "photo.png", "--model", model_dir / "int8.tflite", "--json", "faces.json")
    faces = json.loads((tmp_path / "faces.json").read_text())["photo.png"]
    assert faces
    x1, y1, x2, y2 = faces[0]["box"]
    assert abs((x1 + x2) / 2 - 64) < 20
    assert abs((y1 + y2) / 2 - 48) < 20
    result = subprocess.run([retinaface, "train"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: retinaface train needs tensorflow: pip install 'retinaface-keras[train]'\n"
