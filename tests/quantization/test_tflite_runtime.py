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
from quantization.integer import Grid, _leaky_relu
from quantization.simulate import simulate
from rf_keras.backbones import LEAKY_SLOPE
from rf_keras.cache import cache_dir
from rf_keras.model import build_model
from rf_keras.synthetic import synthetic_dir
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.preprocess import letterbox
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
# Inputs, outputs, scales and zero points of all LeakyReLUs, for some photos; those that feed an Add are left out,
# because that writes its result into their memory.
LEAKY_RELUS = """
import sys, numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], experimental_preserve_all_tensors=True)
interpreter.allocate_tensors()
operations = interpreter._get_ops_details()
added = {int(index) for op in operations if op["op_name"] == "ADD" for index in op["inputs"]}
grids = {one["index"]: one["quantization"] for one in interpreter.get_tensor_details()}
found = {}
for number, image in enumerate(np.load(sys.argv[2])):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    for op in operations:
        before, after = int(op["inputs"][0]), int(op["outputs"][0])
        if op["op_name"] == "LEAKY_RELU" and after not in added:
            key = f"{number}_{op['index']}"
            found |= {"in" + key: interpreter.get_tensor(before), "out" + key: interpreter.get_tensor(after)}
            found |= {"scales" + key: [grids[before][0], grids[after][0]]}
            found |= {"zeros" + key: [grids[before][1], grids[after][1]]}
np.savez(sys.argv[3], **found)
"""


def random_network(activation: str, images: np.ndarray) -> bytes:
    """An int8 file of a tiny network with random weights, calibrated."""
    network = dataclasses.replace(TINY, activation=activation)
    keras.utils.set_random_seed(1)
    folded = fold(randomize(build_model(network)), network, SIZE, SIZE)
    config = folded.config
    simulated = simulate(folded, calibrate(folded, images), height=SIZE, width=SIZE)
    spec = config.spec(SIZE, SIZE, quantization="int8-ptq", source="random")
    return attach_spec(to_tflite(simulated, config, "int8"), spec)


@pytest.fixture(scope="module")
def old_python() -> Path:
    """Python of an environment with tflite-runtime 2.14 and NumPy 1; kept in the cache, built on first use."""
    folder = cache_dir() / f"tflite-runtime-2.14-py{sys.version_info.major}{sys.version_info.minor}"
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
    path = tmp_path / "relu.tflite"
    path.write_bytes(random_network("relu", images))
    assert agreement(old_python, path, images, 0.9, root, tmp_path).mean() >= 0.98


def test_leaky_relu_to_the_bit(old_python: Path, images: np.ndarray, tmp_path: Path) -> None:
    """`leaky.align_leaky` and `leaky.LEAKY_EXPORT_SLOPE`: the old kernel rounds twice and XNNPACK once, and no
    negative value shows it."""
    path = tmp_path / "random.tflite"
    path.write_bytes(random_network("leaky_relu", images))
    pixels = tmp_path / "images.npy"
    np.save(pixels, np.clip(images[:4].astype(int) - 128, -128, 127).astype(np.int8))
    command = [old_python, "-c", LEAKY_RELUS, path, pixels, tmp_path / "found.npz"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    seen: set[int] = set()
    for key in (key for key in found.files if key.startswith("in")):
        scales, zeros = found["scales" + key[2:]], found["zeros" + key[2:]]
        before, after = (Grid(np.float32(scale), int(zero)) for scale, zero in zip(scales, zeros, strict=True))
        expected = _leaky_relu((found[key].astype(np.int32), before), LEAKY_SLOPE, after)
        np.testing.assert_array_equal(found["out" + key[2:]], expected, err_msg=key)
        seen |= set(np.unique(found[key].astype(int) - before.zero_point).tolist())
    assert len([value for value in seen if value < 0]) > 120, "nearly all negative values were tried"


@pytest.mark.parametrize("name", ["mnet025_320", "fast_320"])
def test_same_faces_with_shipped_models(old_python: Path, root: Path, tmp_path: Path, name: str) -> None:
    photos = sorted((synthetic_dir("val", 320) / "images").iterdir())[:24]
    images = np.stack([letterbox(read_image(path), 320, 320, ModelSpec.mean)[0] for path in photos])
    model = root / f"tflite/models/retinaface_{name}_int8.tflite"
    assert agreement(old_python, model, images, 0.9, root, tmp_path).mean() >= 0.98


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "size"), [("mnet025_640", 640), ("mnet025_320", 320)])
def test_same_faces_on_photos(
    old_python: Path, root: Path, shared_data: Path, tmp_path: Path, name: str, size: int
) -> None:
    """LeakyReLU's two roundings made 92 to 97 % of these before `leaky.align_leaky`."""
    photos = sorted((shared_data / "wider" / "train" / "images").rglob("*.jpg"))[::22]
    images = np.stack([letterbox(read_image(path), size, size, ModelSpec.mean)[0] for path in photos])
    model = root / f"tflite/models/retinaface_{name}_int8.tflite"
    assert agreement(old_python, model, images, 0.9, root, tmp_path).mean() >= 0.98
