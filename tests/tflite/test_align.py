from __future__ import annotations

import cv2
import numpy as np
import pytest

from tflite.align import TEMPLATE, align_face, similarity

# Points → matrix of scikit-image 0.26.0, SimilarityTransform.estimate(points, TEMPLATE): frontal, turned by about 90°,
# and mirrored (which a similarity must not undo by a reflection).
SKIMAGE = [
    (
        [[101.5, 120.25], [150.0, 118.5], [126.0, 149.0], [105.0, 171.75], [146.5, 170.0]],
        [[0.755639674, -0.007778149, -37.898478992], [0.007778149, 0.755639674, -39.325539561]],
    ),
    (
        [[300, 80], [310, 130], [270, 110], [250, 88], [255, 125]],
        [[0.059971158, 0.736268509, -39.072073895], [-0.736268509, 0.059971158, 269.454231479]],
    ),
    (
        [[20, 10], [12, 10], [16, 15], [19, 20], [13, 20]],
        [[1.189126, 0.006668, 36.900124], [-0.006668, 1.189126, 54.170578]],
    ),
]


@pytest.mark.parametrize(("points", "matrix"), SKIMAGE)
def test_equals_scikit_image(points: list[list[float]], matrix: list[list[float]]) -> None:
    np.testing.assert_allclose(similarity(np.array(points), TEMPLATE), matrix, atol=1e-6)


def test_recovers_a_known_transform() -> None:
    angle, scale = 0.7, 2.5
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(TEMPLATE, TEMPLATE @ linear.T + (5, -9))
    np.testing.assert_allclose(matrix, np.concatenate((linear, [[5], [-9]]), axis=1), atol=1e-9)


def test_coinciding_points_only_shift() -> None:
    matrix = similarity(np.full((5, 2), 3.0), TEMPLATE)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2))
    assert np.isfinite(matrix).all()


def test_the_landmarks_land_on_the_template() -> None:
    """A photo with a dot on each landmark, tilted: the crop has the dots where ArcFace wants them."""
    linear = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    points = TEMPLATE @ linear.T + (120, 30)
    image = np.zeros((400, 400, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x * 8), round(y * 8)), 8 * 4, (255, 255, 255), -1, cv2.LINE_AA, 3)
    crop = align_face(image, points)
    assert crop.shape == (112, 112, 3)
    for x, y in TEMPLATE:
        left, top = round(x) - 5, round(y) - 5
        window = crop[top : top + 11, left : left + 11, 0].astype(float)
        rows, columns = np.mgrid[top : top + 11, left : left + 11]
        assert abs((columns * window).sum() / window.sum() - x) < 0.5
        assert abs((rows * window).sum() / window.sum() - y) < 0.5


def test_between_pixels_the_crop_is_linear_and_beyond_the_image_black() -> None:
    """Half a pixel to the right: each pixel of the crop is the mean of two neighbours. Without overshoot at edges."""
    image = np.random.default_rng(0).integers(0, 2, (112, 112, 3), np.uint8) * 200
    crop = align_face(image, TEMPLATE + np.array([0.5, 0]))
    means = (image[:, :-1].astype(int) + image[:, 1:]) / 2
    np.testing.assert_allclose(crop[:, :-1], means, atol=1)
    away = align_face(np.full((60, 60, 3), 200, np.uint8), TEMPLATE)
    assert (away[:59, :59] == 200).all() and not away[61:].any() and not away[:, 61:].any()
