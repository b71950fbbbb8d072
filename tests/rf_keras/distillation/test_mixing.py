"""Images mixed with one another."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rf_keras.distillation.mixing import LARGEST_OPACITY, MIX_DRAWS, mix_batch, mix_images


def test_mixed_images_by_hand() -> None:
    images = np.broadcast_to(np.array([10, 100, 200], np.uint8)[:, None, None, None], (3, 10, 10, 3))
    draws = np.array(
        [
            [0.1, 0.9, 0.0, 0.6, 0.0, 1.0],  # a rectangle of 0.2 × 0.5 in the lower left corner
            [0.3, 0.5, 0.5, 0.5, 0.5, 0.5],  # blended, a quarter of the other image
            [0.4, 0.9, 0.5, 0.5, 0.5, 0.5],  # left alone
        ],
        np.float32,
    )
    mixed = mix_images(tf.constant(images), tf.constant(draws), 0.4).numpy()
    expected = images.copy()
    expected[0, 5:, :2] = 200
    expected[1] = 78  # 100 + ¼ (10 − 100) = 77.5
    np.testing.assert_array_equal(mixed, expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
@example(seed=175, share=0.5)  # blended so faintly that no pixel changes
def test_mixing_takes_pixels_of_the_image_before(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    draws = rng.random((4, MIX_DRAWS), np.float32)
    mixed = mix_images(tf.constant(images), tf.constant(draws), share).numpy()
    before = np.roll(images, 1, axis=0)
    for kind, opacity, image, other, found in zip(draws[:, 0], draws[:, 1], images, before, mixed, strict=True):
        if kind < share / 2:  # pasted
            assert ((found == image) | (found == other)).all() and (found != image).any()
        elif kind < share:
            weight = LARGEST_OPACITY * float(opacity)
            np.testing.assert_allclose(found, image + weight * (other.astype(float) - image), atol=0.501)
        else:
            np.testing.assert_array_equal(found, image)


def test_labels_of_mixed_images_correct_nobody() -> None:
    draws = np.full((4, MIX_DRAWS), 0.5, np.float32)
    draws[:, 0] = 0.1, 0.3, 0.7, 0.9
    batch = {
        "image": tf.constant(np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 8, 8, 3), np.uint8)),
        "corrected": tf.constant([True, False, True, False]),
        "mix": tf.constant(draws),
    }
    mixed = mix_batch(batch, 0.4)
    assert sorted(mixed) == ["corrected", "image"]
    assert mixed["corrected"].numpy().tolist() == [False, False, True, False]
