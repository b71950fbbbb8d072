from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite.anchors import make_anchors
from tflite.decode import decode_boxes, decode_landmarks, decode_outputs, logit, min_quantized_score, sigmoid
from tflite.spec import ModelSpec

SPEC = ModelSpec(input_height=32, input_width=64)


def test_zero_deltas_give_the_anchor() -> None:
    boxes = decode_boxes(np.zeros((1, 4)), np.array([[20, 12, 16]]), (0.1, 0.2))
    assert boxes.tolist() == [[12, 4, 28, 20]]
    assert boxes.dtype == np.float32


def test_hand_computed_box() -> None:
    # centre 20 + 1·0.1·16 = 21.6, 12 − 2·0.1·16 = 8.8; sides 16·exp(0.2·log(2)/0.2) = 32, 16·exp(0) = 16
    deltas = np.array([[1, -2, math.log(2) / 0.2, 0]])
    boxes = decode_boxes(deltas, np.array([[20, 12, 16]]), (0.1, 0.2))
    np.testing.assert_allclose(boxes, [[5.6, 0.8, 37.6, 16.8]], atol=1e-5)


def test_size_is_clamped() -> None:
    boxes = decode_boxes(np.array([[0, 0, 1e4, -1e4]]), np.array([[0, 0, 16]]), (0.1, 0.2))
    np.testing.assert_allclose(boxes, [[-500, 0, 500, 0]], rtol=1e-6)  # 16·1000/16, and nothing


def test_landmarks() -> None:
    points = decode_landmarks(np.arange(10)[None], np.array([[20, 12, 16]]), (0.1, 0.2))
    assert points.shape == (1, 5, 2)
    np.testing.assert_allclose(points[0, 1], [20 + 2 * 1.6, 12 + 3 * 1.6], rtol=1e-6)


def test_no_rows() -> None:
    assert decode_boxes(np.empty((0, 4)), np.empty((0, 3)), (0.1, 0.2)).shape == (0, 4)
    assert decode_landmarks(np.empty((0, 10)), np.empty((0, 3)), (0.1, 0.2)).shape == (0, 5, 2)


def test_sigmoid_and_logit_are_inverse_and_do_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        values = sigmoid(np.array([-100, -1, 0, 1, 100], np.float32))
    np.testing.assert_allclose(values, [0, 0.268941, 0.5, 0.731059, 1], atol=1e-6)
    assert logit(0.5) == 0
    assert logit(0.0) == -np.inf
    assert logit(1.0) == np.inf
    with pytest.raises(ValueError, match=r"score threshold is 1\.5"):
        logit(1.5)


@given(
    st.floats(0.001, 0.999),
    st.floats(2**-13, 4.0, width=32),
    st.integers(-128, 127),
    st.sampled_from((np.int8, np.uint8)),
)
def test_min_quantized_score_is_the_smallest_that_passes(t: float, scale: float, zero: int, dtype: type) -> None:
    least = min_quantized_score(t, scale, zero, dtype)
    limits = np.iinfo(dtype)
    assert limits.min <= least <= limits.max + 1
    if least <= limits.max:
        assert np.float32(least - zero) * np.float32(scale) >= logit(t)
    if least > limits.min:
        assert np.float32(least - 1 - zero) * np.float32(scale) < logit(t)


def test_threshold_on_a_step_is_kept() -> None:
    assert min_quantized_score(0.5, 0.1, -3, np.int8) == -3
    assert min_quantized_score(0.0, 0.1, -3, np.int8) == -128
    assert min_quantized_score(1.0, 0.1, -3, np.int8) == 128


def outputs(score: float = -5.0) -> dict[str, np.ndarray]:
    shapes = {8: (4, 8), 16: (2, 4), 32: (1, 2)}
    tensors = {}
    for stride, cells in shapes.items():
        tensors[f"score_{stride}"] = np.full((1, *cells, 2), score, np.float32)
        tensors[f"box_{stride}"] = np.zeros((1, *cells, 8), np.float32)
        tensors[f"landmark_{stride}"] = np.zeros((1, *cells, 20), np.float32)
    return tensors


