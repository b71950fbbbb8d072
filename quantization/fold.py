"""The network as int8 export wants it: batch norm folded into the convs, one score logit per anchor, the same
function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.backbones import Tensor
from rf_keras.config import ModelConfig

layers = keras.layers
CONVS = (layers.Conv2D, layers.DepthwiseConv2D)


def parents(layer: keras.layers.Layer) -> list[str]:
    """Names of the layers that feed `layer`."""
    return [tensor._keras_history.layer.name for tensor in tf.nest.flatten(layer.input)]


def consumers(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Layers that read each layer's output, by the name of the layer they read."""
    readers: dict[str, list[keras.layers.Layer]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            for name in parents(layer):
                readers[name].append(layer)
    return readers


def rebuild(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer, list[Tensor]], Tensor],
    height: int | None = None,
    width: int | None = None,
) -> keras.Model:
    """A new Functional model with the topology of `model`.

    Args:
        model: Functional, every layer called once.
        replace: makes the output of one layer from its new inputs (called in topological order, the input layer too).
        height, width: input size in pixels; None leaves it open.

    Returns:
        The new model; outputs in the order of `model`.
    """
    image = keras.Input((height, width, 3), name="image")
    outputs: dict[str, Tensor] = {}
    for layer in model.layers:
        sources = [image] if isinstance(layer, layers.InputLayer) else [outputs[name] for name in parents(layer)]
        outputs[layer.name] = replace(layer, sources)
    return keras.Model(image, [outputs[name] for name in model.output_names], name=model.name)


def copy_layer(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
    """The same layer with the same weights on new inputs."""
    if isinstance(layer, layers.InputLayer):
        return sources[0]
    clone = type(layer).from_config(layer.get_config())
    output = clone(sources[0] if len(sources) == 1 else sources)
    clone.set_weights(layer.get_weights())
    return output


def resize_input(model: keras.Model, height: int | None, width: int | None) -> keras.Model:
    """A copy of `model` with another input size (same weights, own variables)."""
    return rebuild(model, copy_layer, height, width)


def _scaled(conv: keras.layers.Layer, kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`kernel` with every output channel multiplied by its `factor`."""
    if isinstance(conv, layers.DepthwiseConv2D):
        return kernel * factor.reshape(1, 1, -1, 1)
    return kernel * factor


def fold(
    model: keras.Model, config: ModelConfig, height: int | None = None, width: int | None = None
) -> tuple[keras.Model, ModelConfig]:
    """Fold batch norm into the convs and (face − background) into the class heads.

    Args:
        model: built by `build_model(config)`, or already folded.
        config: its configuration.
        height, width: input size in pixels of the new model; None leaves it open.

    Returns:
        A model of the same layer names without BatchNormalization, all convs with bias, `class_*` heads with one logit
        per anchor (face − background); and `config` with `class_logits` 1.

    Raises:
        ValueError: a BatchNormalization layer that does not directly follow a conv of its own.
    """
    readers = consumers(model)
    by_name = {layer.name: layer for layer in model.layers}

    def norm_after(conv: keras.layers.Layer) -> keras.layers.Layer | None:
        following = readers[conv.name]
        return following[0] if len(following) == 1 and isinstance(following[0], layers.BatchNormalization) else None

    def replace(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
        if isinstance(layer, layers.BatchNormalization):
            before = by_name[parents(layer)[0]]
            if not isinstance(before, CONVS) or norm_after(before) is not layer:
                raise ValueError(f"layer {layer.name}: batch norm after {before.name} cannot be folded into a conv")
            return sources[0]
        if not isinstance(layer, CONVS):
            return copy_layer(layer, sources)
        weights = layer.get_weights()
        kernel = weights[0].astype(np.float64)
        channels = layer.output.shape[-1]
        bias = weights[1].astype(np.float64) if layer.use_bias else np.zeros(channels)
        settings: dict[str, Any] = {**layer.get_config(), "use_bias": True}
        norm = norm_after(layer)
        if norm is not None:
            gamma, beta, mean, variance = (value.astype(np.float64) for value in norm.get_weights())
            factor = gamma / np.sqrt(variance + norm.epsilon)
            kernel, bias = _scaled(layer, kernel, factor), beta + (bias - mean) * factor
        if layer.name.startswith("class_") and config.class_logits == 2:
            kernel, bias = kernel[..., 1::2] - kernel[..., 0::2], bias[1::2] - bias[0::2]
            settings["filters"] //= 2
        conv = type(layer).from_config(settings)
        output = conv(sources[0])
        conv.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
        return output

    return rebuild(model, replace, height, width), dataclasses.replace(config, class_logits=1)


def signature_names(config: ModelConfig) -> list[str]:
    """Names of the nine outputs in a .tflite, in the model's order: score_8 … landmark_32."""
    return [f"{head}_{stride}" for head in ("score", "box", "landmark") for stride in config.strides]
