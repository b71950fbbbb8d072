"""Batched matching against the slow rules, on random faces and on the cases that break matchers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rf_keras.config import SMALL_ANCHORS, ModelConfig
from rf_keras.matching import match
from tests.rf_keras.slow_rules import iou, match_image

HEIGHT, WIDTH = 96, 128
CONFIG = ModelConfig(anchor_sizes=((16.0, 32.0), (64.0, 128.0), (256.0, 512.0)))
SMALL = ModelConfig(anchor_sizes=SMALL_ANCHORS)


def run(faces: list[list[list[float]]], config: ModelConfig = CONFIG) -> np.ndarray:
    most = max(1, *(len(image) for image in faces))
    boxes = np.zeros((len(faces), most, 4), np.float32)
    for row, image in zip(boxes, faces, strict=True):
        row[: len(image)] = np.reshape(image, (-1, 4))
    return match(tf.constant(boxes), tf.constant([len(f) for f in faces]), config, HEIGHT, WIDTH).numpy()


def slow(faces: list[list[list[float]]], config: ModelConfig = CONFIG) -> np.ndarray:
    anchors = config.anchors(HEIGHT, WIDTH)
    return np.stack([match_image(np.reshape(image, (-1, 4)), anchors) for image in faces])


# Quarter pixels keep every overlap exact in float32, so that ties are ties in both versions.
quarter = st.integers(0, 4 * WIDTH).map(lambda v: v / 4)
side = st.one_of(st.integers(4, 60), st.integers(60, 600)).map(lambda v: v / 4)


@st.composite
def face(draw: st.DrawFn) -> list[float]:
    x, y, w, h = draw(quarter), draw(quarter) * HEIGHT / WIDTH // 0.25 * 0.25, draw(side), draw(side)
    return [x - w // 0.5 * 0.25, y - h // 0.5 * 0.25, x + w // 0.5 * 0.25 + 0.25, y + h // 0.5 * 0.25 + 0.25]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(face(), max_size=6), min_size=1, max_size=3), st.sampled_from([CONFIG, SMALL]))
@example([[], []], CONFIG)
@example([[[0.0, 0.0, 600.0, 20.0], [10.0, 10.0, 12.0, 12.0]]], CONFIG)  # elongated; tiny
@example([[], [[20.0, -8.0, 36.0, 8.0]]], CONFIG)  # half above the picture, whose next row belongs to the one before
def test_agrees_with_the_slow_rules(faces: list[list[list[float]]], config: ModelConfig) -> None:
    np.testing.assert_array_equal(run(faces, config), slow(faces, config))


def test_no_face_is_all_background() -> None:
    assert (run([[]]) == -1).all()


def test_one_face_on_one_anchor() -> None:
    # The 16 px anchor of cell (row 2, column 3) is centred at (28, 20): index (2·16 + 3)·2.
    matched = run([[[20.0, 12.0, 36.0, 28.0]]])[0]
    assert matched[(2 * 16 + 3) * 2] == 0
    anchors = CONFIG.anchors(HEIGHT, WIDTH)
    for index in np.flatnonzero(matched == 0):
        assert iou(np.array([20.0, 12.0, 36.0, 28.0]), anchors[index]) >= 0.35


def test_a_later_face_wins_a_shared_best_anchor() -> None:
    box = [20.0, 12.0, 36.0, 28.0]
    matched = run([[box, box]])[0]
    best = (2 * 16 + 3) * 2
    assert matched[best] == 1
    assert set(matched[matched >= 0]) <= {0, 1}
    np.testing.assert_array_equal(run([[box, box]]), slow([[box, box]]))


def test_tiny_face_below_both_thresholds_gets_nothing() -> None:
    assert (run([[[30.0, 30.0, 33.0, 33.0]]]) == -1).all()  # 9 / 256 of the smallest anchor


def test_small_face_between_the_thresholds_keeps_only_its_best_anchor() -> None:
    box = [24.0, 16.0, 32.0, 24.0]  # 64 / 256 = 0.25 of the 16 px anchor around it
    matched = run([[box]])[0]
    assert np.flatnonzero(matched >= 0).tolist() == [(2 * 16 + 3) * 2]


TWENTIES = ModelConfig(anchor_sizes=((20.0, 40.0), (80.0, 160.0), (320.0, 640.0)))


def test_an_overlap_of_exactly_the_positive_threshold_is_a_match() -> None:
    # 11 × 16 px, 7 of them over the 16 px anchor at (28, 20): 112 / (176 + 256 − 112) = 0.35.
    matched = run([[[16.0, 12.0, 27.0, 28.0]]])[0]
    assert matched[(2 * 16 + 3) * 2] == 0
    np.testing.assert_array_equal([matched], slow([[[16.0, 12.0, 27.0, 28.0]]]))


def test_a_wide_face_reaches_anchors_two_cells_away() -> None:
    # 40 × 16 px around x = 32: it covers the 16 px anchors at 20, 28, 36 and 44, 256 of its 640 px each.
    matched = run([[[12.0, 12.0, 52.0, 28.0]]])[0]
    row = (2 * 16 + np.arange(16)) * 2
    assert np.flatnonzero(matched[row] == 0).tolist() == [2, 3, 4, 5]


def test_a_best_overlap_of_exactly_the_lower_threshold_is_kept() -> None:
    # 8 × 10 px inside the 20 px anchor at (28, 20), and inside no other: 80 / 400 = 0.2.
    assert np.flatnonzero(run([[[24.0, 15.0, 32.0, 25.0]]], TWENTIES)[0] >= 0).tolist() == [(2 * 16 + 3) * 2]


def test_of_equally_good_anchors_the_lowest_is_kept() -> None:
    # 9 × 9 px inside four anchors of 20 px: rows 2 and 3, columns 3 and 4.
    assert np.flatnonzero(run([[[27.0, 19.0, 36.0, 28.0]]], TWENTIES)[0] >= 0).tolist() == [(2 * 16 + 3) * 2]
    # 16 × 32 px: half of it is the 16 px anchor in row 1, 2 or 3 of column 3, and it is half of three 32 px anchors of
    # row 2. The first face has all of them but the one that the second, equal face keeps.
    box = [20.0, 4.0, 36.0, 36.0]
    assert np.flatnonzero(run([[box, box]])[0] == 1).tolist() == [(1 * 16 + 3) * 2]


def test_faces_beyond_the_count_are_none() -> None:
    boxes = tf.constant([[[20.0, 12.0, 36.0, 28.0], [60.0, 52.0, 76.0, 68.0]]] * 2)
    matched = match(boxes, tf.constant([1, 0]), CONFIG, HEIGHT, WIDTH).numpy()
    assert matched[0].max() == 0 and (matched[1] == -1).all()


def test_batched_equals_single() -> None:
    rng = np.random.default_rng(3)
    faces = []
    for count in (0, 1, 7, 30):
        corner, size = rng.integers(0, 320, (count, 2)) / 4, rng.integers(8, 240, (count, 2)) / 4
        faces.append(np.concatenate([corner, corner + size], axis=1).tolist())
    together = run(faces)
    for row, image in zip(together, faces, strict=True):
        np.testing.assert_array_equal(row, run([image])[0])


@pytest.mark.parametrize("size", [320, 640])
def test_training_sizes_agree_too(size: int) -> None:
    rng = np.random.default_rng(size)
    corner, side = rng.integers(0, 4 * size, (12, 2)) / 4, np.exp(rng.uniform(1.5, 6, (12, 1))) // 0.25 * 0.25
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    got = match(tf.constant(boxes[None]), tf.constant([12]), CONFIG, size, size).numpy()[0]
    anchors = CONFIG.anchors(size, size)
    low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    inter = np.prod(
        np.clip(np.minimum(boxes[:, None, 2:], high) - np.maximum(boxes[:, None, :2], low), 0, None), axis=2
    )
    table = inter / (anchors[:, 2] ** 2 + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None] - inter)
    want = np.where(table.max(axis=0) >= 0.35, table.argmax(axis=0), -1)
    for index in range(12):
        if table[index].max() >= 0.2:
            want[table[index].argmax()] = index
    np.testing.assert_array_equal(got, want)
