"""Backbones: image → C3, C4, C5 feature maps at strides 8, 16, 32. Plain layers only: TFMOT takes nothing else."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from rf_keras.config import ModelConfig

layers = keras.layers
Tensor = Any  # a symbolic Keras tensor

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9
LEAKY_SLOPE = 0.1


def activate(x: Tensor, activation: str, name: str) -> Tensor:
    """The network's activation, as a layer of its own so that quantizers see Conv → BN → activation."""
    if activation == "leaky_relu":
        return layers.LeakyReLU(LEAKY_SLOPE, name=f"{name}_act")(x)
    return layers.ReLU(name=f"{name}_act")(x)


def batch_norm(name: str) -> keras.layers.Layer:
    """BN with the reference's constants."""
    return layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=BN_EPSILON, name=f"{name}_bn")


def conv_bn(
    x: Tensor,
    filters: int,
    name: str,
    *,
    kernel: int = 3,
    stride: int = 1,
    activation: str | None,
    depthwise: bool = False,
) -> Tensor:
    """Conv (no bias) → BN → activation.

    Strided convs pad one pixel on every side and run `valid`: Keras `same` pads only bottom and right, which shifts the
    features of weights trained elsewhere by one pixel per stride.
    """
    padding = "same"
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
        padding = "valid"
    if depthwise:
        conv = layers.DepthwiseConv2D(
            kernel, stride, padding, use_bias=False, depthwise_initializer="he_normal", name=f"{name}_conv"
        )
    else:
        conv = layers.Conv2D(
            filters, kernel, stride, padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )
    x = batch_norm(name)(conv(x))
    return x if activation is None else activate(x, activation, name)


def mobilenet(image: Tensor, config: ModelConfig) -> list[Tensor]:
    """MobileNetV1 (Howard et al. 2017) as Pytorch_Retinaface cuts it: C3, C4, C5 of 256, 512, 1024 × width channels."""

    def separable(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
        x = conv_bn(x, 0, f"{name}_dw", stride=stride, activation=config.activation, depthwise=True)
        return conv_bn(x, round(filters * config.width), f"{name}_pw", kernel=1, activation=config.activation)

    x = conv_bn(image, round(32 * config.width), "stem", stride=2, activation=config.activation)
    stages = (
        ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
        ((512, 2), *((512, 1),) * 5),
        ((1024, 2), (1024, 1)),
    )
    features = []
    for stage, blocks in enumerate(stages, 1):
        for block, (filters, stride) in enumerate(blocks, 1):
            x = separable(x, filters, stride, f"stage{stage}_{block}")
        features.append(x)
    return features


def fast(image: Tensor, config: ModelConfig) -> list[Tensor]:
    """Plain 3×3 convs down to stride 8, then residual 1×1-3×3 blocks.

    On CPUs the int8 kernels run plain convs many times faster per operation than depthwise ones, so that full
    convolutions with several times the weights cost less time than MobileNet's first stages.
    """

    def conv(x: Tensor, filters: float, stride: int, name: str, kernel: int = 3) -> Tensor:
        filters = 8 * round(filters * config.width / 8)  # int8 kernels work on multiples of 8 channels
        return conv_bn(x, filters, name, kernel=kernel, stride=stride, activation=config.activation)

    def block(x: Tensor, squeeze: float, filters: float, name: str) -> Tensor:
        y = conv(conv(x, squeeze, 1, f"{name}_squeeze", kernel=1), filters, 1, f"{name}_expand")
        return layers.Add(name=f"{name}_add")([x, y])

    x = conv(image, 16, 2, "stem")
    x = conv(x, 32, 2, "stage1_1")
    x = conv(x, 56, 2, "stage1_2")
    c3 = conv(x, 56, 1, "stage1_3")
    x = conv(c3, 96, 2, "stage2_1")
    for number in range(config.blocks[0]):
        x = block(x, 48, 96, f"stage2_{number + 2}")
    c4 = x
    x = conv(c4, 128, 2, "stage3_1")
    for number in range(config.blocks[1]):
        x = block(x, 64, 128, f"stage3_{number + 2}")
    return [c3, c4, x]


def resnet50(image: Tensor, config: ModelConfig) -> list[Tensor]:
    """ResNet-50 (He et al. 2015), stride in the 3×3 conv as torchvision's: C3, C4, C5 of 512, 1024, 2048 channels."""

    def bottleneck(x: Tensor, filters: int, stride: int, project: bool, name: str) -> Tensor:
        shortcut = x
        if project:
            shortcut = conv_bn(x, 4 * filters, f"{name}_shortcut", kernel=1, stride=stride, activation=None)
        y = conv_bn(x, filters, f"{name}_a", kernel=1, activation="relu")
        y = conv_bn(y, filters, f"{name}_b", stride=stride, activation="relu")
        y = conv_bn(y, 4 * filters, f"{name}_c", kernel=1, activation=None)
        return activate(layers.Add(name=f"{name}_add")([shortcut, y]), "relu", name)

    x = conv_bn(image, 64, "stem", kernel=7, stride=2, activation="relu")
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # zeros are neutral: the input is a ReLU's output
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    features = []
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 1 else 1
            x = bottleneck(x, filters, stride, block == 1, f"stage{stage}_{block}")
        features.append(x)
    return features[1:]


BACKBONES = {"mobilenet": mobilenet, "fast": fast, "resnet50": resnet50}
