"""What a teacher's features are, the loss that predicts them, and the heads that do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recipes.gpu.features import add_feature_heads, feature_sums, teacher_features
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from tests.rf_keras.distillation.test_teacher import make_teacher


def test_features_are_what_the_scores_are_made_of(tmp_path: Path) -> None:
    images = np.zeros((2, 96, 96, 3), np.uint8)
    images[1, 8:16, 16:24, 2] = 255  # red, row 1 and column 2 of stride 8
    found = teacher_features(str(make_teacher(tmp_path / "teacher.onnx")), images)
    dark, share = -127.5 / 128, 255 / 128
    expected = np.full((2, 12**2 + 6**2 + 3**2, 3), dark, np.float32)  # RGB
    expected[1, 12 + 2, 0] += share
    expected[1, 12**2 + 6**2, 0] += share / 16  # a sixteenth of the first cell of stride 32,
    expected[1, 12**2 + np.array([0, 1, 6, 7]), 0] += share / 16  # from which this file makes stride 16
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_feature_loss_by_hand() -> None:
    # Two images; one level of two cells, one of one; two anchors each; one channel.
    features = tf.constant([[[3.0], [5.0], [7.0]], [[5.0], [3.0], [7.0]]])  # ±1 when standardized; a constant level: 0
    predicted = tf.constant([[[0.0], [1.0], [2.0]], [[1.0], [0.5], [0.0]]])
    score = [[0.5, 0.0, 0.05, 0.05, 0.0, 0.8], [0.0, 0.0, 0.3, 0.4, 0.0, 0.0]]
    answers = tf.pad(tf.constant(score)[..., None], [[0, 0], [0, 0], [0, 14]])
    sums = feature_sums(predicted, features, answers, (2, 1), 2)
    assert float(sums.images) == pytest.approx((1 + 0 + 4) / 3 + (0 + 1.5**2 + 0) / 3, rel=1e-5)
    assert float(sums.faces) == pytest.approx(0.5 * 1 + 0.8 * 4 + (0.3 + 0.4) * 1.5**2, rel=1e-5)
    assert float(sums.faces_unknown) == pytest.approx(0.5 * 1 + 0.8 * 0 + (0.3 + 0.4) * 1, rel=1e-5)


def test_feature_heads_add_an_output_and_change_none() -> None:
    config = ModelConfig(backbone="fast", width=1.0, blocks=(1, 1), activation="relu", class_logits=1)
    model = build_model(config)
    trained = add_feature_heads(model, config, channels=5)
    image = tf.random.stateless_uniform([2, 64, 96, 3], seed=(1, 2))
    *outputs, features = trained(image)
    for mine, theirs in zip(outputs, model(image), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert features.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 5) and not np.any(features)
    # Row 1 and column 2 of stride 16, by the conv's own arithmetic.
    head = trained.get_layer("feature_16")
    head.set_weights([np.arange(64 * 5, dtype=np.float32).reshape(1, 1, 64, 5) / 99, np.arange(5, dtype=np.float32)])
    context = keras.Model(model.input, model.get_layer("ssh_16_concat").output)(image).numpy()[1, 1, 2]
    expected = context @ head.kernel.numpy()[0, 0] + np.arange(5)
    with tf.GradientTape() as tape:
        features = trained(image)[-1]
    np.testing.assert_allclose(features[1, 8 * 12 + 6 + 2], expected, rtol=1e-4)
    first = tape.gradient(features, model.trainable_variables[0])
    assert float(tf.reduce_max(tf.abs(first))) > 0  # the network learns from its features, not the heads alone
