"""The documented way to ncnn: convert.py --onnx, then pnnx; the nine outputs, and the faces, stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.contestants import convert_to_ncnn
from benchmarks.peers import PeerMissing
from quantization.fold import fold
from quantization.graph import FoldedNetwork, signature_names
from quantization.onnx_export import to_onnx
from rf_keras.boxes import iou
from rf_keras.model_file import load_model
from tests.optional import missing, needed
from tflite.anchors import make_anchors
from tflite.images import read_image
from tflite.onnx_runtimes import Run, candidates, in_onnx_runtime
from tflite.postprocess import Detections, detections_from_candidates
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

from .conftest import SIZE

HEIGHT, WIDTH = 480, 640


def in_ncnn(onnx: Path, names: list[str], size: tuple[int, int], folder: Path, exact: bool = False) -> Run:
    """The network of an .onnx file through pnnx, as `tflite.onnx_runtimes` runs it elsewhere.

    `exact` computes in float32 alone; by default ncnn takes 16 bits where the CPU has instructions for them.
    """
    ncnn = needed("ncnn")
    try:
        param = convert_to_ncnn(onnx, size, folder)
    except PeerMissing as error:
        missing(str(error))
    net = ncnn.Net()
    if exact:
        for setting in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
            setattr(net.opt, f"use_{setting}", False)
    assert net.load_param(str(param)) == 0 and net.load_model(str(param.with_suffix(".bin"))) == 0

    def run(blob: np.ndarray) -> dict[str, np.ndarray]:
        extractor = net.create_extractor()
        pixels = np.ascontiguousarray(blob[0])  # a Mat keeps no reference to what it is made of
        extractor.input("in0", ncnn.Mat(pixels))
        return {name: np.array(extractor.extract(f"out{i}")[1])[None] for i, name in enumerate(names)}

    return run


def test_outputs_in_ncnn(folded: FoldedNetwork, images: np.ndarray, tmp_path: Path) -> None:
    onnx = tmp_path / "tiny.onnx"
    onnx.write_bytes(to_onnx(folded, ModelSpec()))
    names = signature_names(folded.config)
    blob = images[:1].astype(np.float32) - np.float32(ModelSpec.mean)
    outputs = in_ncnn(onnx, names, (SIZE, SIZE), tmp_path, exact=True)(blob.transpose(0, 3, 1, 2))
    for name, expected in zip(names, folded.model(blob), strict=True):
        found, wanted = outputs[name][0].transpose(1, 2, 0), expected.numpy()[0]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()), err_msg=name)


Detect = Callable[[np.ndarray], Detections]


@pytest.fixture(scope="module")
def detectors(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detect, Detect]:
    """The default model's network, float, in ONNX Runtime and in ncnn."""
    folder = tmp_path_factory.mktemp("ncnn")
    model, config, _ = load_model(root / "rf_keras" / "weights" / "retinaface_fast_qat.keras")
    network, spec = fold(model, config), config.spec(HEIGHT, WIDTH)
    onnx = folder / "fast.onnx"
    onnx.write_bytes(to_onnx(network, spec))
    anchors = make_anchors(HEIGHT, WIDTH, spec.strides, spec.anchor_sizes)

    def detect(run: Run, image: np.ndarray) -> Detections:
        pixels, scale = letterbox(image, HEIGHT, WIDTH, spec.mean, antialias=spec.antialias)
        found = candidates(run, cv2.dnn.blobFromImage(pixels, mean=spec.mean), anchors, spec, 0.4)
        return detections_from_candidates(found, spec, image.shape[:2], scale, spec.iou_threshold)

    runs: list[Any] = [
        in_onnx_runtime(onnx, 1)[0],
        in_ncnn(onnx, signature_names(config), (HEIGHT, WIDTH), folder),
    ]
    return lambda image: detect(runs[0], image), lambda image: detect(runs[1], image)


def share_found(detectors: tuple[Detect, Detect], pictures: list[np.ndarray], at_least: int) -> float:
    """Share of ONNX Runtime's faces that ncnn finds with an IoU above 0.9; other faces of ncnn's count as missed."""
    same = faces = 0
    for picture in pictures:
        wanted, found = (detect(picture) for detect in detectors)
        overlaps = iou(wanted.boxes, found.boxes)
        same += int((overlaps > 0.9).any(axis=1).sum()) if overlaps.size else 0
        faces += max(len(wanted), len(found))
    assert faces >= at_least
    return same / faces


def test_faces_of_a_portrait_in_ncnn(detectors: tuple[Detect, Detect]) -> None:
    import matplotlib

    portrait = read_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    pictures = [portrait, portrait[:, ::-1], np.hstack((portrait,) * 3), np.tile(portrait, (2, 4, 1))]
    assert share_found(detectors, [np.ascontiguousarray(picture) for picture in pictures], 13) == 1


@pytest.mark.shared_data
def test_faces_of_photos_in_ncnn(detectors: tuple[Detect, Detect], shared_data: Path) -> None:
    photos = sorted((shared_data / "wider" / "dev" / "images").rglob("*.jpg"))[::16]
    assert share_found(detectors, [read_image(photo) for photo in photos], 80) >= 0.98
