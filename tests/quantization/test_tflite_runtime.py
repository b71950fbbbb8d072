"""The same int8 file under LiteRT and under tflite-runtime 2.14, its predecessor, in an environment of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from quantization.calibrate import calibrate
from quantization.compare import above, same_faces
from quantization.export import to_tflite
from quantization.fold import fold
from quantization.simulate import simulate
from rf_keras.model import build_model
from rf_keras.synthetic import synthetic_dir
from tflite.detector import FaceDetector
from tflite.postprocess import Detections
from tflite.preprocess import letterbox, read_image
from tflite.spec import ModelSpec, attach_spec

from .conftest import SIZE, TINY, randomize

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


def agreement(old_python: Path, model: Path, images: np.ndarray, iou: float, root: Path, folder: Path) -> np.ndarray:
    """Whether each face above 0.5 under one interpreter is found under the other, where 0.3 is enough: a score a
    few steps above the threshold in one may lie below it in the other."""
    pictures = folder / "images.npy"
    np.save(pictures, images)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [old_python, "-c", DETECT, model, pictures], env=environment, capture_output=True, text=True, cwd=folder
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
        matched += [same_faces(above(new, 0.5), old, iou), same_faces(above(old, 0.5), new, iou)]
    every = np.concatenate(matched)
    assert len(every) > 20
    return every


def test_same_boxes_with_relu(old_python: Path, images: np.ndarray, root: Path, tmp_path: Path) -> None:
    network = dataclasses.replace(TINY, activation="relu")
    keras.utils.set_random_seed(1)
    model, config = fold(randomize(build_model(network)), network, SIZE, SIZE)
    simulated = simulate(model, calibrate(model, config, images), height=SIZE, width=SIZE)
    path = tmp_path / "relu.tflite"
    spec = config.spec(SIZE, SIZE, quantization="int8-ptq", source="random")
    path.write_bytes(attach_spec(to_tflite(simulated, config, "int8"), spec))
    assert agreement(old_python, path, images, 0.9, root, tmp_path).mean() >= 0.98


def test_same_faces_with_the_shipped_model(old_python: Path, root: Path, tmp_path: Path) -> None:
    """IoU 0.5, not 0.9: tflite-runtime rounds LeakyReLU's negative values otherwise than XNNPACK (BUILD_NOTES)."""
    photos = sorted((synthetic_dir("val", 320) / "images").iterdir())[:24]
    images = np.stack([letterbox(read_image(path), 320, 320, ModelSpec.mean)[0] for path in photos])
    model = root / "tflite/models/retinaface_mnet025_320_int8.tflite"
    assert agreement(old_python, model, images, 0.5, root, tmp_path).mean() >= 0.98
