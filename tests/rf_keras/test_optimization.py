"""Schedule, decay and averaging, by hand."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from rf_keras.config import PRESETS, TrainConfig
from rf_keras.optimization import decay_gradients, decay_weights, learning_rate, update_average


def test_warmup_then_cosine() -> None:
    config = TrainConfig(learning_rate=0.1, warmup_steps=10)
    rates = [learning_rate(step, 110, config) for step in range(111)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 100)
    assert rates[10] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rates[110] == pytest.approx(0.001)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_reference_schedule_divides_at_190_and_220() -> None:
    config = PRESETS["reference"]
    epochs = [learning_rate(epoch * 10, 2500, config) for epoch in range(250)]
    assert epochs[189] == pytest.approx(1e-3)
    assert epochs[190] == pytest.approx(1e-4)
    assert epochs[219] == pytest.approx(1e-4)
    assert epochs[220] == pytest.approx(1e-5)


def test_decay_touches_kernels_only() -> None:
    kernel, scale = tf.Variable(tf.ones([1, 1, 2, 2])), tf.Variable(tf.ones([2]))
    gradients = decay_gradients([tf.zeros([1, 1, 2, 2]), tf.zeros([2])], [kernel, scale], 0.5)
    assert float(tf.reduce_max(gradients[0])) == 0.5 and float(tf.reduce_max(gradients[1])) == 0
    decay_weights([kernel, scale], tf.constant(0.25))
    assert float(kernel[0, 0, 0, 0]) == 0.75 and float(scale[0]) == 1


def test_average_starts_fast_and_ends_at_its_decay() -> None:
    mean, weight = tf.Variable(0.0), tf.Variable(1.0)
    update_average([mean], [weight], 0.999, tf.constant(1))
    assert float(mean) == pytest.approx(1 - 2 / 11)
    mean.assign(0.0)
    update_average([mean], [weight], 0.999, tf.constant(1_000_000))
    assert float(mean) == pytest.approx(0.001, rel=1e-3)


def test_average_of_a_fine_tuning_forgets_its_start_slowly() -> None:
    mean = tf.Variable(1.0)
    for _ in range(50):
        update_average([mean], [tf.Variable(0.0)], 0.98, None)
    assert float(mean) == pytest.approx(0.98**50, rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("size", 100),
        ("batch", 0),
        ("epochs", 0),
        ("optimizer", "lion"),
        ("schedule", "linear"),
        ("learning_rate", -1.0),
        ("milestones", (1.5,)),
        ("ema_decay", 1.0),
        ("val_share", 1.0),
        ("distribute", "cloud"),
    ],
)
def test_bad_settings_name_setting_and_value(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting} is "):
        dataclasses.replace(TrainConfig(), **{setting: value})
