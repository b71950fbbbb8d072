from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from quantization.fold import fold
from quantization.graph import FoldedNetwork, signature_names
from rf_keras.config import ModelConfig
from rf_keras.model import build_model, face_logit

from .conftest import TINY, randomize


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        ModelConfig(backbone="fast", width=0.5, activation="relu", neck_channels=8, ssh_channels=8, class_logits=1),
    ],
    ids=["mobilenet", "fast"],
)
def test_folding_keeps_the_function(config: ModelConfig) -> None:
    keras.utils.set_random_seed(2)
    model = randomize(build_model(config))
    folded = fold(model, config, 64, 96)
    x = np.random.default_rng(0).uniform(-120, 130, (2, 64, 96, 3)).astype(np.float32)
    expected, found = model(x), folded.model(x)
    levels = len(config.strides)
    scores = [face_logit(class_map, config) for class_map in expected[:levels]]
    for a, b in zip([*scores, *expected[levels:]], found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3 * np.abs(a).max())
    assert folded.config.class_logits == 1
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.model.layers)
    assert all(layer.use_bias for layer in folded.convs)


@pytest.mark.parametrize("conv", [keras.layers.Conv2D, keras.layers.DepthwiseConv2D])
def test_epsilon_and_a_convs_own_bias_are_folded_too(conv: type[keras.layers.Layer]) -> None:
    image = keras.Input((None, None, 3), name="image")
    x = conv(**({"filters": 5} if conv is keras.layers.Conv2D else {}), kernel_size=3, name="conv")(image)
    model = keras.Model(image, keras.layers.BatchNormalization(epsilon=0.5, name="bn")(x))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, weights.shape) for weights in model.get_weights()])
    pixels = random.uniform(-1, 1, (1, 8, 9, 3)).astype(np.float32)
    folded = fold(model, TINY)
    np.testing.assert_allclose(folded.model(pixels), model(pixels), rtol=1e-4, atol=1e-4)


def test_a_conv_with_another_reader_keeps_its_batch_norm() -> None:
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    norm = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(image, [norm, keras.layers.ReLU(name="other")(x)])
    with pytest.raises(ValueError, match="bn: batch norm after conv cannot be folded"):
        fold(model, TINY)


def test_score_head_is_face_minus_background(tiny: tuple[keras.Model, ModelConfig]) -> None:
    model, config = tiny
    folded = fold(model, config).model
    kernel, bias = model.get_layer("class_16").get_weights()  # [1, 1, C, 4]: background, face of anchor 0, then of 1
    score_kernel, score_bias = folded.get_layer("class_16").get_weights()
    np.testing.assert_allclose(score_kernel[0, 0, :, 0], kernel[0, 0, :, 1] - kernel[0, 0, :, 0], rtol=1e-6)
    np.testing.assert_allclose(score_kernel[0, 0, :, 1], kernel[0, 0, :, 3] - kernel[0, 0, :, 2], rtol=1e-6)
    np.testing.assert_allclose(score_bias, [bias[1] - bias[0], bias[3] - bias[2]], rtol=1e-6)


def test_folding_twice_changes_nothing(folded: FoldedNetwork) -> None:
    again = fold(folded.model, folded.config)
    assert again.config == folded.config
    for a, b in zip(folded.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lone_batch_norm_is_an_error() -> None:
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.ReLU(name="first")(image)
    model = keras.Model(image, [keras.layers.BatchNormalization(name="bn")(x)])
    with pytest.raises(ValueError, match="bn: batch norm after first cannot be folded"):
        fold(model, TINY)


def test_signature_names() -> None:
    assert signature_names(ModelConfig()) == [
        *("score_8", "score_16", "score_32"),
        *("box_8", "box_16", "box_32"),
        *("landmark_8", "landmark_16", "landmark_32"),
    ]
