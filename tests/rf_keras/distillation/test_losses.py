"""What a teacher's answers cost, and how labels correct them: sums small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from rf_keras.config import ModelConfig
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.losses import (
    corrected_by_labels,
    large_faces_by_labels,
    pairwise_iou,
    taught_sums,
    teacher_sums,
)
from rf_keras.matching import match


def test_labels_correct_scores_by_hand() -> None:
    def answer(score: float, *box: float) -> list[float]:
        return [score, *box, *[7.0] * 10]

    face, half_seen = (10.0, 10.0, 30.0, 30.0), (50.0, 0.0, 64.0, 20.0)
    rows = [
        answer(0.4, *face),  # the best on its face: raised to 0.6
        answer(0.2, 12, 10, 32, 30),  # IoU 0.82 with it: raised by as much
        answer(0.2, *half_seen),  # doubled and no more
        answer(0.1, 40, -30, 70, 20),  # clipped, IoU 280/480 with the cut face: likewise doubled
        answer(0.5, 40, 40, 60, 60),  # on nothing
        answer(0.5, 20, 10, 40, 30),  # IoU 1/3: between
        answer(0.04, 40, 40, 60, 60),  # too little to be looked at
        answer(0.9, 10, 10, 30, 31),  # in the second image alone
    ]
    answers = tf.constant([[*rows[:7], answer(0.0, 0, 0, 0, 0)], rows], tf.float32)
    faces = tf.constant([[face, half_seen, (0.0, 0.0, 0.0, 0.0)]] * 2)
    corrected = corrected_by_labels(answers, faces, tf.constant([True, True]), 64).numpy()
    between = 0.5 * (0.4 + 0.6 * (1 / 3 - 0.3) / 0.2)
    np.testing.assert_allclose(corrected[0, :, 0], [0.6, 0.3, 0.4, 0.2, 0.2, between, 0.04, 0], rtol=1e-5)
    # A face that is believed already stays as it is.
    np.testing.assert_allclose(corrected[1, :, 0], [0.4, 0.2, 0.4, 0.2, 0.2, between, 0.04, 0.9], rtol=1e-5)
    np.testing.assert_array_equal(corrected[..., 1:], answers[..., 1:])
    untrusted = corrected_by_labels(answers, faces, tf.constant([False, True]), 64).numpy()
    np.testing.assert_array_equal(untrusted[0], answers[0])
    np.testing.assert_array_equal(untrusted[1], corrected[1])
    nobody = corrected_by_labels(answers, tf.zeros((2, 1, 4)), tf.constant([True, True]), 64).numpy()
    np.testing.assert_allclose(nobody[1, :, 0], [0.16, 0.08, 0.08, 0.04, 0.2, 0.2, 0.04, 0.36], rtol=1e-5)


def corrected_scores(rows: list[tuple[float, tuple[float, ...]]], face: tuple[float, ...]) -> np.ndarray:
    """Scores of one image's answers (score, box) after correction by one face."""
    answers = np.array([[score, *box, *[0.0] * 10] for score, box in rows], np.float32)
    return corrected_by_labels(answers[None], tf.constant([[face]]), tf.constant([True]), 64).numpy()[0, :, 0]


def test_corrections_at_the_thresholds_themselves() -> None:
    nowhere = (40.0, 40.0, 60.0, 60.0)
    rows = [
        (0.2, (0.0, 0.0, 4.0, 8.0)),  # IoU ½ is enough to be of the face: doubled
        (0.05, nowhere),  # just enough to be looked at
        (1.5, (0.0, 0.0, 4.0, 4.0)),  # no teacher's score is above 1
    ]
    face = (0.0, 0.0, 4.0, 4.0)
    np.testing.assert_allclose(corrected_scores(rows[:2], face), [0.4, 0.02], rtol=1e-5)
    np.testing.assert_allclose(corrected_scores(rows, face)[2], 1.0)


def test_the_1024_surest_answers_are_corrected() -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0.5, 0.9, 1100)).astype(np.float32)
    found = corrected_scores([(score, (40.0, 40.0, 60.0, 60.0)) for score in scores], (0.0, 0.0, 4.0, 4.0))
    surest = np.sort(scores)[-1024]
    np.testing.assert_allclose(found, np.where(scores >= surest, 0.4 * scores, scores), rtol=1e-5)


def test_labels_replace_the_teacher_on_large_faces_by_hand() -> None:
    """An image of 100 px with a face of 60, known to the labels alone, and a small one in its corner."""
    anchors = tf.constant([[50, 50, 64], [60, 50, 64], [50, 50, 16], [25, 25, 16], [90, 90, 16]], tf.float32)
    boxes = tf.constant([[[20, 20, 80, 80], [18, 18, 32, 32], [0, 0, 0, 0]]], tf.float32)
    landmarks = tf.concat([tf.fill([1, 1, 5, 2], 50.0), tf.fill([1, 2, 5, 2], -1.0)], axis=1)
    matched = tf.constant([[0, 0, -1, 1, -1]])
    answers = np.full((1, 5, 15), 7, np.float32)
    answers[0, :, 0] = [0.2, 0.3, 0.6, 0.7, 0.1]
    answers[0, :, 1:5] = [[0, 0, 9, 9], [0, 0, 9, 9], [42, 42, 58, 58], [18, 18, 32, 32], [82, 82, 98, 98]]
    targets, parts = large_faces_by_labels(tf.constant(answers), boxes, landmarks, matched, anchors, 100)
    learned = targets.numpy()[0]
    # IoU of the anchors' squares with the face: 3600 / 4096, and 62·60 = 3720 − 10·60 … of the one moved by 10.
    fit = np.array([3600 / 4096, 52 * 60 / (3600 + 4096 - 52 * 60)])
    assert learned[:2, 0] == pytest.approx(0.9 * fit / fit[0], rel=1e-5)
    assert learned[0, 1:].tolist() == [20, 20, 80, 80, *[50] * 10]
    assert learned[2, 0] == 0, "a part of the face is none"
    assert parts.numpy()[0].tolist() == [False, False, True, False, False]
    assert learned[3].tolist() == answers[0, 3].tolist(), "but another face before it is one"
    assert learned[4].tolist() == answers[0, 4].tolist()
    # Without landmarks, or when it is smaller, the teacher's word stands.
    for unknown, side in ((tf.fill([1, 3, 5, 2], -1.0), 100), (landmarks, 241)):
        kept, parts = large_faces_by_labels(tf.constant(answers), boxes, unknown, matched, anchors, side)
        assert kept.numpy().tolist() == answers.tolist() and not parts.numpy().any()


