from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from quantization.graph import INPUT, FoldedNetwork, Ranges
from quantization.quantizers import GROWTH_RATE, ChannelWeights, FixedRange
from quantization.simulate import growths, input_range, simulate, write_back


def test_range_keys(folded: FoldedNetwork) -> None:
    keys = folded.keys
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


def test_write_back_returns_weights_and_ranges(folded: FoldedNetwork, simulated: keras.Model, ranges: Ranges) -> None:
    copy = folded.copy()
    found = write_back(simulated, copy)
    assert set(found) == set(ranges)
    for name, (low, high) in ranges.items():
        assert found[name] == pytest.approx((low, high), rel=1e-6), name
    for layer in folded.model.layers:
        for i, (a, b) in enumerate(
            zip(layer.get_weights(), copy.model.get_layer(layer.name).get_weights(), strict=True)
        ):
            if i == 0:
                np.testing.assert_array_equal(a, b, layer.name)
            else:  # biases lie on TFLite's int32 grid
                np.testing.assert_allclose(a, b, atol=1e-2, err_msg=layer.name)


def test_ranges_stay_as_assigned_in_training_mode(simulated: keras.Model, folded: FoldedNetwork) -> None:
    before = [w.numpy() for w in simulated.non_trainable_weights]
    simulated(np.full((1, 64, 64, 3), 500.0, np.float32), training=True)  # far outside every range
    for a, b in zip(before, simulated.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_learned_ranges_are_trainable_except_the_input(
    folded: FoldedNetwork, ranges: Ranges, simulated: keras.Model
) -> None:
    learning = simulate(folded, ranges, learn_ranges=True)
    more = len(learning.trainable_variables) - len(simulated.trainable_variables)
    assert more == len({growth.ref() for growth in growths(folded).values()})
    assert INPUT not in growths(folded)
    images = np.random.default_rng(0).uniform(-100, 100, (1, 64, 64, 3)).astype(np.float32)
    for a, b in zip(learning(images), simulated(images), strict=True):  # nothing learned yet
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_ranges_on_both_sides_of_a_leaky_relu_grow_together(folded: FoldedNetwork, ranges: Ranges) -> None:
    found = growths(folded)
    assert found["stem_conv"] is found["stem_act"]
    assert found["ssh_8_5_1_conv"] is found["ssh_8_5_1_act"] is not found["ssh_8_concat"]
    learning = simulate(folded, ranges, learn_ranges=True)
    growth = next(v for v in learning.trainable_variables if v.name.startswith("growth_stem_conv"))
    growth.assign(np.log(1 / 8) / GROWTH_RATE)
    copy = folded.copy()
    after = write_back(learning, copy)
    for name, bounds in ranges.items():
        factor = 1 / 8 if name in ("stem_conv", "stem_act") else 1
        assert after[name] == pytest.approx((factor * bounds[0], factor * bounds[1]), rel=1e-5), name
    images = np.random.default_rng(0).uniform(-100, 100, (1, 64, 64, 3)).astype(np.float32)
    steps = [(after[name][1] - after[name][0]) / 255 for name in folded.model.output_names]

    def apart(frozen: keras.Model) -> list[float]:
        """Mean difference from the growing network, in steps of each output."""
        pairs = zip(learning(images), frozen(images), steps, strict=True)
        return [float(np.mean(np.abs(a - b))) / step for a, b, step in pairs]

    assert max(apart(simulate(copy, after))) < 0.5, "frozen at what was written it is the same network"
    assert max(apart(simulate(copy, ranges))) > 1, "which the one before is not"


def test_a_dead_tensor_stays_dead_with_learned_ranges(folded: FoldedNetwork, ranges: Ranges) -> None:
    dead = ranges | {"ssh_8_concat": (0.0, 0.0)}
    images = np.full((1, 64, 64, 3), 50.0, np.float32)
    frozen, learning = (simulate(folded, dead, learn_ranges=learn)(images) for learn in (False, True))
    for a, b in zip(frozen, learning, strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_gradient_of_a_growing_range_by_hand() -> None:
    """Steps of 0.5 from −64 to 63.5: 0.2 rounds down to 0 (error −0.4 steps), 100 meets the bound of 127 steps."""
    growth = tf.Variable(0.0)
    quantizer = FixedRange(-64.0, 63.5, growth)
    weights = {"min_var": tf.constant(-64.0), "max_var": tf.constant(63.5), "growth": growth}
    for value, expected, slope, passed in ((0.2, 0.0, -0.2, 1.0), (100.0, 63.5, 63.5, 0.0), (-80.0, -64.0, -64.0, 0.0)):
        x = tf.constant(value)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = quantizer(x, True, weights)
        assert float(y) == pytest.approx(expected)
        assert float(tape.gradient(y, growth)) == pytest.approx(GROWTH_RATE * slope, rel=1e-5)
        assert float(tape.gradient(y, x)) == pytest.approx(passed)


def test_missing_range_is_an_error(folded: FoldedNetwork, ranges: Ranges) -> None:
    with pytest.raises(KeyError, match="stem_act"):
        simulate(folded, {name: value for name, value in ranges.items() if name != "stem_act"})
