"""The device side needs no training package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

TRAINING_ONLY = (
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "torch",
    "onnx",
    "h5py",
)


def test_the_device_side_names_no_training_package(root: Path) -> None:
    files = sorted((root / "tflite").rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(root)} imports {name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        if name.partition(".")[0] in TRAINING_ONLY
    ]
    assert not wrong


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
