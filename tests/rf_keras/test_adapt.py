"""Weights for other heads: the same faces at the same places."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tf_keras as keras

from rf_keras.adapt import copy_weights
from rf_keras.config import ModelConfig
from rf_keras.model import build_model, flatten_outputs
from tflite.decode import decode_boxes, decode_landmarks

OLD = ModelConfig(neck_channels=8, ssh_channels=8)
# Three anchors for two; from OLD's 16/32, 64/128, 256/512 these are the nearest ones, by ratio:
NEW = dataclasses.replace(
    OLD,
    activation="relu",
    class_logits=1,
    anchor_sizes=((10.0, 23.0, 40.0), (128.0, 64.0, 200.0), (100.0, 300.0, 370.0)),
)
NEAREST = ((0, 1, 1), (1, 0, 1), (0, 0, 1))
SIDE = 64


def heads_of(model: keras.Model, config: ModelConfig, features: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Score, boxes and landmarks in pixels from what the heads' layers see."""
    maps = [model.get_layer(name)(features[name.split("_")[1]]) for name in model.output_names]
    logits, deltas, landmarks = flatten_outputs(maps, config)
    anchors = config.anchors(SIDE, SIDE)
    score = (logits[..., 1] - logits[..., 0])[0].numpy()
    boxes = decode_boxes(deltas[0].numpy(), anchors, config.variances)
    return score, boxes, decode_landmarks(landmarks[0].numpy(), anchors, config.variances)


def test_each_new_anchor_predicts_what_the_nearest_old_one_did() -> None:
    keras.utils.set_random_seed(3)
    old, new = build_model(OLD), build_model(NEW)
    random = np.random.default_rng(0)
    for layer in old.layers:
        if layer.name in old.output_names:
            layer.set_weights([random.normal(0, 0.2, w.shape) for w in layer.get_weights()])
    copy_weights(old, OLD, new, NEW, "old.keras")

    features = {
        str(stride): random.normal(size=(1, SIDE // stride, SIDE // stride, 8)).astype(np.float32)
        for stride in OLD.strides
    }
    expected, found = heads_of(old, OLD, features), heads_of(new, NEW, features)
    rows, base = [], 0
    for stride, nearest in zip(OLD.strides, NEAREST, strict=True):
        cells = (SIDE // stride) ** 2
        rows += [base + 2 * cell + anchor for cell in range(cells) for anchor in nearest]
        base += 2 * cells
    for wanted, got in zip(expected, found, strict=True):
        np.testing.assert_allclose(got, wanted[rows], rtol=2e-4, atol=2e-3)
    assert np.ptp(expected[0]) > 1


def test_the_same_heads_are_copied_as_they_are() -> None:
    old, new = build_model(OLD), build_model(dataclasses.replace(OLD, activation="relu"))
    copy_weights(old, OLD, new, dataclasses.replace(OLD, activation="relu"), "old.keras")
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_class_logit_cannot_become_two() -> None:
    one = dataclasses.replace(OLD, class_logits=1)
    with pytest.raises(ValueError, match=r"old.keras: class_logits is 1, expected 2"):
        copy_weights(build_model(one), one, build_model(OLD), OLD, "old.keras")


def test_another_width_is_refused_with_the_layer() -> None:
    wide = dataclasses.replace(OLD, width=0.5)
    with pytest.raises(ValueError, match=r"old.keras: layer stem_conv has weights .* the network wants"):
        copy_weights(build_model(OLD), OLD, build_model(wide), wide, "old.keras")


PLAIN = dataclasses.replace(OLD, backbone="fast", width=1.0, activation="relu", blocks=(1, 1))


@pytest.mark.parametrize("blocks", [(1, 0), (2, 1)])
def test_other_blocks_are_refused(blocks: tuple[int, int]) -> None:
    other = dataclasses.replace(PLAIN, blocks=blocks)
    with pytest.raises(ValueError, match=r"old.keras: blocks is \(1, 1\), expected \("):
        copy_weights(build_model(PLAIN), PLAIN, build_model(other), other, "old.keras")


def test_another_backbone_is_refused_with_the_layer() -> None:
    plain = dataclasses.replace(PLAIN, blocks=ModelConfig.blocks)
    other = dataclasses.replace(plain, backbone="mobilenet", width=0.25)
    with pytest.raises(ValueError, match=r"old.keras: layer stem_conv has weights"):
        copy_weights(build_model(other), other, build_model(plain), plain, "old.keras")
