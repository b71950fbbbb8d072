"""Mining and multibox loss against the slow rules, and the cases that make losses blow up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rf_keras.config import ModelConfig
from rf_keras.losses import Losses, mined_negative_loss, multibox_sums, normalize, smooth_l1
from rf_keras.matching import match
from tests.rf_keras.slow_rules import multibox

SIZE = 64
CONFIG = ModelConfig()
ANCHORS = CONFIG.anchors(SIZE, SIZE)
GOLDEN = Path(__file__).parent / "golden_losses.json"


def batch(counts: list[int], seed: int) -> dict[str, np.ndarray]:
    """Random predictions and faces; every third face has no landmarks."""
    rng = np.random.default_rng(seed)
    images, most, anchors = len(counts), max(1, *counts), len(ANCHORS)
    corner, side = rng.uniform(0, 48, (images, most, 2)), rng.uniform(6, 50, (images, most, 2))
    landmarks = (corner + side / 2)[:, :, None] + rng.uniform(-8, 8, (images, most, 5, 2))
    landmarks[:, ::3] = -1
    return {
        "logits": rng.normal(0, 2, (images, anchors, 2)).astype(np.float32),
        "deltas": rng.normal(0, 2, (images, anchors, 4)).astype(np.float32),
        "points": rng.normal(0, 3, (images, anchors, 10)).astype(np.float32),
        "boxes": np.concatenate([corner, corner + side], axis=2).astype(np.float32),
        "landmarks": landmarks.astype(np.float32),
        "count": np.array(counts, np.int32),
    }


def losses(data: dict[str, np.ndarray]) -> tuple[Losses, np.ndarray]:
    matched = match(tf.constant(data["boxes"]), tf.constant(data["count"]), CONFIG, SIZE, SIZE)
    predictions = tuple(tf.constant(data[key]) for key in ("logits", "deltas", "points"))
    sums = multibox_sums(predictions, matched, data["boxes"], data["landmarks"], tf.constant(ANCHORS), (0.1, 0.2))
    return normalize(sums, sums.positives, sums.positives_with_landmarks), matched.numpy()


@pytest.mark.parametrize("counts", [[0], [1], [3, 0], [5, 1, 2], [12]])
def test_agrees_with_the_slow_rules(counts: list[int]) -> None:
    agrees(batch(counts, seed=len(counts)), counts)


def test_a_point_at_minus_one_alone_is_a_point() -> None:
    """Points may lie outside the image; only a face whose ten numbers are all −1 has none."""
    data = batch([2], seed=4)
    data["landmarks"][0, 1, 2] = -1
    agrees(data, [2])


def agrees(data: dict[str, np.ndarray], counts: list[int]) -> None:
    """Losses of `batch(counts, …)` equal those of the slow rules."""
    got, matched = losses(data)
    want = multibox(
        data["logits"],
        data["deltas"],
        data["points"],
        matched,
        [b[:n] for b, n in zip(data["boxes"], counts, strict=True)],
        [p[:n] for p, n in zip(data["landmarks"], counts, strict=True)],
        ANCHORS,
    )
    for name, value in want.items():
        assert float(getattr(got, name)) == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_golden_values_do_not_move() -> None:
    """Stored values of `batch([4, 0, 2], 7)`, computed once with the float64 rules of slow_rules.py."""
    got, _ = losses(batch([4, 0, 2], seed=7))
    for name, value in json.loads(GOLDEN.read_text()).items():
        assert float(getattr(got, name)) == pytest.approx(value, rel=1e-5), name


def test_mining_takes_seven_per_positive_and_no_more_than_there_are() -> None:
    loss = tf.constant([[5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 9.0]])
    one = tf.constant([[False] * 9 + [True]])
    assert float(mined_negative_loss(loss, one)) == 5 + 4 + 3 + 2 + 1 + 0.5 + 0.25
    many = tf.constant([[False, True, True] + [False] * 7])
    assert float(mined_negative_loss(loss, many)) == float(tf.reduce_sum(loss)) - 4 - 3
    everything = tf.constant([[True] * 10])
    assert float(mined_negative_loss(loss, everything)) == 0
    assert float(mined_negative_loss(loss, tf.zeros_like(loss, tf.bool))) == 0


def test_mining_is_per_image() -> None:
    loss = tf.constant([[100.0] * 20, [1.0] * 20])
    positive = np.zeros((2, 20), bool)
    positive[1, 0] = True
    assert float(mined_negative_loss(loss, tf.constant(positive))) == 7.0


def test_all_positive_image_is_finite() -> None:
    matched = tf.zeros([1, len(ANCHORS)], tf.int32)
    data = batch([1], seed=1)
    predictions = tuple(tf.constant(data[key]) for key in ("logits", "deltas", "points"))
    sums = multibox_sums(predictions, matched, data["boxes"], data["landmarks"], tf.constant(ANCHORS), (0.1, 0.2))
    assert float(sums.positives) == len(ANCHORS)
    assert all(np.isfinite(float(value)) for value in sums)


def test_no_face_gives_zero_loss_and_finite_gradients() -> None:
    data = batch([0, 0], seed=2)
    variables = [tf.Variable(data[key]) for key in ("logits", "deltas", "points")]
    with tf.GradientTape() as tape:
        matched = match(tf.constant(data["boxes"]), tf.constant(data["count"]), CONFIG, SIZE, SIZE)
        sums = multibox_sums(
            tuple(map(tf.convert_to_tensor, variables)),
            matched,
            data["boxes"],
            data["landmarks"],
            tf.constant(ANCHORS),
            (0.1, 0.2),
        )
        total = normalize(sums, sums.positives, sums.positives_with_landmarks).total
    assert float(total) == 0
    for gradient in tape.gradient(total, variables):
        assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_extreme_logits_stay_finite() -> None:
    data = batch([3], seed=5)
    data["logits"] *= 1e30
    got, _ = losses(data)
    assert np.isfinite(float(got.total))


def test_smooth_l1_by_hand() -> None:
    np.testing.assert_allclose(
        smooth_l1(tf.constant([-2.0, -1.0, -0.5, 0.0, 0.5, 3.0])), [1.5, 0.5, 0.125, 0, 0.125, 2.5]
    )
