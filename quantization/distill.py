"""Loss between an int8 (or changed) network and the float network it shall imitate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from quantization.calibrate import SCORE_FLOOR
from rf_keras.config import ModelConfig
from rf_keras.losses import smooth_l1

# An anchor's score counts by sigmoid(score + 2): half at probability 0.12. The hard faces are the small ones with low
# scores, which a weight by probability alone would leave to chance. Box and landmarks count by probability.
WEIGHT_SHIFT = 2.0
# Each level has its own mean, so that the few anchors of large faces count as much as the many of small ones; with one
# mean over all levels tuning makes stride 32 worse than calibration leaves it. A level without faces counts little: so
# much weight is added to its sum.
LEVEL_PRIOR = 10.0
# The reference starts with score 0.05, box 0.2, landmarks 1.2; Adam follows the largest part, AP the score.
SCORE_WEIGHT, BOX_WEIGHT, LANDMARK_WEIGHT = 10.0, 2.0, 0.3


class DistillLosses(NamedTuple):
    """Float32 scalars: the weighted total and its parts, each the mean over levels of a mean over anchors by weight."""

    total: tf.Tensor
    score: tf.Tensor
    box: tf.Tensor
    landmark: tf.Tensor


def distillation_loss(student: Sequence[tf.Tensor], teacher: Sequence[tf.Tensor], config: ModelConfig) -> DistillLosses:
    """How far the student's nine maps are from the teacher's, where it matters.

    Args:
        student, teacher: outputs of folded models of `config` (one logit per anchor), [B, h, w, A·k] each.
        config: with `class_logits` 1.

    Returns:
        Smooth-L1 of scores (below `SCORE_FLOOR` all are equal), box codes and landmark codes. The score's weight
        counts an anchor that either of the two finds, so that new false alarms cost as much as lost faces.
    """
    levels = len(config.strides)
    parts = [tf.constant(0.0)] * 3
    for level in range(levels):
        found, expected = student[level], teacher[level]
        face = tf.sigmoid(expected)  # [B, h, w, A]
        either = tf.sigmoid(tf.maximum(expected, tf.stop_gradient(found)) + WEIGHT_SHIFT)
        error = smooth_l1(tf.maximum(found, SCORE_FLOOR) - tf.maximum(expected, SCORE_FLOOR))
        parts[0] += tf.reduce_sum(either * error) / (tf.reduce_sum(either) + LEVEL_PRIOR) / levels
        for part, head in enumerate((levels + level, 2 * levels + level), 1):
            error = smooth_l1(student[head] - teacher[head])
            codes = error.shape[-1] // face.shape[-1]
            weighted = tf.reduce_sum(tf.repeat(face, codes, axis=-1) * error)
            parts[part] += weighted / (tf.reduce_sum(face) + LEVEL_PRIOR) / levels
    score, box, landmark = parts
    total = SCORE_WEIGHT * score + BOX_WEIGHT * box + LANDMARK_WEIGHT * landmark
    return DistillLosses(total, score, box, landmark)
