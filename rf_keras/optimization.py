"""Learning-rate schedule, optimiser, weight decay, gradient clipping and averaged weights (EMA)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from rf_keras.config import TrainConfig

FINAL_SHARE = 0.01  # where the cosine ends, as a share of the peak


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then cosine or ÷10 at each milestone."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "step":
        return config.learning_rate * 0.1 ** sum(step >= round(m * total) for m in config.milestones)
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * min(progress, 1))) / 2)


def make_optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    """SGD with momentum or Adam; weight decay is applied by `decay_gradients` or `decay_weights`."""
    if config.optimizer == "adamw":
        return keras.optimizers.Adam(config.learning_rate, jit_compile=False)
    return keras.optimizers.SGD(config.learning_rate, momentum=config.momentum, jit_compile=False)


def is_kernel(variable: tf.Variable) -> bool:
    """Convolution kernels, the only variables that decay; BN scales and biases do not."""
    return variable.shape.rank == 4


def decay_gradients(
    gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable], weight_decay: float
) -> list[tf.Tensor]:
    """L2 as PyTorch's SGD has it: gradient + weight_decay · weight, before momentum."""
    return [g + weight_decay * v if is_kernel(v) else g for g, v in zip(gradients, variables, strict=True)]


def decay_weights(variables: Sequence[tf.Variable], amount: tf.Tensor) -> None:
    """Decoupled decay (Loshchilov & Hutter 2019): weight −= learning rate · weight_decay · weight."""
    for variable in variables:
        if is_kernel(variable):
            variable.assign_sub(amount * variable)


def update_average(
    average: Sequence[tf.Variable], weights: Sequence[tf.Variable], decay: float, step: tf.Tensor | None
) -> None:
    """EMA of the weights, BN statistics included.

    Args:
        average: the means so far, changed.
        weights: of the network, after the step.
        decay: of the means, per step.
        step: of the run, from 1: the decay grows with it, to forget random weights soon. None: the start is worth
            keeping, so the decay is what it is from the first step on.
    """
    share: Any = 1 - decay
    if step is not None:
        step = tf.cast(step, tf.float32)
        share = 1 - tf.minimum(decay, (1 + step) / (10 + step))
    for mean, weight in zip(average, weights, strict=True):
        mean.assign(mean + share * (tf.cast(weight, tf.float32) - mean))