def test_channels_are_anchor_times_k_plus_component() -> None:
    tensors = outputs()
    tensors["score_16"][0, 1, 2, 1] = 3.0
    tensors["box_16"][0, 1, 2, 4:] = (1, 0, 0, 0)
    tensors["landmark_16"][0, 1, 2, 18:] = (0, 1)
    anchors = make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes)
    found = decode_outputs(tensors, anchors, SPEC, 0.5)
    index = 2 * 4 * 8 + (1 * 4 + 2) * 2 + 1
    assert found.anchors.tolist() == [index]
    assert anchors[index].tolist() == [40, 24, 128]
    assert found.boxes.tolist() == [[40 + np.float32(12.8) - 64, -40, 40 + np.float32(12.8) + 64, 88]]
    np.testing.assert_allclose(found.landmarks[0, 4], [40, 24 + 12.8], rtol=1e-6)
    assert found.logits.tolist() == [3]


@pytest.mark.parametrize("in_float", [(), ("box_16",), ("score_8", "landmark_32")])
@pytest.mark.parametrize("without_faces", [(), (8,), (16, 32)])
def test_int8_equals_float_of_the_dequantised(in_float: tuple[str, ...], without_faces: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    integers = {k: random.integers(-128, 128, v.shape).astype(np.int8) for k, v in outputs().items()}
    for stride in without_faces:
        integers[f"score_{stride}"][:] = -128
    params = {k: (0.03 + 0.01 * i, 3 * i - 9) for i, k in enumerate(integers)}
    floats = {
        k: (v.astype(np.float32) - np.float32(params[k][1])) * np.float32(params[k][0]) for k, v in integers.items()
    }
    anchors = make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes)
    a = decode_outputs(integers | {name: floats[name] for name in in_float}, anchors, SPEC, 0.6, params)
    b = decode_outputs(floats, anchors, SPEC, 0.6)
    assert 5 < len(a.anchors) < len(anchors)
    for field in ("boxes", "logits", "landmarks", "anchors"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_a_threshold_no_integer_reaches() -> None:
    integers = {k: np.full(v.shape, 127, np.int8) for k, v in outputs().items()}
    params = dict.fromkeys(integers, (0.01, 0))
    anchors = make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes)
    assert len(decode_outputs(integers, anchors, SPEC, 0.99, params).anchors) == 0
    assert len(decode_outputs(integers, anchors, SPEC, 0.7, params).anchors) == len(anchors)


def test_no_candidate_in_any_level() -> None:
    found = decode_outputs(outputs(-1.0), make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes), SPEC, 0.5)
    assert found.boxes.shape == (0, 4) and found.landmarks.shape == (0, 5, 2)
    assert found.logits.shape == found.anchors.shape == (0,)


def test_too_many_candidates_keep_the_best_with_ties_to_lower_anchors() -> None:
    tensors = outputs(1.0)
    tensors["score_32"][0, 0, 1, 0] = 2.0
    spec = ModelSpec(input_height=32, input_width=64, max_candidates=3)
    anchors = make_anchors(32, 64, spec.strides, spec.anchor_sizes)
    found = decode_outputs(tensors, anchors, spec, 0.5)
    assert found.anchors.tolist() == [0, 1, 2 * (32 + 8) + 2]


def test_values_that_are_not_finite_are_left_out() -> None:
    tensors = outputs(1.0)
    tensors["score_8"][0, 0, 0, 0] = np.nan
    tensors["box_8"][0, 0, 0, 4] = np.inf
    tensors["landmark_8"][0, 0, 1, 0] = np.nan
    anchors = make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes)
    assert decode_outputs(tensors, anchors, SPEC, 0.5).anchors.tolist() == list(range(3, len(anchors)))


@pytest.mark.parametrize("name", ["box_16", "landmark_16"])
def test_one_value_that_is_not_finite_is_enough(name: str) -> None:
    tensors = outputs(1.0)
    tensors[name][0, 0, 0, 0] = -np.inf
    anchors = make_anchors(32, 64, SPEC.strides, SPEC.anchor_sizes)
    assert 64 not in decode_outputs(tensors, anchors, SPEC, 0.5).anchors
    assert len(decode_outputs(tensors, anchors, SPEC, 0.5).anchors) == len(anchors) - 1
