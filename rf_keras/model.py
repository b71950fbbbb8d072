"""The network: backbone → FPN → SSH context modules → three 1×1 heads per level, as one flat Functional model."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from rf_keras.backbones import BACKBONES, Tensor, activate, conv_bn
from rf_keras.config import ModelConfig
from rf_keras.graph import call, rebuild

# Fusing BN into convs makes oneDNN fall back to a reference kernel for one image at a time: 1.4 s instead of 0.05
# at 640×640 (TensorFlow 2.21, AVX2). Larger batches and training run as fast without it.
tf.config.optimizer.set_experimental_options({"remapping": False})

layers = keras.layers

BOX_CODE = 4
LANDMARK_CODE = 10
HEADS = ("class", "box", "landmark")
MESH = "mesh"
# Of `_mesh`, by stride: the kernel's side on the backbone's features; channels there, and on the context's.
MESH_CONVS = {8: (1, 8, 8), 16: (3, 16, 32), 32: (3, 32, 32)}


def output_names(config: ModelConfig) -> list[str]:
    """Names of the model's outputs, in order: class, box, landmark, then mesh where there is one, each finest level
    first (`class_8` … )."""
    heads = (*HEADS, MESH) if config.mesh else HEADS
    return [f"{head}_{stride}" for head in heads for stride in config.strides]


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


def _mesh(context: Tensor, feature: Tensor, stride: int, config: ModelConfig) -> Tensor:
    """The mesh branch of one level: a 1×1 conv on its context features beside a conv on the backbone's, each with ReLU;
    then 1×1.

    The context knows where a face is and its points; how a head is turned up or down is in the backbone alone. At
    stride 8, where most of the cells and the smallest faces are, all convs are 1×1.
    """
    side, of_backbone, of_context = MESH_CONVS[stride]

    def conv(x: Tensor, channels: int, kernel: int, name: str) -> Tensor:
        x = layers.Conv2D(channels, kernel, padding="same", kernel_initializer="he_normal", name=f"{name}_conv")(x)
        return activate(x, "relu", name)

    name = f"{MESH}_{stride}"
    parts = [conv(context, of_context, 1, f"{name}_context"), conv(feature, of_backbone, side, f"{name}_backbone")]
    x = layers.Concatenate(name=f"{name}_concat")(parts)
    return layers.Conv2D(config.anchors_per_cell * config.mesh, 1, name=name)(x)


def build_model(config: ModelConfig, height: int | None = None, width: int | None = None) -> keras.Model:
    """The detector.

    Args:
        config: the network.
        height, width: input size in pixels, multiples of 32; None leaves it open.

    Returns:
        A Functional model. Input float32 [B, H, W, 3], BGR − mean. Outputs: nine float32 maps [B, H/s, W/s, A·k] in the
        order of `output_names`, A anchors per cell, channel = anchor · k + component; k = `class_logits` (raw logits:
        background, face; or face − background), 4 (box deltas), 10 (landmark deltas). With `config.mesh` three more, of
        so many mesh coefficients.

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
    features = BACKBONES[config.backbone](image, config)
    pyramid = _fpn(features, config)
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
    if config.mesh:
        levels = zip(contexts, features, config.strides, strict=True)
        outputs += [_mesh(context, feature, stride, config) for context, feature, stride in levels]
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
    """The nine maps as per-anchor tensors, in the order of the anchors; maps beyond the nine are left out.

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
    return logits, flat(outputs[levels : 2 * levels], BOX_CODE), flat(outputs[2 * levels : 3 * levels], LANDMARK_CODE)
