"""Windows, faces, colours and pixels of the augmentation, on cases small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_keras import augment
from rf_keras.augment_config import INTERPOLATIONS, PRESETS, AugmentConfig

CROPS = AugmentConfig(crop_scales=(0.5, 1.0, 2.0), crop_trials=3)
NO_FACES = np.zeros((0, 4), np.float32)


def window(boxes: list[list[float]], draws: list[list[float]], config: AugmentConfig = CROPS) -> list[int]:
    """The window chosen in an image of width 200 and height 100, output 64."""
    table = tf.constant(boxes, tf.float32) if boxes else tf.constant(NO_FACES)
    return (
        augment.choose_window(table, tf.constant(100), tf.constant(200), tf.constant(draws), config, 64)
        .numpy()
        .tolist()
    )


def test_first_window_with_a_whole_face_wins() -> None:
    face = [[100.0, 40.0, 120.0, 60.0]]
    # Half the short side at the left, at the face (0.6·150 = 90), and at the right.
    draws = [[0.0, 0.0, 0.5], [0.1, 0.6, 0.5], [0.2, 1.0, 0.5]]
    assert window(face, draws) == [90, 25, 50]


def test_a_cut_face_is_not_whole_and_the_image_is_the_fallback() -> None:
    draws = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.9, 0.9]]  # windows 0-50, 75-125, 135-185
    assert window([[110.0, 40.0, 130.0, 60.0]], draws) == [0, 0, 200]


def test_a_window_larger_than_the_image_lies_around_it() -> None:
    # Side 200: as wide as the image, so x is fixed; y from −100 to 0.
    assert window([[0.0, 0.0, 10.0, 10.0]], [[0.99, 0.3, 0.25]] * 3) == [0, -25, 200]


def test_without_faces_the_first_window_is_used() -> None:
    assert window([], [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) == [50, 0, 100]


def test_a_face_too_small_to_learn_from_does_not_hold_the_window() -> None:
    tiny, draws = [[60.0, 40.0, 64.0, 44.0]], [[0.5, 0.5, 0.5]] * 3  # side 100 → 64: the face shrinks to 2.56 px
    assert window(tiny, draws) == [50, 0, 100]
    assert window(tiny, draws, replace(CROPS, min_face=3.0)) == [0, 0, 200]


def test_a_face_as_large_as_the_window_is_whole() -> None:
    draws = [[0.1, 0.6, 0.5]] * 3  # 90 to 140 and 25 to 75
    assert window([[90.0, 25.0, 140.0, 75.0]], draws) == [90, 25, 50]
    assert window([[90.0, 25.0, 140.5, 75.0]], draws) == [0, 0, 200]
    assert window([[89.5, 25.0, 140.0, 75.0]], draws) == [0, 0, 200]


def test_a_face_of_exactly_the_smallest_size_holds_the_window() -> None:
    face, draws = [[60.0, 40.0, 85.0, 70.0]], [[0.5, 0.5, 0.5]] * 3  # side 100 → 64: 25 px become 16
    assert window(face, draws, replace(CROPS, min_face=16.0)) == [50, 0, 100]
    assert window(face, draws, replace(CROPS, min_face=16.1)) == [0, 0, 200]


def place(left: int, top: int, side: int, size: int = 64) -> augment.Placement:
    values = augment.place_window(tf.constant([left, top, side]), tf.constant(100), tf.constant(200), size)
    return augment.Placement(*(int(value) for value in values))


def test_placement_inside_the_image_fills_the_output() -> None:
    assert place(90, 25, 50) == augment.Placement(25, 90, 50, 50, 0, 0, 64, 64)


def test_placement_of_the_letterbox_is_top_left() -> None:
    assert place(0, 0, 200) == augment.Placement(0, 0, 100, 200, 0, 0, 32, 64)


def test_placement_around_the_image() -> None:
    # 400 px of window onto 64: 0.16. The image starts at 60·0.16 = 9.6 and 100·0.16 = 16.
    assert place(-60, -100, 400) == augment.Placement(0, 0, 100, 200, 16, 10, 16, 32)


FACES = np.array([[100, 40, 120, 60], [10, 10, 20, 20]], np.float32)
POINTS = np.array([[[104, 44], [116, 45], [110, 50], [105, 55], [115, 56]], [[-1, -1]] * 5], np.float32)


def moved(
    left: int, top: int, side: int, flip: bool, config: AugmentConfig = CROPS, size: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    at = tf.constant([left, top, side])
    where = augment.place_window(at, tf.constant(100), tf.constant(200), size)
    boxes, points = augment.move_faces(
        tf.constant(FACES), tf.constant(POINTS), at, where, tf.constant(flip), config, size
    )
    return boxes.numpy(), points.numpy()


def test_faces_move_with_the_window() -> None:
    boxes, points = moved(90, 25, 50, flip=False)  # twice as large; the second face lies outside
    np.testing.assert_allclose(boxes, [[20, 30, 60, 70]])
    np.testing.assert_allclose(points, [[[28, 38], [52, 40], [40, 50], [30, 60], [50, 62]]])


def test_flip_mirrors_boxes_and_swaps_left_and_right_landmarks() -> None:
    boxes, points = moved(90, 25, 50, flip=True)
    np.testing.assert_allclose(boxes, [[40, 30, 80, 70]])
    np.testing.assert_allclose(points, [[[48, 40], [72, 38], [60, 50], [50, 62], [70, 60]]])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_unknown_landmarks_stay_minus_one(flip: bool, clip: bool) -> None:
    boxes, points = moved(-50, -100, 300, flip, replace(CROPS, clip_landmarks=clip))
    assert len(boxes) == 2
    assert (points[1] == -1).all() and (points[0] > 0).all()


def test_faces_are_kept_by_centre_and_clipped() -> None:
    boxes, points = moved(108, 30, 50, flip=False, config=replace(CROPS, clip_landmarks=True))
    np.testing.assert_allclose(boxes, [[0, 20, 24, 60]])  # centre 110 is inside, x1 = 100 is not
    np.testing.assert_allclose(points[0, 0], [0, 28])  # the reference pulls points onto the border
    assert moved(108, 30, 50, flip=False)[1][0, 0].tolist() == [-8, 28]
    for left, top in ((110, 30), (60, 30), (90, 50), (90, 0)):  # a centre on any border is outside
        assert len(moved(left, top, 50, flip=False)[0]) == 0
    np.testing.assert_allclose(moved(65, 5, 50, flip=False)[0], [[70, 70, 100, 100]])


def test_small_faces_are_dropped_by_the_setting() -> None:
    assert len(moved(0, 0, 200, False)[0]) == 2
    assert len(moved(0, 0, 200, False, replace(CROPS, min_face=5.0))[0]) == 2
    assert len(moved(0, 0, 200, False, replace(CROPS, min_face=5.1))[0]) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.lists(st.floats(0, 1, width=32, exclude_max=True), min_size=9, max_size=9),
    st.booleans(),
)
def test_any_window_is_placed_inside_image_and_output(height: int, width: int, draws: list[float], flip: bool) -> None:
    size = 96
    boxes = tf.constant([[width * 0.25, height * 0.25, width * 0.75, height * 0.75]], tf.float32)
    table = tf.reshape(tf.constant(draws), [3, 3])
    at = augment.choose_window(boxes, tf.constant(height), tf.constant(width), table, CROPS, size)
    where = augment.place_window(at, tf.constant(height), tf.constant(width), size)
    p = augment.Placement(*(int(value) for value in where))
    assert p.top >= 0 and p.height >= 1 and p.top + p.height <= height
    assert p.left >= 0 and p.width >= 1 and p.left + p.width <= width
    assert p.out_top >= 0 and p.out_height >= 1 and p.out_top + p.out_height <= size
    assert p.out_left >= 0 and p.out_width >= 1 and p.out_left + p.out_width <= size
    points = tf.zeros([1, 5, 2])
    seen, marks = augment.move_faces(boxes, points, at, where, tf.constant(flip), CROPS, size)
    assert len(seen) == len(marks) <= 1
    assert ((seen.numpy() >= 0) & (seen.numpy() <= size)).all()
    assert (seen.numpy()[:, 2:] > seen.numpy()[:, :2]).all()


NEUTRAL = [0.0] + [0.99, 0.5] * 4  # no change is drawn at probability 0.5
COLOURS = replace(PRESETS["reference"], colour_chance=0.5)


def closeup(boxes: list[list[float]], *draws: float, known: bool = True) -> tuple[bool, list[int], list[int]]:
    """Chosen, window and visible part in an image of width 400 and height 300; draws: face, margin, rectangle."""
    face, margin, rectangle = draws
    table = tf.constant(boxes, tf.float32) if boxes else tf.constant(NO_FACES)
    points = tf.fill([len(boxes), 5, 2], 7.0 if known else -1.0)
    numbers = tf.constant([0.5, face, margin, 0.5, 0.5, 0.5, 0.5, rectangle])
    chosen, *parts = augment.choose_closeup(table, points, tf.constant(300), tf.constant(400), numbers, 0.6)
    return bool(chosen), parts[0].numpy().tolist(), parts[1].numpy().tolist()


LARGE = [100.0, 50.0, 200.0, 130.0]  # 100 × 80 px
NO_MARGIN = 0.125  # of the draws from −0.1 to 0.7


def test_a_closeup_is_the_face_and_its_margin() -> None:
    assert closeup([LARGE], 0.0, NO_MARGIN, 0.0) == (True, [100, 50, 100], [100, 50, 200, 130])
    # A margin of half the box: 50 px at the sides, 40 above and below, of which the image has all.
    assert closeup([LARGE], 0.0, 0.75, 0.0) == (True, [50, 10, 200], [50, 10, 250, 170])
    # Below 0 the box itself is cut, beyond the image there is nothing.
    assert closeup([LARGE], 0.0, 0.0, 0.0)[2] == [110, 58, 190, 122]
    assert closeup([[0.0, 0.0, 100.0, 100.0]], 0.0, 0.75, 0.0)[2] == [0, 0, 150, 150]


def test_a_square_closeup_shows_what_is_around() -> None:
    assert closeup([LARGE], 0.0, NO_MARGIN, 0.9) == (True, [100, 40, 100], [0, 0, 400, 300])
    # At the image's edge the square is moved into it.
    assert closeup([[300.0, 0.0, 400.0, 80.0]], 0.0, NO_MARGIN, 0.9)[1] == [300, 0, 100]


def test_closeups_take_large_faces_with_landmarks() -> None:
    small = [0.0, 0.0, 63.0, 100.0]
    assert closeup([small, LARGE], 0.99, NO_MARGIN, 0.0)[1] == [100, 50, 100]
    assert not closeup([small], 0.0, NO_MARGIN, 0.0)[0]
    assert not closeup([LARGE], 0.0, NO_MARGIN, 0.0, known=False)[0]
    assert not closeup([], 0.0, NO_MARGIN, 0.0)[0]


def test_faces_are_clipped_to_what_is_visible() -> None:
    visible = tf.constant([100, 50, 200, 130])
    placed = augment.place_window(tf.constant([100, 50, 100]), tf.constant(300), tf.constant(400), 64, visible)
    assert [int(value) for value in placed] == [50, 100, 80, 100, 0, 0, 51, 64]
    # The second face lies below what is visible, though within the square window.
    faces = tf.constant([[90.0, 40.0, 210.0, 120.0], [120.0, 132.0, 140.0, 148.0]])
    points = tf.fill([2, 5, 2], -1.0)
    boxes, _ = augment.move_faces(
        faces, points, tf.constant([100, 50, 100]), placed, tf.constant(False), AugmentConfig(), 64
    )
    assert boxes.numpy() == pytest.approx(np.array([[0, 0, 64, 44.625]]))


def drawn(at: int, amount: float) -> tf.Tensor:
    """Only one change happens (1 brightness, 3 contrast, 5 saturation, 7 hue), at `amount` of its range."""
    draws = list(NEUTRAL)
    draws[at], draws[at + 1] = 0.0, amount
    return tf.constant(draws)


def random_rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 12, 3)).astype(np.float32)


BOTH = pytest.mark.parametrize("change", [augment.reference_colour, augment.linear_colour])
Change = Callable[[tf.Tensor, tf.Tensor, AugmentConfig], tf.Tensor]


@BOTH
def test_no_colour_change_is_the_identity(change: Change) -> None:
    np.testing.assert_allclose(change(random_rgb(), tf.constant(NEUTRAL), COLOURS), random_rgb(), atol=0.01)


@BOTH
def test_brightness_and_contrast(change: Change) -> None:
    image = random_rgb()
    bright = np.clip(change(image, drawn(1, 1.0), COLOURS), 0, 255)
    np.testing.assert_allclose(bright, np.clip(image + 32, 0, 255), atol=0.01)
    dark = np.clip(change(image, drawn(1, 0.0), COLOURS), 0, 255)
    np.testing.assert_allclose(dark, np.clip(image - 32, 0, 255), atol=0.01)
    flat = np.clip(change(image, drawn(3, 0.0), COLOURS), 0, 255)
    np.testing.assert_allclose(flat, image * 0.5, atol=0.01)


@BOTH
def test_full_desaturation_gives_grey(change: Change) -> None:
    grey = change(random_rgb(), drawn(5, 0.0), replace(COLOURS, saturation=(0.0, 1.0))).numpy()
    assert np.ptp(grey, axis=-1).max() < 0.5


@BOTH
@pytest.mark.parametrize(("amount", "stronger", "weaker"), [(1.0, 1, 2), (0.0, 2, 1)])
def test_hue_turns_red_towards_yellow_or_magenta(change: Change, amount: float, stronger: int, weaker: int) -> None:
    red = np.full((2, 2, 3), (200.0, 40.0, 40.0), np.float32)
    turned = change(red, drawn(7, amount), COLOURS).numpy()[0, 0]
    assert turned[stronger] > turned[weaker] + 20


def test_90_units_of_hue_are_half_a_turn() -> None:
    """The chroma changes its sign: what is left of luma by red becomes as much to the right."""
    image = np.array([[[200, 40, 40], [10, 90, 160]]], np.float32)
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    turned = augment.linear_colour(image, drawn(7, 1.0), replace(COLOURS, hue=90.0))
    np.testing.assert_allclose(turned, 2 * luma[..., None] - image, atol=0.5)


@pytest.mark.parametrize(("at", "amount", "channel"), [(5, 0.9, 1), (7, 1.0, 0)])
def test_reference_saturation_and_hue_agree_with_opencv(at: int, amount: float, channel: int) -> None:
    image = random_rgb().astype(np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    if channel:
        hsv[..., 1] = np.clip(hsv[..., 1] * (0.5 + amount), 0, 255)
    else:
        hsv[..., 0] = (hsv[..., 0] + 18) % 180
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    actual = augment.reference_colour(image.astype(np.float32), drawn(at, amount), COLOURS).numpy()
    # OpenCV rounds hue to two degrees: at most 255/60·2 ≈ 9 levels, on average far less.
    assert np.abs(actual - expected).max() < 10 and np.abs(actual - expected).mean() < 2


def test_reference_contrast_comes_second_or_last() -> None:
    image = np.full((1, 1, 3), (250.0, 100.0, 100.0), np.float32)
    draws = np.array([0.0, 0.9, 0.5, 0.0, 1.0, 0.0, 1.0, 0.9, 0.5], np.float32)  # contrast 1.5, saturation 1.5
    last, second = (
        augment.reference_colour(image, tf.constant(np.concatenate([[order], draws[1:]]).astype(np.float32)), COLOURS)
        for order in (0.4, 0.6)
    )
    # Saturation 0.6 → 0.9: (250, 25, 25), then ·1.5. Or ·1.5 first: (255, 150, 150), saturation 0.412 → 0.618.
    np.testing.assert_allclose(last.numpy()[0, 0], [255, 37.5, 37.5], atol=0.5)
    np.testing.assert_allclose(second.numpy()[0, 0], [255, 97.5, 97.5], atol=0.5)


@pytest.mark.parametrize("index", range(len(INTERPOLATIONS)))
def test_every_interpolation_keeps_a_flat_image_flat(index: int) -> None:
    config = AugmentConfig(interpolations=INTERPOLATIONS)
    draw = tf.constant((index + 0.5) / len(INTERPOLATIONS))
    image = tf.fill([7, 9, 3], tf.constant(130, tf.uint8))
    resized = augment.resize(image, tf.constant(20), tf.constant(5), draw, config)
    np.testing.assert_allclose(resized, np.full((20, 5, 3), 130.0), atol=0.01)


def test_bilinear_samples_at_half_pixels() -> None:
    image = tf.constant([[[0, 0, 0], [100, 100, 100]]], tf.uint8)
    row = augment.resize(image, tf.constant(1), tf.constant(4), tf.constant(0.0), AugmentConfig())
    np.testing.assert_allclose(row.numpy()[0, :, 0], [0, 25, 75, 100])


@pytest.mark.parametrize(("kernel", "expected"), [("nearest", [30, 50]), ("bicubic", [25, 45])])
def test_other_kernels_look_at_half_pixels_too(kernel: str, expected: list[int]) -> None:
    """Eight pixels to four: the second is centred between pixels 2 and 3, the third between 4 and 5."""
    image = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    config = AugmentConfig(interpolations=(kernel,))
    row = augment.resize(tf.constant(image), tf.constant(1), tf.constant(4), tf.constant(0.0), config)
    np.testing.assert_allclose(row.numpy()[0, 1:3, 0], expected, atol=0.01)


def test_fill_and_mirror() -> None:
    image = tf.reshape(tf.range(2 * 3 * 3, dtype=tf.int32), [2, 3, 3])
    at = augment.Placement(*(tf.constant(v) for v in (0, 0, 2, 3, 1, 2, 2, 3)))
    filled = augment.fill_square(tf.cast(image, tf.uint8), at, (50.0, 60.0, 70.0), 6)
    expected = np.full((6, 6, 3), (50, 60, 70))
    expected[1:3, 2:5] = image.numpy()
    np.testing.assert_array_equal(filled, expected)
    np.testing.assert_array_equal(augment.mirror_and_swap(filled, tf.constant(False)), expected[..., ::-1])
    np.testing.assert_array_equal(augment.mirror_and_swap(filled, tf.constant(True)), expected[:, ::-1, ::-1])


@pytest.mark.parametrize(
    "settings_",
    [
        {"crop_scales": (0.0,)},
        {"crop_scales": (9.0,)},
        {"crop_trials": 0},
        {"flip_chance": 1.5},
        {"colour_chance": -0.1},
        {"contrast": (1.5, 0.5)},
        {"brightness": -1.0},
        {"hue": 91.0},
        {"interpolations": ("cubic",)},
        {"interpolations": ()},
    ],
)
def test_settings_out_of_range_are_errors(settings_: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings_))}.*expected"):
        AugmentConfig(**settings_)  # type: ignore[arg-type]
