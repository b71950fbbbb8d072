"""Losses whose targets are another detector's outputs, and what labels correct about those."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rf_keras.box_coding import encode_boxes, encode_landmarks
from rf_keras.config import ModelConfig
from rf_keras.distillation.config import Distillation
from rf_keras.losses import LossSums, smooth_l1
from rf_keras.matching import match

TEACHER_FLOOR = 0.1  # below this score a teacher's boxes and points mean nothing
# Focal losses are small and landmark codes large: unweighted, the clipped gradient is the landmarks' alone.
TEACHER_SCORE_WEIGHT, TEACHER_LANDMARK_WEIGHT = 8.0, 0.25
# Labels correct a teacher (`corrected_by_labels`). A detection that meets a face by `SURE_IOU` is of it; one that meets
# none by `DOUBTED_IOU` is false and keeps a share of its score. A face that the teacher half believes in gets scores
# that reach `RAISED_TO`, if no more than `LARGEST_RAISE` times the teacher's are enough.
LOOKED_AT, LOOKED_AT_SCORE = 1024, 0.05  # detections per image, the most certain; and from which score on
SURE_IOU, DOUBTED_IOU, FALSE_SHARE = 0.5, 0.3, 0.4
RAISED_TO, LARGEST_RAISE = 0.6, 2.0

# Faces that fill the frame are learned from their labels (`large_faces_by_labels`): from this share of the image's side
# on, with this score on the best anchor, and no face where a box lies by `PART_SHARE` of itself inside one of them.
LARGE_FACE, LARGE_SCORE, PART_SHARE = 0.25, 0.9, 0.5
MOST_LARGE = 8  # per image: seldom do more faces of that size fit


def taught_sums(
    predictions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    batch: dict[str, Any],
    distillation: Distillation,
    network: ModelConfig,
    size: int,
    *,
    large_faces: bool,
) -> LossSums:
    """The three loss sums of a batch, with the teacher's answers as targets.

    Args:
        predictions: of the network (`model.flatten_outputs`).
        batch: from `pipeline.make_batches`, with `teacher`.
        distillation: settings; says whether labels correct scores (`corrected_by_labels`).
        network: the student.
        size: side of the images, pixels.
        large_faces: learn faces that fill the frame from their labels (`large_faces_by_labels`).
    """
    anchors = tf.constant(network.anchors(size, size))
    targets, score_weights = batch["teacher"], None
    if any(distillation.correct_with_labels):
        targets = corrected_by_labels(targets, batch["in_view"], batch["corrected"], size)
    if large_faces:
        matched = match(batch["boxes"], batch["count"], network, size, size)
        targets, parts = large_faces_by_labels(targets, batch["boxes"], batch["landmarks"], matched, anchors, size)
        score_weights = tf.where(parts, float(distillation.part_weight), 1.0)
    return teacher_sums(predictions, targets, anchors, network.variances, score_weights)


def teacher_sums(
    predictions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    teacher_outputs: tf.Tensor,
    anchors: tf.Tensor,
    variances: tuple[float, float],
    score_weights: tf.Tensor | None = None,
) -> LossSums:
    """The three loss sums of a batch whose targets are another detector's outputs (knowledge distillation).

    Args:
        predictions: logits [B, A, 2], deltas [B, A, 4], landmark deltas [B, A, 10] (`model.flatten_outputs`).
        teacher_outputs: float32 [B, A, 15], per anchor score, box and points in pixels (`teacher.Scrfd`).
        anchors: float32 [A, 3], pixels.
        variances: of the box code.
        score_weights: float32 [B, A], what each anchor's score counts; 1 by default.

    Returns:
        Quality focal loss of the score (Li et al. 2020, β = 2) over all anchors; smooth-L1 of the codes weighted by the
        teacher's score where that is at least `TEACHER_FLOOR`; both counts are the sum of those weights. Scaled by
        `TEACHER_SCORE_WEIGHT` and `TEACHER_LANDMARK_WEIGHT`.
    """
    logits, deltas, points = predictions
    logit = logits[..., 1] - logits[..., 0]  # [B, A]
    score = teacher_outputs[..., 0]
    entropy = tf.nn.softplus(logit) - score * logit
    weight = tf.where(score >= TEACHER_FLOOR, score, 0.0)
    # Where nothing is found a teacher's box may be anything; a product with 0 would keep an infinite error.
    box_error = tf.where(
        weight[..., None] > 0, deltas - encode_boxes(teacher_outputs[..., 1:5], anchors, variances), 0.0
    )
    true_points = tf.reshape(teacher_outputs[..., 5:], tf.concat([tf.shape(teacher_outputs)[:-1], [5, 2]], axis=0))
    point_error = tf.where(weight[..., None] > 0, points - encode_landmarks(true_points, anchors, variances), 0.0)
    weights = tf.reduce_sum(weight)
    focal = tf.square(tf.sigmoid(logit) - score) * entropy
    if score_weights is not None:
        focal *= score_weights
    return LossSums(
        box=tf.reduce_sum(weight[..., None] * smooth_l1(box_error)),
        classes=TEACHER_SCORE_WEIGHT * tf.reduce_sum(focal),
        landmark=TEACHER_LANDMARK_WEIGHT * tf.reduce_sum(weight[..., None] * smooth_l1(point_error)),
        positives=weights,
        positives_with_landmarks=weights,
    )


def hold_landmarks(
    sums: LossSums,
    predictions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    start: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    matched: tf.Tensor,
    landmarks: tf.Tensor,
) -> LossSums:
    """The sums of a batch, with the start's points as targets where labels have none (learning without forgetting, Li
    and Hoiem 2016).

    Labels of boxes alone change the features under the landmark heads, and nothing else would tell those. Besides, the
    few faces with points in a batch would have the whole weight of the landmark loss.

    Args:
        sums: of the labels (`losses.multibox_sums`).
        predictions: logits [B, A, 2], deltas [B, A, 4], landmark deltas [B, A, 10] (`model.flatten_outputs`).
        start: what the weights that the training started from answer about the same images, in the same form.
        matched: int32 [B, A], face index per anchor, −1 background (`matching.match`).
        landmarks: float32 [B, G, 5, 2], pixels, −1 where unknown.

    Returns:
        The same sums but for `landmark` and `positives_with_landmarks`: an anchor whose face has no points counts by
        the start's score, from `TEACHER_FLOOR` on.
    """
    where = tf.where(matched >= 0)  # [P, 2] image, anchor
    face = tf.stack([where[:, 0], tf.cast(tf.gather_nd(matched, where), tf.int64)], axis=1)
    unknown = tf.reduce_all(tf.gather_nd(landmarks, face) == -1.0, axis=[1, 2])
    logits = tf.gather_nd(start[0], where)
    score = tf.sigmoid(logits[:, 1] - logits[:, 0])
    weight = tf.where(unknown & (score >= TEACHER_FLOOR), score, 0.0)
    error = tf.gather_nd(predictions[2], where) - tf.gather_nd(start[2], where)
    return sums._replace(
        landmark=sums.landmark + tf.reduce_sum(weight[:, None] * smooth_l1(error)),
        positives_with_landmarks=sums.positives_with_landmarks + tf.reduce_sum(weight),
    )


def corrected_by_labels(teacher_outputs: tf.Tensor, faces: tf.Tensor, corrected: tf.Tensor, size: int) -> tf.Tensor:
    """A teacher's answers with scores corrected by labels: lower where no face is, higher where it doubts a face.

    Boxes and points stay, and so do the scores of other anchors on the same face relative to each other: a network that
    was trained on IoU targets knows better than a label which anchor fits.

    Args:
        teacher_outputs: float32 [B, A, 15], as `teacher_sums` takes it.
        faces: float32 [B, V, 4], V ≥ 1: all faces in view, clipped to the image, in its pixels; rows without area are
            none.
        corrected: bool [B], images whose labels hold.
        size: side of the images, pixels.

    Returns:
        float32 [B, A, 15].
    """
    score, at = tf.math.top_k(teacher_outputs[..., 0], tf.minimum(LOOKED_AT, tf.shape(teacher_outputs)[1]))  # [B, K]
    found = tf.clip_by_value(tf.gather(teacher_outputs[..., 1:5], at, batch_dims=1), 0.0, float(size))  # [B, K, 4]
    overlaps = pairwise_iou(found, faces)  # [B, K, V]
    face, overlap = tf.argmax(overlaps, axis=-1, output_type=tf.int32), tf.reduce_max(overlaps, axis=-1)
    sure = overlap >= SURE_IOU
    on_face = sure[..., None] & (face[..., None] == tf.range(tf.shape(faces)[1]))
    believed = tf.reduce_max(tf.where(on_face, score[..., None], 0.0), axis=1)  # [B, V], highest score on each face
    believed = tf.maximum(tf.gather(believed, face, batch_dims=1), TEACHER_FLOOR)
    raised = tf.clip_by_value(RAISED_TO / believed, 1.0, LARGEST_RAISE)
    share = tf.clip_by_value((overlap - DOUBTED_IOU) / (SURE_IOU - DOUBTED_IOU), 0.0, 1.0)
    factor = tf.where(sure, raised, FALSE_SHARE + (1 - FALSE_SHARE) * share)
    factor = tf.where(corrected[:, None] & (score >= LOOKED_AT_SCORE), factor, 1.0)
    image = tf.broadcast_to(tf.range(tf.shape(at)[0])[:, None], tf.shape(at))
    scores = tf.tensor_scatter_nd_update(
        teacher_outputs[..., 0], tf.stack([image, at], -1), tf.minimum(score * factor, 1.0)
    )
    return tf.concat([scores[..., None], teacher_outputs[..., 1:]], axis=-1)


def large_faces_by_labels(
    teacher_outputs: tf.Tensor,
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    matched: tf.Tensor,
    anchors: tf.Tensor,
    size: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A teacher's answers with those about faces that fill the frame replaced by their labels.

    SCRFD finds three in a hundred faces whose box nearly is the picture, and parts of others; the labels know them.

    Args:
        teacher_outputs: float32 [B, A, 15], as `teacher_sums` takes it.
        boxes: float32 [B, G, 4], G ≥ 1; landmarks: float32 [B, G, 5, 2]; pixels, padded (rows of −1 landmarks).
        matched: int32 [B, A], the face each anchor is to predict (`matching.match` of these boxes), −1: none.
        anchors: float32 [A, 3], pixels.
        size: side of the images, pixels.

    Returns:
        float32 [B, A, 15], and bool [B, A]: anchors whose answer would be a part of a face.

        Anchors matched to a face whose longer side is at least `LARGE_FACE` of `size` and whose
        landmarks are known predict that label; the score is `LARGE_SCORE` on the face's best anchor, and less on
        others in the ratio of their IoU, so that NMS keeps the best. Other anchors of which the teacher's box is
        mostly inside such a face predict nothing, unless that box is another labelled face's.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    large = tf.reduce_max(sides, axis=-1) >= LARGE_FACE * size
    large &= tf.reduce_any(landmarks != -1.0, axis=[2, 3])  # [B, G]

    order = tf.argsort(tf.cast(large, tf.int32), axis=1, direction="DESCENDING", stable=True)[:, :MOST_LARGE]  # [B, L]
    real = tf.gather(large, order, batch_dims=1)
    whole = tf.where(real[..., None], tf.gather(boxes, order, batch_dims=1), 0.0)  # [B, L, 4]

    # ---- anchors of large faces
    half = anchors[:, 2:] / 2
    squares = tf.concat([anchors[:, :2] - half, anchors[:, :2] + half], axis=1)  # [A, 4]
    of_face = real[:, None] & (matched[..., None] == order[:, None])  # [B, A, L]
    fit = tf.where(of_face, pairwise_iou(tf.broadcast_to(squares, tf.shape(teacher_outputs[..., 1:5])), whole), 0.0)
    share = tf.reduce_max(tf.math.divide_no_nan(fit, tf.reduce_max(fit, axis=1, keepdims=True)), axis=-1)
    score = LARGE_SCORE * share
    on_large = tf.reduce_any(of_face, axis=-1)  # [B, A]
    face = tf.where(on_large, matched, 0)
    points = tf.reshape(landmarks, tf.concat([tf.shape(landmarks)[:2], [10]], axis=0))
    rows = tf.gather(tf.concat([boxes, points], axis=-1), face, batch_dims=1)  # [B, A, 14]
    label = tf.concat([score[..., None], rows], axis=-1)

    # ---- boxes inside of them
    found = teacher_outputs[..., 1:5]
    area = tf.reduce_prod(tf.maximum(found[..., 2:] - found[..., :2], 0.0), axis=-1)
    part = tf.reduce_max(_intersection(found, whole), axis=-1) > PART_SHARE * area  # [B, A]
    score = tf.where(part, teacher_outputs[..., 0], 0.0)
    top, at = tf.math.top_k(score, tf.minimum(LOOKED_AT, tf.shape(score)[1]))
    others = tf.where(large[..., None], 0.0, boxes)
    overlap = tf.reduce_max(pairwise_iou(tf.gather(found, at, batch_dims=1), others), axis=-1)  # [B, K]
    image = tf.broadcast_to(tf.range(tf.shape(at)[0])[:, None], tf.shape(at))
    kept = tf.where(overlap >= SURE_IOU, top, 0.0)
    kept = tf.scatter_nd(tf.stack([image, at], -1), kept, tf.shape(score))
    scores = tf.where(part, kept, teacher_outputs[..., 0])
    rest = tf.concat([scores[..., None], teacher_outputs[..., 1:]], axis=-1)
    return tf.where(on_large[..., None], label, rest), part & (kept == 0) & ~on_large


def _intersection(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Common area of boxes float32 [B, M, 4] and [B, N, 4]: [B, M, N]."""
    low = tf.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = tf.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    return tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)


def pairwise_iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """IoU of boxes float32 [B, M, 4] and [B, N, 4] (x1, y1, x2, y2): [B, M, N], 0 where one has no area."""
    inter = _intersection(a, b)
    area_a, area_b = (tf.reduce_prod(tf.maximum(x[..., 2:] - x[..., :2], 0.0), axis=-1) for x in (a, b))
    return tf.math.divide_no_nan(inter, area_a[:, :, None] + area_b[:, None] - inter)
