"""Mean errors of int8 rounding, and the biases that take them back."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from quantization.bias import conv_depths, correct_biases
from quantization.graph import CONVS, FoldedNetwork, Ranges
from quantization.simulate import simulate
from tflite.spec import ModelSpec

from .conftest import TINY


def mean_error(model: keras.Model, simulated: keras.Model, images: np.ndarray, name: str) -> float:
    """Mean over channels of |mean int8 output − mean float output| of one layer."""
    pixels = images.astype(np.float32) - np.asarray(ModelSpec.mean, np.float32)
    float_one = keras.Model(model.input, model.get_layer(name).output)
    int8_one = keras.Model(simulated.input, simulated.get_layer(f"quant_{name}").output)
    means = [np.mean(network(pixels, training=False), axis=(0, 1, 2)) for network in (float_one, int8_one)]
    return float(np.abs(means[1] - means[0]).mean())


@pytest.fixture(scope="module")
def shifted(folded: FoldedNetwork, ranges: Ranges) -> tuple[FoldedNetwork, Ranges]:
    """The tiny network with fewer steps per tensor, so that rounding shifts means visibly."""
    return folded, {name: (4 * low, 4 * high) for name, (low, high) in ranges.items() if name != "image"} | {
        "image": ranges["image"]
    }


def test_means_come_back(shifted: tuple[FoldedNetwork, Ranges], images: np.ndarray) -> None:
    network, ranges = shifted
    model = network.model
    before = [layer.numpy().copy() for layer in model.weights]
    corrected = correct_biases(network, ranges, images[:4])
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())  # the float network is untouched
    plain, better = (simulate(one, ranges) for one in (network, corrected))
    names = [layer.name for layer in model.layers if isinstance(layer, CONVS) and layer.name.startswith(("fpn", "ssh"))]
    errors = np.array([[mean_error(model, s, images[:4], name) for s in (plain, better)] for name in names])
    assert len(names) > 10 and errors[:, 1].mean() < 0.5 * errors[:, 0].mean(), errors.mean(axis=0)


def test_only_biases_change(shifted: tuple[FoldedNetwork, Ranges], images: np.ndarray) -> None:
    network, ranges = shifted
    corrected = correct_biases(network, ranges, images[:4])
    for layer in network.model.layers:
        if isinstance(layer, CONVS):
            np.testing.assert_array_equal(
                corrected.model.get_layer(layer.name).get_weights()[0], layer.get_weights()[0]
            )


def test_clipped_scores_are_no_shift(folded: FoldedNetwork, ranges: Ranges, images: np.ndarray) -> None:
    """Most of a score map lies below its range, on purpose; pulling the bias up for that would raise every face."""
    narrow = ranges | {f"class_{stride}": (0.0, 4.0) for stride in folded.config.strides}
    corrected = correct_biases(folded, narrow, images[:4])
    for stride in folded.config.strides:
        found, old = (model.get_layer(f"class_{stride}").get_weights()[1] for model in (corrected.model, folded.model))
        assert np.abs(found - old).max() < 0.2


def test_depths(folded: FoldedNetwork) -> None:
    depth = conv_depths(folded.model)
    assert depth["image"] == 0 and depth["stem_conv"] == 1 and depth["stem_act"] == 1
    assert depth["box_8"] == max(depth.values())


def test_eight_images_spread_over_all_are_measured() -> None:
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="stem_conv")(image)
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="second_conv")(x))
    network = FoldedNetwork.of(model, TINY)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 12, 12, 3), np.uint8)
    # Steps of 24: each image has its own error.
    ranges = {"image": (-125.0, 150.0), "stem_conv": (-3000.0, 3000.0), "second_conv": (-3000.0, 3000.0)}

    def biases(some: np.ndarray) -> np.ndarray:
        found: np.ndarray = correct_biases(network, ranges, some).model.get_layer("stem_conv").get_weights()[1]
        return found

    expected = biases(images[::2])
    np.testing.assert_array_equal(biases(images), expected)
    for others in (images[:8], images[::4]):
        assert np.abs(biases(others) - expected).max() > 0.01
