"""The simulated model in integers is the file: on a tiny network, on one with ReLU, and on what ships."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from quantization.calibrate import calibrate
from quantization.export import to_tflite
from quantization.fold import fold
from quantization.graph import FoldedNetwork, signature_names
from quantization.integer import Grid, _add, _leaky_relu, grid_of, integer_outputs
from quantization.recipe import export_int8, with_stored_ranges
from quantization.simulate import simulate
from quantization.verify import FileRunner, lsb_difference
from rf_keras.config import PRESETS, ModelConfig
from rf_keras.model import build_model
from rf_keras.model_file import load_model
from tests.quantization.conftest import SIZE, TINY, randomize
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


def differences(content: bytes, simulated: keras.Model, config: ModelConfig, image: np.ndarray) -> np.ndarray:
    """|file − integers| of all outputs, in steps."""
    raw, found = FileRunner(content, ModelSpec.mean)(image), integer_outputs(simulated, image)
    layers = [name.removeprefix("quant_") for name in simulated.output_names]
    pairs = zip(signature_names(config), layers, strict=True)
    return np.concatenate([np.abs(raw[name].astype(np.int32) - found[layer]).ravel() for name, layer in pairs])


@pytest.mark.parametrize(
    "network",
    [TINY, dataclasses.replace(TINY, activation="relu"), PRESETS["fast"].model],
    ids=["leaky", "relu", "fast"],
)
def test_every_value_equals_the_file(network: ModelConfig, images: np.ndarray) -> None:
    keras.utils.set_random_seed(2)
    folded = fold(randomize(build_model(network)), network, SIZE, SIZE)
    config = folded.config
    simulated = simulate(folded, calibrate(folded, images), height=SIZE, width=SIZE)
    content = to_tflite(simulated, config, "int8")
    for image in images[:3]:
        found = differences(content, simulated, config, image)
        assert found.max() <= 1 and np.mean(found > 0) < 1e-3, (found.max(), np.mean(found > 0))


@pytest.mark.parametrize(("weights", "size"), [("mobilenet0.25_qat", 640), ("mobilenet0.25_qat_320", 320)])
def test_the_shipped_model_is_what_was_tuned(weights: str, size: int) -> None:
    model, config, meta = load_model(ROOT / f"rf_keras/weights/retinaface_{weights}.keras")
    int8 = with_stored_ranges(fold(model, config, size, size), meta)
    assert int8 is not None
    simulated = export_int8(int8, config.spec(size, size))[1]
    content = (ROOT / f"tflite/models/retinaface_mnet025_{size}_int8.tflite").read_bytes()
    small = np.random.default_rng(0).integers(0, 256, (30, 24, 3), dtype=np.uint8)
    image, _ = letterbox(small.repeat(8, axis=0).repeat(8, axis=1), size, size, ModelSpec.mean)
    found = differences(content, simulated, config, image)
    assert found.max() <= 1 and np.mean(found > 0) < 1e-3, (found.max(), np.mean(found > 0))
    assert lsb_difference(content, simulated, config, image[None], ModelSpec.mean) <= 2


def test_a_changed_weight_shows(simulated: keras.Model, folded: FoldedNetwork, images: np.ndarray) -> None:
    content = to_tflite(simulated, folded.config, "int8")
    layer = simulated.get_layer("quant_stem_conv").layer
    old = layer.bias.numpy()
    layer.bias.assign(old + 5.0)
    try:
        assert lsb_difference(content, simulated, folded.config, images[:1], ModelSpec.mean) > 2
    finally:
        layer.bias.assign(old)


def test_grid() -> None:
    assert grid_of(0.0, 255.0) == Grid(np.float32(1), -128)
    assert grid_of(-1.0, 1.0).zero_point in (0, -1)


def test_leaky_relu_by_hand() -> None:
    source = np.array([-128, -10, 0, 1, 127]), Grid(np.float32(1), 0)
    np.testing.assert_array_equal(_leaky_relu(source, 0.1, Grid(np.float32(1), 0)), [-13, -1, 0, 1, 127])
    # −12.8 · (26/25.6): the multiplier of a tenth is 26/256


def test_add_by_hand() -> None:
    a, b = (np.array([10, 127, -128]), Grid(np.float32(0.5), 0)), (np.array([4, 127, -128]), Grid(np.float32(0.25), 2))
    # 5 + 0.5, 63.5 + 31.25, −64 − 32.5 in steps of 0.5
    np.testing.assert_array_equal(_add(a, b, Grid(np.float32(0.5), 0), -128), [11, 127, -128])
    np.testing.assert_array_equal(_add(a, b, Grid(np.float32(0.5), 0), 0), [11, 127, 0])
