"""Weights of one network as the start of another: one class logit for two, other anchors."""

from __future__ import annotations

import math

import numpy as np
import tf_keras as keras

from rf_keras.config import ModelConfig
from rf_keras.model import BOX_CODE, HEADS


def adapt_head(
    kernel: np.ndarray, bias: np.ndarray, head: str, level: int, old: ModelConfig, new: ModelConfig
) -> list[np.ndarray]:
    """The weights of one head for other anchors or for one class logit; the same weights where nothing differs.

    Each new anchor takes over the filters of the same level's old anchor that is nearest in size, with its codes
    rescaled so that it predicts the same box and points in pixels. Two class logits become one by their difference,
    which is the same score.

    Args:
        kernel: float32 [1, 1, C, A·k]; bias: float32 [A·k].
        head: "class", "box" or "landmark".
        level: index into the strides.
        old, new: configurations of the two networks, of equal strides and variances.

    Returns:
        [kernel, bias] of the new network.
    """
    weights = np.concatenate([kernel[0, 0], bias[None]])  # [C + 1, A·k]
    weights = weights.reshape(len(weights), old.anchors_per_cell, -1)  # [C + 1, A, k]
    if head == "class" and new.class_logits < old.class_logits:
        weights = weights[..., 1:] - weights[..., :1]
    adapted = []
    for size in new.anchor_sizes[level]:
        nearest = int(np.argmin([abs(math.log(size / other)) for other in old.anchor_sizes[level]]))
        ratio = old.anchor_sizes[level][nearest] / size
        part = weights[:, nearest].copy()  # [C + 1, k]
        if head == "landmark":
            part *= ratio
        elif head == "box":
            part[:, : BOX_CODE // 2] *= ratio
            part[-1, BOX_CODE // 2 :] += math.log(ratio) / new.variances[1]
        adapted.append(part)
    joined = np.concatenate(adapted, axis=1).astype(np.float32)
    return [joined[None, None, :-1], joined[-1]]


def copy_weights(source: keras.Model, old: ModelConfig, target: keras.Model, new: ModelConfig, name: str) -> None:
    """Set the target's weights from another model, its heads by `adapt_head`.

    Raises:
        ValueError: a layer has another shape or is missing, or two class logits are wanted of one; names the file.
    """
    if new.class_logits > old.class_logits:
        raise ValueError(
            f"{name}: class_logits is {old.class_logits}, expected {new.class_logits}: one logit cannot become two"
        )
    heads = {f"{head}_{stride}": (head, level) for head in HEADS for level, stride in enumerate(new.strides)}
    if new.blocks != old.blocks:
        raise ValueError(f"{name}: blocks is {old.blocks}, expected {new.blocks}")
    for layer in target.layers:
        wanted = [tuple(w.shape) for w in layer.weights]
        try:
            weights = source.get_layer(layer.name).get_weights()
        except ValueError:
            weights = []
        if layer.name in heads:
            weights = adapt_head(weights[0], weights[1], *heads[layer.name], old, new)
        found = [tuple(w.shape) for w in weights]
        if wanted != found:
            raise ValueError(f"{name}: layer {layer.name} has weights {found}, the network wants {wanted}")
        layer.set_weights(weights)
