"""Multibox loss with online hard-negative mining (the reference's `MultiBoxLoss`), batched in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rf_keras.box_coding import encode_boxes, encode_landmarks

NEGATIVES_PER_POSITIVE = 7
BOX_WEIGHT = 2.0
TEACHER_FLOOR = 0.1  # below this score a teacher's boxes and points mean nothing
# Focal losses are small and landmark codes large: at the start of a run the three parts were 0.2, 1.3 and 5, and the
# clipped gradient was the landmarks' alone.
TEACHER_SCORE_WEIGHT, TEACHER_LANDMARK_WEIGHT = 8.0, 0.25


# Labels correct a teacher (`corrected_by_labels`). A detection that meets a face by `SURE_IOU` is of it; one that meets
# none by `DOUBTED_IOU` is false and keeps a share of its score. A face that the teacher half believes in gets scores
# that reach `RAISED_TO`, if no more than `LARGEST_RAISE` times the teacher's are enough.
LOOKED_AT, LOOKED_AT_SCORE = 1024, 0.05  # detections per image, the most certain; and from which score on
SURE_IOU, DOUBTED_IOU, FALSE_SHARE = 0.5, 0.3, 0.4
RAISED_TO, LARGEST_RAISE = 0.6, 2.0


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


class FeatureSums(NamedTuple):
    """Float32 scalars, summed over a (replica's part of a) batch: errors over all images, errors over faces, and what
    those would be for a network that knows nothing."""

    images: tf.Tensor
    faces: tf.Tensor
    faces_unknown: tf.Tensor


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


def teacher_sums(
    predictions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    said: tf.Tensor,
    anchors: tf.Tensor,
    variances: tuple[float, float],
) -> LossSums:
    """The three loss sums of a batch whose targets are another detector's outputs (knowledge distillation).

    Args:
        predictions: logits [B, A, 2], deltas [B, A, 4], landmark deltas [B, A, 10] (`model.flatten_outputs`).
        said: float32 [B, A, 15], per anchor score, box and points in pixels (`teacher.Teacher`).
        anchors: float32 [A, 3], pixels.
        variances: of the box code.

    Returns:
        Quality focal loss of the score (Li et al. 2020, β = 2) over all anchors; smooth-L1 of the codes weighted by the
        teacher's score where that is at least `TEACHER_FLOOR`; both counts are the sum of those weights. Scaled by
        `TEACHER_SCORE_WEIGHT` and `TEACHER_LANDMARK_WEIGHT`.
    """
    logits, deltas, points = predictions
    logit = logits[..., 1] - logits[..., 0]  # [B, A]
    score = said[..., 0]
    entropy = tf.nn.softplus(logit) - score * logit
    weight = tf.where(score >= TEACHER_FLOOR, score, 0.0)
    # Where nothing is found a teacher's box may be anything; a product with 0 would keep an infinite error.
    box_error = tf.where(weight[..., None] > 0, deltas - encode_boxes(said[..., 1:5], anchors, variances), 0.0)
    true_points = tf.reshape(said[..., 5:], tf.concat([tf.shape(said)[:-1], [5, 2]], axis=0))
    point_error = tf.where(weight[..., None] > 0, points - encode_landmarks(true_points, anchors, variances), 0.0)
    weights = tf.reduce_sum(weight)
    return LossSums(
        box=tf.reduce_sum(weight[..., None] * smooth_l1(box_error)),
        classes=TEACHER_SCORE_WEIGHT * tf.reduce_sum(tf.square(tf.sigmoid(logit) - score) * entropy),
        landmark=TEACHER_LANDMARK_WEIGHT * tf.reduce_sum(weight[..., None] * smooth_l1(point_error)),
        positives=weights,
        positives_with_landmarks=weights,
    )


def corrected_by_labels(said: tf.Tensor, faces: tf.Tensor, trusted: tf.Tensor, size: int) -> tf.Tensor:
    """A teacher's answers with scores corrected by labels: lower where no face is, higher where it doubts a face.

    Boxes and points stay, and so do the scores of other anchors on the same face relative to each other: a network that
    was trained on IoU targets knows better than a label which anchor fits.

    Args:
        said: float32 [B, A, 15], as `teacher_sums` takes it.
        faces: float32 [B, V, 4], V ≥ 1: all faces in view, clipped to the image, in its pixels; rows without area are
            none.
        trusted: bool [B], images that are corrected.
        size: side of the images, pixels.

    Returns:
        float32 [B, A, 15].
    """
    score, at = tf.math.top_k(said[..., 0], tf.minimum(LOOKED_AT, tf.shape(said)[1]))  # [B, K]
    found = tf.clip_by_value(tf.gather(said[..., 1:5], at, batch_dims=1), 0.0, float(size))  # [B, K, 4]
    overlaps = pairwise_iou(found, faces)  # [B, K, V]
    face, overlap = tf.argmax(overlaps, axis=-1, output_type=tf.int32), tf.reduce_max(overlaps, axis=-1)
    sure = overlap >= SURE_IOU
    on_face = sure[..., None] & (face[..., None] == tf.range(tf.shape(faces)[1]))
    believed = tf.reduce_max(tf.where(on_face, score[..., None], 0.0), axis=1)  # [B, V], highest score on each face
    believed = tf.maximum(tf.gather(believed, face, batch_dims=1), TEACHER_FLOOR)
    raised = tf.clip_by_value(RAISED_TO / believed, 1.0, LARGEST_RAISE)
    share = tf.clip_by_value((overlap - DOUBTED_IOU) / (SURE_IOU - DOUBTED_IOU), 0.0, 1.0)
    factor = tf.where(sure, raised, FALSE_SHARE + (1 - FALSE_SHARE) * share)
    factor = tf.where(trusted[:, None] & (score >= LOOKED_AT_SCORE), factor, 1.0)
    image = tf.broadcast_to(tf.range(tf.shape(at)[0])[:, None], tf.shape(at))
    scores = tf.tensor_scatter_nd_update(said[..., 0], tf.stack([image, at], -1), tf.minimum(score * factor, 1.0))
    return tf.concat([scores[..., None], said[..., 1:]], axis=-1)


def pairwise_iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """IoU of boxes float32 [B, M, 4] and [B, N, 4] (x1, y1, x2, y2): [B, M, N], 0 where one has no area."""
    low = tf.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = tf.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    inter = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    area_a, area_b = (tf.reduce_prod(tf.maximum(x[..., 2:] - x[..., :2], 0.0), axis=-1) for x in (a, b))
    return tf.math.divide_no_nan(inter, area_a[:, :, None] + area_b[:, None] - inter)


def feature_sums(
    predicted: tf.Tensor, features: tf.Tensor, said: tf.Tensor, cells: Sequence[int], anchors_per_cell: int
) -> FeatureSums:
    """How badly a network's features predict a teacher's.

    Args:
        predicted: float32 [B, N, C], from the network's features.
        features: float32 [B, N, C], the teacher's, of any scale: each channel of each level is brought to mean 0 and
            variance 1 over this replica's part of the batch (as in PKD, Cao et al. 2022). Faces are far from that mean.
        said: float32 [B, N · anchors_per_cell, 15], the teacher's answers: their scores say where faces are.
        cells: of each level; their sum is N.

    Returns:
        Squared errors, averaged over channels: averaged over each image's cells, and weighted by the scores of at least
        `TEACHER_FLOOR` of each cell's anchors; and the latter with 0 predicted. To be divided by the images and by each
        other: both quotients are then 1 where nothing is known.
    """
    levels = tf.split(features, list(cells), axis=1)
    moments = [(level, *tf.nn.moments(level, axes=[0, 1], keepdims=True)) for level in levels]
    wanted = tf.concat([(level - mean) * tf.math.rsqrt(variance + 1e-6) for level, mean, variance in moments], axis=1)
    error = tf.reduce_mean(tf.square(predicted - wanted), axis=-1)  # [B, N]
    unknown = tf.reduce_mean(tf.square(wanted), axis=-1)
    score = tf.reshape(said[..., 0], [-1, sum(cells), anchors_per_cell])
    weight = tf.reduce_sum(tf.where(score >= TEACHER_FLOOR, score, 0.0), axis=-1)
    images = tf.reduce_sum(tf.reduce_mean(error, axis=1))
    return FeatureSums(images, tf.reduce_sum(weight * error), tf.reduce_sum(weight * unknown))


def normalize(sums: LossSums, positives: tf.Tensor, positives_with_landmarks: tf.Tensor) -> Losses:
    """2·box + class + landmark, each divided by its count over the whole (global) batch, at least 1."""
    faces = tf.maximum(positives, 1.0)
    box, classes = sums.box / faces, sums.classes / faces
    landmark = sums.landmark / tf.maximum(positives_with_landmarks, 1.0)
    return Losses(BOX_WEIGHT * box + classes + landmark, box, classes, landmark)
