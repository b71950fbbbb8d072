"""The network: backbone → FPN → SSH context modules → three 1×1 heads per level, as one flat Functional model."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from rf_keras.backbones import BACKBONES, Tensor, conv_bn
from rf_keras.config import ModelConfig
from rf_keras.graph import call, rebuild

# Fusing BN into convs makes oneDNN fall back to a reference kernel for one image at a time: 1.4 s instead of 0.05
# at 640×640 (TensorFlow 2.21, AVX2). Larger batches and training run as fast without it.
tf.config.optimizer.set_experimental_options({"remapping": False})

layers = keras.layers

BOX_CODE = 4
LANDMARK_CODE = 10
HEADS = ("class", "box", "landmark")


def output_names(config: ModelConfig) -> list[str]:
    """Names of the model's outputs, in order: class, box, landmark, each finest level first (`class_8` … )."""
    return [f"{head}_{stride}" for head in HEADS for stride in config.strides]


def _fpn(features: Sequence[Tensor], config: ModelConfig) -> list[Tensor]:
    """Lateral 1×1, top-down nearest 2× upsampling and addition, 3×3 merge; the coarsest level has no merge."""
    channels, activation = config.neck_channels, config.activation
    lateral = [
        conv_bn(feature, channels, f"fpn_lateral_{stride}", kernel=1, activation=activation)
        for feature, stride in zip(features, config.strides, strict=True)
    ]
    pyramid = [lateral[-1]]
    for stride, finer in reversed(list(zip(config.strides[:-1], lateral[:-1], strict=True))):
        up = layers.UpSampling2D(2, interpolation="nearest", name=f"fpn_up_{stride}")(pyramid[0])
        merged = layers.Add(name=f"fpn_add_{stride}")([finer, up])
        pyramid.insert(0, conv_bn(merged, channels, f"fpn_merge_{stride}", activation=activation))
    return pyramid


def _ssh(x: Tensor, stride: int, config: ModelConfig) -> Tensor:
    """SSH context module (Najibi et al. 2017): receptive fields 3, 5, 7 in ½, ¼, ¼ of the channels.

    Each branch has its ReLU before the concat: the same function as one after it, and it fuses into the convs.
    """
    half, quarter = config.ssh_channels // 2, config.ssh_channels // 4
    name = f"ssh_{stride}"
    context = conv_bn(x, quarter, f"{name}_5_1", activation=config.activation)
    deep = conv_bn(context, quarter, f"{name}_7_2", activation=config.activation)
    branches = [
        conv_bn(x, half, f"{name}_3", activation="relu"),
        conv_bn(context, quarter, f"{name}_5_2", activation="relu"),
        conv_bn(deep, quarter, f"{name}_7_3", activation="relu"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def build_model(config: ModelConfig, height: int | None = None, width: int | None = None) -> keras.Model:
    """The detector.

    Args:
        config: the network.
        height, width: input size in pixels, multiples of 32; None leaves it open.

    Returns:
        A Functional model. Input float32 [B, H, W, 3], BGR − mean. Outputs: nine float32 maps [B, H/s, W/s, A·k] in the
        order of `output_names`, A anchors per cell, channel = anchor · k + component; k = `class_logits` (raw logits:
        background, face; or face − background), 4 (box deltas), 10 (landmark deltas).

    Raises:
        ValueError: unknown backbone, or a size that is no multiple of the coarsest stride.
    """
    if config.backbone not in BACKBONES:
        raise ValueError(f"backbone is {config.backbone!r}, expected one of {sorted(BACKBONES)}")
    coarsest = config.strides[-1]
    for side in (height, width):
        if side is not None and (side <= 0 or side % coarsest):
            raise ValueError(f"input size {height} × {width}: each side must be a multiple of {coarsest}")

    image = keras.Input((height, width, 3), name="image")
    pyramid = _fpn(BACKBONES[config.backbone](image, config), config)
    contexts = [_ssh(x, stride, config) for x, stride in zip(pyramid, config.strides, strict=True)]
    codes = {"class": config.class_logits, "box": BOX_CODE, "landmark": LANDMARK_CODE}
    outputs = [
        layers.Conv2D(
            config.anchors_per_cell * codes[head],
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name=f"{head}_{stride}",
        )(x)
        for head in HEADS
        for stride, x in zip(config.strides, contexts, strict=True)
    ]
    return keras.Model(image, outputs, name="retinaface")


def folded_model(config: ModelConfig, model: keras.Model | None = None) -> keras.Model:
    """The detector without BatchNormalization, all convs with bias: what `quantization.fold` leaves, weights aside.

    Args:
        config: the network.
        model: built by `build_model(config)`, where there is one already; it stays as it is.

    Returns:
        A model of the same layer names, inputs and outputs; weights are arbitrary.
    """

    def without_norm(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
        if isinstance(layer, (layers.InputLayer, layers.BatchNormalization)):
            return sources[0]
        settings = layer.get_config()
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            settings["use_bias"] = True
        return call(type(layer).from_config(settings), sources)

    return rebuild(model or build_model(config), without_norm)


def face_logit(class_map: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """One logit per anchor, face − background: [..., A·class_logits] → [..., A]."""
    if config.class_logits == 1:
        return class_map
    return class_map[..., 1::2] - class_map[..., 0::2]


def flatten_outputs(outputs: Sequence[tf.Tensor], config: ModelConfig) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The nine maps as per-anchor tensors, in the order of the anchors.

    Returns:
        logits [B, A, 2] (background, face; a one-logit head s becomes 0, s), deltas [B, A, 4], landmarks [B, A, 10],
        all float32.
    """
    levels = len(config.strides)

    def flat(maps: Sequence[tf.Tensor], code: int) -> tf.Tensor:
        batch = tf.shape(maps[0])[0]
        return tf.concat([tf.reshape(tf.cast(m, tf.float32), [batch, -1, code]) for m in maps], axis=1)

    logits = flat(outputs[:levels], config.class_logits)
    if config.class_logits == 1:
        logits = tf.concat([tf.zeros_like(logits), logits], axis=-1)
    return logits, flat(outputs[levels : 2 * levels], BOX_CODE), flat(outputs[2 * levels :], LANDMARK_CODE)
