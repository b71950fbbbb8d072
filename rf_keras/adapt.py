"""Weights of one network as the start of another: one class logit for two, other anchors, more residual blocks."""

from __future__ import annotations

import math

import numpy as np
import tf_keras as keras

from rf_keras.backbones import FIRST_RESIDUAL_STAGE, residual_block
from rf_keras.config import ModelConfig
from rf_keras.model import BOX_CODE, HEADS

# Of an added block's last BN: almost the identity. At 0 no gradient would pass the ReLU behind it.
ADDED_GAMMA = 0.1


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

    A residual block that the source lacks keeps its initial weights and adds little to what passes it (`ADDED_GAMMA`).

    Raises:
        ValueError: a layer has another shape, two class logits are wanted of one, or fewer residual blocks than the
            source has, whose learning would be lost; names the file.
    """
    if new.class_logits > old.class_logits:
        raise ValueError(
            f"{name}: class_logits is {old.class_logits}, expected {new.class_logits}: one logit cannot become two"
        )
    heads = {f"{head}_{stride}": (head, level) for head in HEADS for level, stride in enumerate(new.strides)}
    added = added_blocks(old, new, name)
    for layer in target.layers:
        if layer.name.startswith(added):
            if layer.name.endswith("_expand_bn"):
                layer.gamma.assign(layer.gamma * ADDED_GAMMA)
            continue
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


def added_blocks(old: ModelConfig, new: ModelConfig, name: str) -> tuple[str, ...]:
    """Prefixes of the layers of the new network's residual blocks that come behind the old network's last ones.

    Raises:
        ValueError: the new network has fewer; names the old one's file.
    """
    if new.backbone != "plain" or old.backbone != "plain":
        return ()
    if any(after < before for before, after in zip(old.blocks, new.blocks, strict=True)):
        raise ValueError(f"{name}: blocks is {old.blocks}, expected at most {new.blocks}: blocks are only added")
    return tuple(
        f"{residual_block(stage, number)}_"
        for stage, (before, after) in enumerate(zip(old.blocks, new.blocks, strict=True), FIRST_RESIDUAL_STAGE)
        for number in range(before, after)
    )
