"""The same int8 file under LiteRT and under tflite-runtime 2.14, its predecessor, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantization.compare import above, same_faces
from rf_keras.config import ModelConfig
from tflite.detector import FaceDetector
from tflite.postprocess import Detections
from tflite.spec import attach_spec

from .conftest import SIZE

PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless<4.12", "pillow", "absl-py", "tqdm")
DETECT = """
import json, sys, numpy as np
from tflite.detector import FaceDetector
detector = FaceDetector(sys.argv[1], 1)
faces = [detector.detect(image, 0.3) for image in np.load(sys.argv[2])]
print(json.dumps([detector.interpreter_name, [[f.boxes.tolist(), f.scores.tolist()] for f in faces]]))
"""


@pytest.fixture(scope="module")
def old_python() -> Path:
    """Python of an environment with tflite-runtime 2.14 and NumPy 1; kept in the cache, built on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "retinaface-keras"
    folder = cache / f"tflite-runtime-2.14-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"tflite-runtime 2.14 cannot be had here: {done.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    return python


def test_same_faces(
    old_python: Path,
    int8_file: bytes,
    folded: tuple[object, ModelConfig],
    images: np.ndarray,
    root: Path,
    tmp_path: Path,
) -> None:
    model, pictures = tmp_path / "m.tflite", tmp_path / "images.npy"
    model.write_bytes(attach_spec(int8_file, folded[1].spec(SIZE, SIZE, quantization="int8-ptq", source="random")))
    np.save(pictures, images)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [old_python, "-c", DETECT, model, pictures], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    name, results = json.loads(done.stdout.splitlines()[-1])
    assert name.startswith("tflite_runtime 2.14")
    detector = FaceDetector(model, 1)
    assert detector.interpreter_name.startswith("ai_edge_litert")
    matched = []
    for image, (boxes, scores) in zip(images, results, strict=True):
        old = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), np.zeros((len(scores), 5, 2)))
        new = detector.detect(image, 0.3)
        # A face above 0.5 in one may lie just below it in the other: a few LSB. IoU 0.5, because this net is random;
        # boxes of the tuned reference on photos overlap by more than 0.9 in 95 % and by more than 0.85 in 98.6 % of
        # 291 faces.
        matched += [same_faces(above(new, 0.5), old, 0.5), same_faces(above(old, 0.5), new, 0.5)]
    every = np.concatenate(matched)
    assert len(every) > 20 and every.mean() >= 0.98
