"""A tiny network, noise photos and its int8 export; shared, because tracing TensorFlow costs seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tf_keras as keras

from quantization.calibrate import calibrate
from quantization.export import to_tflite
from quantization.fold import fold
from quantization.graph import FoldedNetwork, Ranges
from quantization.simulate import simulate
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from rf_keras.model_file import save_model

SIZE = 64
TINY = ModelConfig(backbone="mobilenet", width=0.125, neck_channels=8, ssh_channels=8)
SHALLOW = ModelConfig(backbone="fast", width=0.5, blocks=(0, 0), neck_channels=8, ssh_channels=8)


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """BN statistics and scales as after training, so that folding has something to fold; heads that say something."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            gamma, beta = rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.3, channels)
            layer.set_weights([gamma, beta, rng.normal(0, 0.3, channels), rng.uniform(0.5, 2, channels)])
        elif layer.name.startswith(("class_", "box_", "landmark_")):
            kernel, bias = layer.get_weights()
            layer.set_weights([rng.normal(0, 0.5, kernel.shape), rng.normal(0, 0.5, bias.shape)])
    return model


@pytest.fixture(scope="session")
def tiny() -> tuple[keras.Model, ModelConfig]:
    keras.utils.set_random_seed(1)
    return randomize(build_model(TINY)), TINY


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of smooth noise."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for number in range(12):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="session")
def images(photos: Path) -> np.ndarray:
    from quantization.images import find_images, load_images

    return load_images(find_images([photos], 12), SIZE, SIZE)


@pytest.fixture(scope="session")
def folded(tiny: tuple[keras.Model, ModelConfig]) -> FoldedNetwork:
    return fold(*tiny, SIZE, SIZE)


@pytest.fixture(scope="session")
def ranges(folded: FoldedNetwork, images: np.ndarray) -> Ranges:
    return calibrate(folded, images)


@pytest.fixture(scope="session")
def simulated(folded: FoldedNetwork, ranges: Ranges) -> keras.Model:
    return simulate(folded, ranges, height=SIZE, width=SIZE)


@pytest.fixture(scope="session")
def int8_file(simulated: keras.Model, folded: FoldedNetwork) -> bytes:
    return to_tflite(simulated, folded.config, "int8")


@pytest.fixture(scope="session")
def shallow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network of few layers, for whole commands: each of them traces it several times."""
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("weights") / "shallow.keras"
    save_model(randomize(build_model(SHALLOW)), SHALLOW, path, {"source": "random"})
    return path


@pytest.fixture(scope="session")
def weights_file(tiny: tuple[keras.Model, ModelConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    save_model(*tiny, path, {"source": "random"})
    return path
