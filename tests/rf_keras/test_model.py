"""The network: sizes, shapes, channel order, and what TFMOT and imported weights rely on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from rf_keras.config import PRESETS, ModelConfig
from rf_keras.model import build_model, face_logit, flatten_outputs, output_names


def test_reference_network_has_the_reference_weights() -> None:
    model = build_model(ModelConfig())
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 426_608
    names = [layer.name for layer in model.layers]
    assert [name for name in names if name.split("_")[0] in ("class", "box", "landmark")] and len(model.outputs) == 9
    assert model.output_names == output_names(ModelConfig())


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_output_maps(preset: str) -> None:
    config = PRESETS[preset].model
    model = build_model(config, 64, 96)
    k = {"class": config.class_logits, "box": 4, "landmark": 10}
    for name, output in zip(output_names(config), model.outputs, strict=True):
        head, stride = name.split("_")
        assert tuple(output.shape) == (None, 64 // int(stride), 96 // int(stride), 2 * k[head])


def test_plain_layers_only() -> None:
    """TFMOT's quantize_model takes nothing but these, and BN must sit between a bias-free conv and its activation."""
    allowed = {
        "InputLayer",
        "Conv2D",
        "DepthwiseConv2D",
        "BatchNormalization",
        "LeakyReLU",
        "ReLU",
        "ZeroPadding2D",
        "UpSampling2D",
        "Add",
        "Concatenate",
    }
    for config in (ModelConfig(), PRESETS["fast"].model):
        model = build_model(config)
        assert {type(layer).__name__ for layer in model.layers} <= allowed
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                assert layer.epsilon == 1e-5 and layer.momentum == 0.9
                conv = layer.inbound_nodes[0].inbound_layers
                assert conv.use_bias is False


def test_flatten_keeps_the_order_of_the_anchors() -> None:
    config = ModelConfig()
    outputs = []
    for name in output_names(config):
        head, stride = name.split("_")
        code = {"class": 2, "box": 4, "landmark": 10}[head]
        side = 64 // int(stride)
        rows, columns, anchor, component = np.meshgrid(
            np.arange(side), np.arange(side), np.arange(2), np.arange(code), indexing="ij"
        )
        value = int(stride) * 1e4 + rows * 1e3 + columns * 1e2 + anchor * 10 + component
        outputs.append(tf.constant(value.reshape(1, side, side, 2 * code), tf.float32))
    logits, deltas, points = flatten_outputs(outputs, config)
    anchors = config.anchors(64, 64)
    assert logits.shape == (1, len(anchors), 2) and deltas.shape == (1, len(anchors), 4)
    assert points.shape == (1, len(anchors), 10)
    for index in (0, 1, 2, 17, 128, 129, 160, 167):
        x, y, size = anchors[index]
        stride = 8 if size <= 32 else 16 if size <= 128 else 32
        want = stride * 1e4 + (y // stride) * 1e3 + (x // stride) * 1e2 + (size in (32, 128, 512)) * 10
        np.testing.assert_array_equal(deltas[0, index], want + np.arange(4))


def test_one_logit_heads_equal_two() -> None:
    one = ModelConfig(class_logits=1)
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(1, 64 // s, 64 // s, 2 * k)).astype(np.float32) for k in (1, 4, 10) for s in (8, 16, 32)]
    logits, _, _ = flatten_outputs([tf.constant(m) for m in maps], one)
    np.testing.assert_array_equal(logits[..., 0], 0)
    np.testing.assert_array_equal(face_logit(maps[0], one), maps[0])
    two = np.stack([np.zeros_like(maps[0]), maps[0]], axis=-1).reshape(1, 8, 8, 4)
    np.testing.assert_array_equal(face_logit(tf.constant(two), ModelConfig()), maps[0])


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"activation": "gelu"}, "gelu"),
        ({"class_logits": 3}, "3"),
        ({"ssh_channels": 30}, "30"),
        ({"blocks": (2, -1)}, r"\(2, -1\), expected two counts"),
        ({"blocks": (3, 3)}, "only the backbone of fast has them, found mobilenet"),
        ({"blocks": (2,)}, r"\(2,\), expected two counts"),
        ({"anchor_sizes": ((16.0,), (32.0, 64.0), (128.0, 256.0))}, "anchor_sizes"),
    ],
)
def test_wrong_settings_name_the_value(config: dict, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        ModelConfig(**config)


def test_input_size_must_fit_the_strides() -> None:
    with pytest.raises(ValueError, match="100 × 64"):
        build_model(ModelConfig(), 100, 64)
    with pytest.raises(ValueError, match="vgg"):
        build_model(ModelConfig(backbone="vgg"))


def test_strided_convs_pad_every_side() -> None:
    """A shift by one stride of the input shifts every feature map by one cell: the grid has no half-pixel bias."""
    model = build_model(ModelConfig(), 128, 128)
    pads = [layer for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert pads and all(layer.padding == ((1, 1), (1, 1)) for layer in pads)
    strided = [layer for layer in model.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    assert strided and all(layer.padding == "valid" for layer in strided)
