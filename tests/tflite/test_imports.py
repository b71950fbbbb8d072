"""Imports go one way: quantization → rf_keras → tflite; and the device side needs no training package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWED = {
    "tflite": {"tflite"},
    "rf_keras": {"rf_keras", "tflite"},
    "quantization": {"quantization", "rf_keras", "tflite"},
}
PROJECT = {*ALLOWED, "benchmarks", "tests", "android_demo"}  # retinaface_keras imports nothing: all may know it
TRAINING_ONLY = (
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "torch",
    "onnx",
    "onnxruntime",
    "h5py",
)


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import statement, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, package if node.level else (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str, root: Path) -> None:
    files = sorted((root / package).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(root)}:{line} imports {name}"
        for file in files
        for line, name in imported(ast.parse(file.read_text(encoding="utf-8")), package)
        if name in PROJECT - ALLOWED[package] or (package == "tflite" and name in TRAINING_ONLY)
    ]
    assert not wrong


def test_the_walk_sees_every_form_of_import() -> None:
    tree = ast.parse("import a.b as c\ndef f():\n    from d.e import g\nfrom . import h\n")
    assert [name for _, name in imported(tree, "self")] == ["a", "self", "d"]


def test_detecting_loads_no_tensorflow(model_dir: Path, root: Path) -> None:
    """The interpreter choice reaches TensorFlow only when nothing lighter works."""
    code = (
        "import sys, numpy as np\n"
        "from tflite.detector import FaceDetector\n"
        "import tflite.detect, tflite.draw, tflite.files\n"
        f"FaceDetector({str(model_dir / 'int8.tflite')!r}).detect(np.zeros((9, 9, 3), np.uint8))\n"
        f"print([m for m in {TRAINING_ONLY!r} if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
