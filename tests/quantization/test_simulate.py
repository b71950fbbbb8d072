from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from quantization.simulate import ChannelWeights, Ranges, input_range, range_keys, simulate, write_back
from rf_keras.config import ModelConfig


def test_range_keys(folded: tuple[keras.Model, ModelConfig]) -> None:
    keys = range_keys(folded[0])
    assert keys["stem_conv"] == "stem_conv", "LeakyReLU is an op of its own in TFLite: the conv's output has a range"
    assert "ssh_8_3_conv" not in keys, "ReLU is fused into its conv"
    assert "stage1_2_dw_pad" not in keys and "fpn_up_8" not in keys, "moving values needs no new range"
    branches = {keys[name] for name in ("ssh_8_3_act", "ssh_8_5_2_act", "ssh_8_7_3_act", "ssh_8_concat")}
    assert branches == {"ssh_8_concat"}, "a concat's inputs share its range"


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
@settings(max_examples=200, deadline=None)
def test_input_range_holds_every_pixel_value(mean: list[int]) -> None:
    low, high = input_range(mean)
    scale = (high - low) / 255
    zero_point = -128 - low / scale
    assert abs(zero_point - round(zero_point)) < 1e-6, "0 lies on the grid"
    values = np.array([[p - m for p in (0, 255)] for m in mean]) / scale + zero_point
    assert values.min() >= -128.5 and values.max() <= 127.5
    assert scale < 2.01, "at most twice the pixel's step, even for a mean at an end"


def test_input_scale_of_the_contract() -> None:
    low, high = input_range((104, 117, 123))
    assert (high - low) / 255 == pytest.approx(1.0786, abs=1e-4)


def test_depthwise_kernels_have_a_scale_per_channel() -> None:
    kernel = np.zeros((3, 3, 2, 1), np.float32)
    kernel[..., 0, 0] = np.linspace(-1, 1, 9).reshape(3, 3)
    kernel[..., 1, 0] = np.linspace(-0.01, 0.01, 9).reshape(3, 3)
    found = ChannelWeights(depthwise=True)(kernel, False, {}).numpy()
    # One scale for both would round the small channel to steps of 1/127, i.e. to 0 and ±0.00787.
    np.testing.assert_allclose(found[..., 1, 0], kernel[..., 1, 0], atol=0.01 / 127 / 2 + 1e-7)
    np.testing.assert_allclose(found[..., 0, 0], kernel[..., 0, 0], atol=1 / 127 / 2 + 1e-7)


def test_dead_channel_stays_finite() -> None:
    kernel = np.zeros((1, 1, 4, 2), np.float32)
    kernel[..., 0] = 0.5
    assert np.isfinite(ChannelWeights(depthwise=False)(kernel, False, {}).numpy()).all()


def test_write_back_returns_weights_and_ranges(
    folded: tuple[keras.Model, ModelConfig], simulated: keras.Model, ranges: Ranges
) -> None:
    copy = keras.models.clone_model(folded[0])
    found = write_back(simulated, copy)
    assert set(found) == set(ranges)
    for name, (low, high) in ranges.items():
        assert found[name] == pytest.approx((low, high), rel=1e-6), name
    for layer in folded[0].layers:
        for i, (a, b) in enumerate(zip(layer.get_weights(), copy.get_layer(layer.name).get_weights(), strict=True)):
            if i == 0:
                np.testing.assert_array_equal(a, b, layer.name)
            else:  # biases lie on TFLite's int32 grid
                np.testing.assert_allclose(a, b, atol=1e-2, err_msg=layer.name)


def test_ranges_stay_as_assigned_in_training_mode(
    simulated: keras.Model, folded: tuple[keras.Model, ModelConfig]
) -> None:
    before = [w.numpy() for w in simulated.non_trainable_weights]
    simulated(np.full((1, 64, 64, 3), 500.0, np.float32), training=True)  # far outside every range
    for a, b in zip(before, simulated.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_learned_ranges_are_trainable_except_the_input(
    folded: tuple[keras.Model, ModelConfig], ranges: Ranges, simulated: keras.Model
) -> None:
    learning = simulate(folded[0], ranges, learn_ranges=True)
    more = len(learning.trainable_variables) - len(simulated.trainable_variables)
    outputs = [name for name in range_keys(folded[0]) if name != "image"]
    assert more == 2 * len(outputs)


def test_missing_range_is_an_error(folded: tuple[keras.Model, ModelConfig], ranges: Ranges) -> None:
    with pytest.raises(KeyError, match="stem_act"):
        simulate(folded[0], {name: value for name, value in ranges.items() if name != "stem_act"})
