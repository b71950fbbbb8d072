"""Weights of one network as the start of another that differs in its heads: one class logit for two, other anchors."""

from __future__ import annotations

import math

import numpy as np
import tf_keras as keras

from rf_keras.config import ModelConfig
from rf_keras.model import BOX_CODE, HEADS


def adapt_head(
    kernel: np.ndarray, bias: np.ndarray, head: str, level: int, old: ModelConfig, new: ModelConfig
) -> list[np.ndarray]:
    """The weights of one head for other anchors or another number of class logits.

    Each new anchor takes over the filters of the same level's old anchor that is nearest in size, with its codes
    rescaled so that it predicts the same box and points in pixels. Two class logits become one by their difference,
    which is the same score.

    Args:
        kernel: float32 [1, 1, C, A·k]; bias: float32 [A·k].
        head: "class", "box" or "landmark".
        level: index into the strides.
        old, new: configurations of the two networks.

    Returns:
        [kernel, bias] of the new network.

    Raises:
        ValueError: one class logit cannot become two.
    """
    if new.class_logits > old.class_logits:
        raise ValueError(f"class_logits is {new.class_logits}, the weights to start from have {old.class_logits}")
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
            part *= ratio * old.variances[0] / new.variances[0]
        elif head == "box":
            part[:, : BOX_CODE // 2] *= ratio * old.variances[0] / new.variances[0]
            part[:, BOX_CODE // 2 :] *= old.variances[1] / new.variances[1]
            part[-1, BOX_CODE // 2 :] += math.log(ratio) / new.variances[1]
        adapted.append(part)
    joined = np.concatenate(adapted, axis=1).astype(np.float32)
    return [joined[None, None, :-1], joined[-1]]


def copy_weights(source: keras.Model, old: ModelConfig, target: keras.Model, new: ModelConfig, name: str) -> None:
    """Set the target's weights from another model; heads are adapted where anchors or class logits differ.

    Raises:
        ValueError: a layer has another shape; names file and layer.
    """
    heads = {f"{head}_{stride}": (head, level) for head in HEADS for level, stride in enumerate(new.strides)}
    other_heads = (old.anchor_sizes, old.class_logits, old.variances) != (
        new.anchor_sizes,
        new.class_logits,
        new.variances,
    )
    for layer in target.layers:
        try:
            weights = source.get_layer(layer.name).get_weights()
        except ValueError:
            weights = []
        if layer.name in heads and other_heads and len(weights) == 2 and old.strides == new.strides:
            try:
                weights = adapt_head(weights[0], weights[1], *heads[layer.name], old, new)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        wanted = [tuple(w.shape) for w in layer.weights]
        found = [tuple(w.shape) for w in weights]
        if wanted != found:
            raise ValueError(f"{name}: layer {layer.name} has weights {found}, the network wants {wanted}")
        layer.set_weights(weights)
