"""`retinaface`, the command of the installed package, and what it says where it cannot work."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retinaface_keras import COMMANDS, TRAINING_PACKAGES
from tests.tflite.conftest import photo
from tflite import __version__
from tflite.images import write_image


def run(
    root: Path, *arguments: str | Path, first: Path | None = None, without: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """The command, outside the repository; `first` goes before it on the path, `without` cannot be imported."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split())); import retinaface_keras as r; r.main()"
    )
    path = os.pathsep.join(map(str, filter(None, (first, root))))
    result = subprocess.run(
        [sys.executable, "-c", code, " ".join(without), *map(str, arguments)],
        cwd=root.anchor,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package as PyPI's unrelated one: no module of ours in it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tflite").mkdir()
    (folder / "tflite" / "__init__.py").write_text("__version__ = '2.18.0'\nfrom tflite.Model import *\n")
    (folder / "tflite" / "Model.py").write_text("class Model: pass\n")
    return folder


def test_every_command_is_a_module() -> None:
    for module, text in COMMANDS.values():
        assert importlib.util.find_spec(module) is not None and text


def test_help_and_version(root: Path) -> None:
    for arguments in ((), ("-h",), ("--help",)):
        code, stdout, stderr = run(root, *arguments, without=tuple(TRAINING_PACKAGES))
        assert code == 0 and stderr == ""
        assert all(f"  {name} " in stdout for name in COMMANDS)
    assert run(root, "--version")[:2] == (0, f"retinaface-keras {__version__}\n")
    code, _, stderr = run(root, "find")
    assert code == 1 and stderr.startswith("error: 'find' is no command, expected one of detect, benchmark, ")


def test_detects(root: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", photo())
    code, stdout, stderr = run(root, "detect", tmp_path / "photo.png", "--model", "fast_320")
    assert code == 0, stderr
    assert "photo.png: 0 faces" in stdout
    code, stdout, _ = run(root, "detect", "--help", without=("tensorflow", "tf_keras"))
    assert code == 0 and "--score_threshold" in stdout
    code, _, stderr = run(root, "detect", tmp_path / "none.png")
    assert code == 1 and "none.png: cannot read the file" in stderr


@pytest.mark.parametrize(("command", "arguments"), [("train", ()), ("convert", ("--int8",))])
def test_training_without_tensorflow_names_what_to_install(
    command: str, arguments: tuple[str, ...], root: Path
) -> None:
    code, _, stderr = run(root, command, *arguments, without=tuple(TRAINING_PACKAGES))
    assert code == 1
    assert stderr.count("\n") == 1
    assert stderr.startswith(f"error: retinaface {command} needs ")
    assert stderr.endswith(": pip install 'retinaface-keras[train]'\n")


@pytest.mark.parametrize("command", ["detect", "convert", "--version"])
def test_the_other_tflite_is_named_in_one_line(command: str, root: Path, other: Path) -> None:
    code, stdout, stderr = run(root, command, first=other)
    assert code == 1 and stdout == "" and stderr.count("\n") == 1
    assert stderr.startswith(f"error: the package tflite here ({other}/tflite/__init__.py) is not that of")
    assert "pip uninstall tflite" in stderr


def test_modules_name_the_other_tflite_too(root: Path, other: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{other}{os.pathsep}{root}"}
    for arguments, code in (("-m", "rf_keras.train"), 1), (("-c", "import rf_keras"), 1):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=root.anchor, env=environment, capture_output=True, text=True
        )
        assert result.returncode == code
        last = result.stderr.splitlines()[-1]
        assert "the package tflite here" in last
        assert ("Traceback" in result.stderr) == (arguments[0] == "-c")


def test_what_uninstalling_the_other_leaves(root: Path, tmp_path: Path) -> None:
    """Both in one folder share `__init__.py`, and it goes with the other one."""
    (tmp_path / "tflite").mkdir()
    (tmp_path / "tflite" / "detect.py").touch()
    (tmp_path / "retinaface_keras.py").write_bytes((root / "retinaface_keras.py").read_bytes())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # -S: no site-packages, where an editable install would bring the whole package.
    command = [sys.executable, "-S", "-m", "retinaface_keras", "detect"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: the package tflite here (without __init__.py) is not that of")
