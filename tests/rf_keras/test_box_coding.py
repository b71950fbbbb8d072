"""Encoding by hand, and as the inverse of the device's decode."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_keras import box_coding
from rf_keras.box_coding import encode_boxes, encode_landmarks
from tflite.decode import decode_boxes, decode_landmarks

VARIANCES = (0.1, 0.2)


def test_by_hand() -> None:
    anchor = tf.constant([[20.0, 12.0, 16.0]])
    # Centre (24, 12): 4 px right of the anchor's; sides 32 and 16: log 2 and log 1.
    deltas = encode_boxes(tf.constant([[8.0, 4.0, 40.0, 20.0]]), anchor, VARIANCES)
    np.testing.assert_allclose(deltas, [[4 / 1.6, 0, np.log(2) / 0.2, 0]], rtol=1e-6)
    points = tf.reshape(tf.range(10, dtype=tf.float32), [1, 5, 2])
    want = [(v - (20 if i % 2 == 0 else 12)) / 1.6 for i, v in enumerate(range(10))]
    np.testing.assert_allclose(encode_landmarks(points, anchor, VARIANCES), [want], rtol=1e-6)


def test_degenerate_box_stays_finite() -> None:
    """A side counts as a thousandth of a pixel at least."""
    deltas = encode_boxes(tf.constant([[5.0, 5.0, 5.0, 5.5]]), tf.constant([[8.0, 8.0, 16.0]]), VARIANCES)
    np.testing.assert_allclose(deltas[0, 2:], [np.log(0.001 / 16) / 0.2, np.log(0.5 / 16) / 0.2], rtol=1e-5)


coordinate = st.floats(-50, 700, width=32)
side = st.floats(1, 600, width=32)


@settings(max_examples=200, deadline=None)
@given(coordinate, coordinate, side, side, coordinate, coordinate, st.sampled_from([10.0, 16.0, 64.0, 512.0]))
def test_decode_inverts_encode(x: float, y: float, w: float, h: float, cx: float, cy: float, size: float) -> None:
    limit = size * 1000 / 16  # where decode clips the exponent
    box = np.array([[x, y, x + min(w, limit), y + min(h, limit)]], np.float32)
    anchor = np.array([[cx, cy, size]], np.float32)
    deltas = encode_boxes(tf.constant(box), tf.constant(anchor), VARIANCES).numpy()
    np.testing.assert_allclose(decode_boxes(deltas, anchor, VARIANCES), box, atol=2e-3, rtol=1e-4)
    points = np.array([[[x, y], [x + w, y], [x, y + h], [cx, cy], [x + 1, y + 1]]], np.float32)
    codes = encode_landmarks(tf.constant(points), tf.constant(anchor), VARIANCES).numpy()
    np.testing.assert_allclose(decode_landmarks(codes, anchor, VARIANCES), points, atol=2e-3, rtol=1e-4)


def test_decoding_in_the_graph_is_the_devices() -> None:
    """Also where a size would be beyond 1000 px from a 16 px anchor."""
    random = np.random.default_rng(0)
    anchors = np.stack((*random.uniform(0, 640, (2, 50)), random.choice([16.0, 64.0, 512.0], 50)), axis=1)
    deltas, points = (random.normal(0, 20, (50, size)).astype(np.float32) for size in (4, 10))
    centred = tf.constant(anchors, tf.float32)
    boxes = box_coding.decode_boxes(tf.constant(deltas), centred, VARIANCES)
    np.testing.assert_allclose(boxes, decode_boxes(deltas, anchors, VARIANCES), rtol=1e-4, atol=1e-2)
    landmarks = box_coding.decode_landmarks(tf.constant(points), centred, VARIANCES)
    expected = decode_landmarks(points, anchors, VARIANCES).reshape(50, 10)
    np.testing.assert_allclose(landmarks, expected, rtol=1e-4, atol=1e-2)