def test_iou_of_pairs() -> None:
    a = tf.constant([[[0.0, 0, 4, 4], [0, 0, 0, 0]]])
    b = tf.constant([[[2.0, 2, 6, 6], [0, 0, 4, 4], [3, 3, 2, 2]]])
    np.testing.assert_allclose(pairwise_iou(a, b)[0], [[4 / 28, 1, 0], [0, 0, 0]])


def test_loss_by_hand() -> None:
    anchors = tf.constant([[10.0, 10.0, 20.0], [30.0, 30.0, 20.0]])
    logits = tf.constant([[[0.0, 1.0], [1.0, 0.0]]])  # face − background: 1 and −1
    # First anchor: score 0.8, a box 4 px wider and 1 px lower, points 6 px right of the centre. Second: below the floor
    # and without any size.
    points = [16.0, 10.0] * 5
    answers = tf.constant([[[0.8, -2.0, 1.0, 22.0, 21.0, *points], [0.05, 5.0, 5.0, 5.0, 5.0, *[9e9] * 10]]])
    zeros = tf.zeros((1, 2, 4)), tf.zeros((1, 2, 10))
    sums = teacher_sums((logits, *zeros), answers, anchors, (0.1, 0.2))
    sigmoid = 1 / (1 + math.exp(-1))
    focal = (sigmoid - 0.8) ** 2 * (math.log1p(math.e) - 0.8)
    focal += (1 - sigmoid - 0.05) ** 2 * (math.log1p(math.exp(-1)) + 0.05)
    assert float(sums.classes) == pytest.approx(8 * focal, rel=1e-5)
    # Codes: centre (0, 1) px = (0, 0.5); log(24 / 20) / 0.2 = 0.9116 and 0.
    assert float(sums.box) == pytest.approx(0.8 * (0.5 * 0.5**2 + 0.5 * (math.log(1.2) / 0.2) ** 2), rel=1e-4)
    assert float(sums.landmark) == pytest.approx(0.25 * 0.8 * 5 * (3 - 0.5), rel=1e-5)
    assert float(sums.positives) == float(sums.positives_with_landmarks) == pytest.approx(0.8)


def test_what_parts_of_faces_count() -> None:
    """A face of 60 pixels in 64: each anchor of which the teacher's box lies in it counts `part_weight` times."""
    network = ModelConfig(class_logits=1)
    anchors = network.anchors(64, 64)
    random = np.random.default_rng(0)
    answers = np.zeros((1, len(anchors), 15), np.float32)
    answers[0, :, 1:3], answers[0, :, 3:5] = anchors[:, :2] - 3, anchors[:, :2] + 3
    predictions = [tf.constant(random.standard_normal((1, len(anchors), width)), tf.float32) for width in (2, 4, 10)]
    face = np.array([[[2, 2, 62, 62]]], np.float32)
    batch = {"teacher": tf.constant(answers), "boxes": tf.constant(face), "count": tf.constant([1])}
    batch["landmarks"] = tf.fill([1, 1, 5, 2], 30.0)

    def score_sum(weight: float) -> float:
        settings = Distillation("teacher", part_weight=weight)
        return float(taught_sums(predictions, batch, settings, network, 64, large_faces=True).classes)

    logits = (predictions[0][0, :, 1] - predictions[0][0, :, 0]).numpy()
    focal = 8 * np.log1p(np.exp(logits)) / (1 + np.exp(-logits)) ** 2
    parts = match(batch["boxes"], batch["count"], network, 64, 64).numpy()[0] < 0
    assert 0 < parts.sum() < len(anchors), "all boxes lie in the face, but for the anchors that are to find it"
    assert score_sum(4) - score_sum(1) == pytest.approx(3 * focal[parts].sum(), rel=1e-3)


def test_the_floor_of_a_teachers_scores() -> None:
    """From 0.1 on boxes and points count, by the score."""
    anchors = tf.constant([[10.0, 10.0, 20.0]])
    outputs = tf.zeros((1, 1, 2)), tf.zeros((1, 1, 4)), tf.zeros((1, 1, 10))
    for score, weight in ((0.0999, 0.0), (0.1, 0.1), (0.15, 0.15)):
        answers = tf.constant([[[score, 0.0, 0.0, 20.0, 22.0, *[10.0] * 10]]])
        sums = teacher_sums(outputs, answers, anchors, (0.1, 0.2))
        assert float(sums.positives) == pytest.approx(weight)
        assert float(sums.box) == pytest.approx(weight * 0.5 * (0.5**2 + (math.log(1.1) / 0.2) ** 2), rel=1e-4)
