"""One training step, for one replica or many: forward, matching, mining, loss, backward, update, average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from rf_keras.config import TrainConfig
from rf_keras.distillation.losses import hold_landmarks, taught_sums
from rf_keras.losses import LossSums, multibox_sums, normalize
from rf_keras.matching import match
from rf_keras.model import flatten_outputs
from rf_keras.optimization import decay_gradients, decay_weights, update_average
from tflite.spec import ModelSpec

Batch = dict[str, tf.Tensor]
Flat = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # of `model.flatten_outputs`


def make_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    average: list[tf.Variable],
    step: tf.Variable,
    config: TrainConfig,
    strategy: tf.distribute.Strategy,
    size: int,
    element_spec: Any,
    start: keras.Model | None = None,
) -> Callable[[Batch], dict[str, tf.Tensor]]:
    """The compiled step.

    Args:
        model: built by `build_model`.
        optimizer: its `learning_rate` is set by the caller before each step.
        average: EMA of `model.weights`, same order; empty: none.
        step: counted up by each call.
        config: of the run.
        strategy: the replicas; positives are counted and losses divided over the global batch, gradients summed.
        size: side of the batch's images, pixels: one of `config.sizes`.
        element_spec: of the data set of batches, or of its iterator. Without it every new number of faces would be
            traced again, and tracing takes longest where there are many replicas.
        start: of the same network, the weights that a training by labels goes out from; its points are the targets of
            faces whose labels have none. None: such faces train box and score alone.

    Returns:
        A function of a batch (`pipeline.make_batches`) that gives float32 scalars `loss`, `box`, `classes`, `landmark`,
        `positives` (all of the global batch) and `gradient_norm`.
    """
    anchors = tf.constant(config.model.anchors(size, size))
    mean = tf.constant(ModelSpec.mean, tf.float32)
    variables = model.trainable_variables

    def loss_sums(outputs: list[tf.Tensor], batch: Batch, answers: Flat | None) -> LossSums:
        predictions = flatten_outputs(outputs, config.model)
        if config.distillation is not None:
            large = config.closeups > 0
            return taught_sums(predictions, batch, config.distillation, config.model, size, large_faces=large)
        matched = match(batch["boxes"], batch["count"], config.model, size, size)
        faces = batch["boxes"], batch["landmarks"]
        sums = multibox_sums(predictions, matched, *faces, anchors, config.model.variances)
        if answers is None:
            return sums
        return hold_landmarks(sums, predictions, answers, matched, batch["landmarks"])

    def replica_step(batch: Batch) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        pixels = tf.cast(tf.ensure_shape(batch["image"], [None, size, size, 3]), tf.float32) - mean
        answers = None if start is None else flatten_outputs(start(pixels, training=False), config.model)
        with tf.GradientTape() as tape:
            outputs = model(pixels, training=not config.freeze_bn)
            sums = loss_sums(outputs, batch, answers)
            counts = context.all_reduce("sum", [sums.positives, sums.positives_with_landmarks])
            losses = normalize(sums, *counts)
            scaled = optimizer.get_scaled_loss(losses.total) if config.mixed_precision else losses.total
        gradients = tape.gradient(scaled, variables)
        if config.mixed_precision:
            gradients = optimizer.get_unscaled_gradients(gradients)
        gradients = context.all_reduce("sum", gradients)
        norm = tf.linalg.global_norm(gradients)
        if config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm, use_norm=norm)
        if config.optimizer == "sgd":
            gradients = decay_gradients(gradients, variables, config.weight_decay)
        optimizer.apply_gradients(zip(gradients, variables, strict=True), skip_gradients_aggregation=True)
        total, box, classes, landmark = context.all_reduce("sum", [*losses])
        return {
            "loss": total,
            "box": box,
            "classes": classes,
            "landmark": landmark,
            "positives": counts[0],
            "gradient_norm": norm,
        }

    def train_step(batch: Batch) -> dict[str, tf.Tensor]:
        results: dict[str, Any] = strategy.run(replica_step, args=(batch,))
        if config.optimizer == "adamw":
            decay_weights(variables, optimizer.learning_rate * config.weight_decay)
        step.assign_add(1)
        if average:
            update_average(average, model.weights, config.ema_decay, None if config.init else step)
        # Every replica holds the same reduced values.
        return {key: strategy.experimental_local_results(value)[0] for key, value in results.items()}

    # There is no Python control flow over tensors, and AutoGraph's rewriting takes longer than the tracing itself.
    return tf.function(train_step, input_signature=[element_spec], autograph=False)
