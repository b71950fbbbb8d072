"""Multibox loss with online hard-negative mining (the reference's `MultiBoxLoss`), batched in the graph."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from rf_keras.box_coding import encode_boxes, encode_landmarks

NEGATIVES_PER_POSITIVE = 7
BOX_WEIGHT = 2.0


class LossSums(NamedTuple):
    """Float32 scalars, summed over a (replica's part of a) batch and not yet normalised."""

    box: tf.Tensor
    classes: tf.Tensor
    landmark: tf.Tensor
    positives: tf.Tensor
    positives_with_landmarks: tf.Tensor


class Losses(NamedTuple):
    """Float32 scalars."""

    total: tf.Tensor
    box: tf.Tensor
    classes: tf.Tensor
    landmark: tf.Tensor


def smooth_l1(error: tf.Tensor) -> tf.Tensor:
    """½e² within ±1, |e| − ½ outside, elementwise."""
    size = tf.abs(error)
    return tf.where(size < 1.0, 0.5 * size * size, size - 0.5)


def mined_negative_loss(background_loss: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """Sum of the hardest background anchors' losses, chosen per image.

    Args:
        background_loss: float32 [B, A], logsumexp(logits) − logit[background], ≥ 0.
        positive: bool [B, A].

    Returns:
        float32 scalar: per image the `NEGATIVES_PER_POSITIVE` × positives largest losses among the background anchors,
        at most all of them.
    """
    positives = tf.reduce_sum(tf.cast(positive, tf.int32), axis=1)  # [B]
    backgrounds = tf.shape(positive)[1] - positives
    wanted = tf.minimum(NEGATIVES_PER_POSITIVE * positives, backgrounds)
    candidates = tf.where(positive, -1.0, background_loss)  # below every real loss
    hardest = tf.math.top_k(candidates, tf.reduce_max(wanted)).values  # [B, k], descending
    return tf.reduce_sum(tf.where(tf.sequence_mask(wanted, tf.shape(hardest)[1]), hardest, 0.0))


def multibox_sums(
    predictions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    matched: tf.Tensor,
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    anchors: tf.Tensor,
    variances: tuple[float, float],
) -> LossSums:
    """The three loss sums of a batch.

    Args:
        predictions: logits [B, A, 2], deltas [B, A, 4], landmark deltas [B, A, 10] (`model.flatten_outputs`).
        matched: int32 [B, A], face index per anchor, −1 background (`matching.match`).
        boxes: float32 [B, G, 4], pixels.
        landmarks: float32 [B, G, 5, 2], pixels, −1 where unknown.
        anchors: float32 [A, 3], pixels.
        variances: of the box code.

    Returns:
        Sums of smooth-L1 over box deltas and over landmark deltas (only faces that have landmarks), of cross-entropy
        over positives and mined negatives, and the counts to divide by.
    """
    logits, deltas, points = predictions
    face_over_background = logits[..., 1] - logits[..., 0]  # [B, A]
    positive = matched >= 0
    where = tf.where(positive)  # [P, 2] image, anchor
    face = tf.stack([where[:, 0], tf.cast(tf.gather_nd(matched, where), tf.int64)], axis=1)
    anchor = tf.gather(anchors, where[:, 1])

    box_error = tf.gather_nd(deltas, where) - encode_boxes(tf.gather_nd(boxes, face), anchor, variances)

    true_points = tf.gather_nd(landmarks, face)  # [P, 5, 2]
    known = tf.reduce_any(true_points != -1.0, axis=[1, 2])
    point_error = tf.gather_nd(points, where) - encode_landmarks(true_points, anchor, variances)
    point_loss = tf.reduce_sum(tf.where(known[:, None], smooth_l1(point_error), 0.0))

    # With two classes logsumexp(logits) − logit[c] is a softplus of the logit difference, which cannot overflow.
    face_loss = tf.reduce_sum(tf.nn.softplus(-tf.gather_nd(face_over_background, where)))
    negative_loss = mined_negative_loss(tf.nn.softplus(face_over_background), positive)
    return LossSums(
        box=tf.reduce_sum(smooth_l1(box_error)),
        classes=face_loss + negative_loss,
        landmark=point_loss,
        positives=tf.cast(tf.shape(where)[0], tf.float32),
        positives_with_landmarks=tf.reduce_sum(tf.cast(known, tf.float32)),
    )


def normalize(sums: LossSums, positives: tf.Tensor, positives_with_landmarks: tf.Tensor) -> Losses:
    """2·box + class + landmark, each divided by its count over the whole (global) batch, at least 1."""
    faces = tf.maximum(positives, 1.0)
    box, classes = sums.box / faces, sums.classes / faces
    landmark = sums.landmark / tf.maximum(positives_with_landmarks, 1.0)
    return Losses(BOX_WEIGHT * box + classes + landmark, box, classes, landmark)
