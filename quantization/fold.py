"""The network as int8 export wants it: batch norm folded into the convs, one score logit per anchor, the same
function."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tf_keras as keras

from quantization.graph import CONVS, FoldedNetwork, consumers, copy_layer
from rf_keras.backbones import Tensor
from rf_keras.config import ModelConfig
from rf_keras.graph import parents, rebuild

layers = keras.layers


def _scaled(conv: keras.layers.Layer, kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`kernel` with every output channel multiplied by its `factor`."""
    if isinstance(conv, layers.DepthwiseConv2D):
        return kernel * factor.reshape(1, 1, -1, 1)
    return kernel * factor


def fold(model: keras.Model, config: ModelConfig, height: int | None = None, width: int | None = None) -> FoldedNetwork:
    """Fold batch norm into the convs and (face − background) into the class heads.

    Args:
        model: built by `build_model(config)`, or already folded.
        config: its configuration.
        height, width: input size in pixels of the new model; None leaves it open.

    Returns:
        A network of the same layer names without BatchNormalization, all convs with bias, `class_*` heads with one
        logit per anchor (face − background), and `class_logits` 1 in its configuration.

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

    folded = rebuild(model, replace, height, width)
    return FoldedNetwork.of(folded, dataclasses.replace(config, class_logits=1))
