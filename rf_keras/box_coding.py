"""Box and landmark codes: faces in pixels → regression targets, and back in the graph (devices use `tflite.decode`)."""

from __future__ import annotations

import tensorflow as tf

from tflite.decode import MAX_LOG_SIZE

MIN_SIDE = 1e-3  # pixels; keeps the log of a degenerate side finite


def encode_boxes(boxes: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Deltas that move `anchors` onto `boxes`.

    Args:
        boxes: float32 [..., 4], x1 y1 x2 y2 in pixels.
        anchors: float32 [..., 3], centre x, centre y, side in pixels.
        variances: (centre, size).

    Returns:
        float32 [..., 4]: (centre − anchor centre) / (variance·side) and log(size / side) / variance, sides clamped to
        at least `MIN_SIDE`.

    Source: SSD (Liu et al. 2016) section 2.2, variances as in its released code.
    """
    centre, side = anchors[..., :2], anchors[..., 2:]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = tf.maximum(boxes[..., 2:] - boxes[..., :2], MIN_SIDE)
    return tf.concat([(middle - centre) / (variances[0] * side), tf.math.log(size / side) / variances[1]], axis=-1)


def encode_landmarks(landmarks: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Deltas from anchor centres to landmarks.

    Args:
        landmarks: float32 [..., 5, 2], x y in pixels.
        anchors: float32 [..., 3], centre x, centre y, side in pixels.
        variances: (centre, size); only the first is used.

    Returns:
        float32 [..., 10]: x0 y0 … x4 y4, (point − anchor centre) / (variance·side).
    """
    centre, side = anchors[..., None, :2], anchors[..., None, 2:]
    deltas = (landmarks - centre) / (variances[0] * side)  # [..., 5, 2]
    return tf.reshape(deltas, tf.concat([tf.shape(deltas)[:-2], [10]], axis=0))


def decode_boxes(deltas: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Inverse of `encode_boxes`: float32 [..., 4] deltas → x1 y1 x2 y2 in pixels; logs are clamped as on devices."""
    centre, side = anchors[..., :2], anchors[..., 2:]
    middle = centre + deltas[..., :2] * variances[0] * side
    size = side * tf.exp(tf.minimum(deltas[..., 2:] * variances[1], MAX_LOG_SIZE))
    return tf.concat([middle - size / 2, middle + size / 2], axis=-1)


def decode_landmarks(deltas: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Inverse of `encode_landmarks`, flat: float32 [..., 10] deltas → x0 y0 … x4 y4 in pixels."""
    centre, side = anchors[..., :2], anchors[..., 2:]
    return tf.tile(centre, [1] * (len(centre.shape) - 1) + [5]) + deltas * variances[0] * side
