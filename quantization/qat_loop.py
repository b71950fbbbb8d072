"""The tuning loop: imitate the float network, average the weights, keep the best by held-out loss, survive a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from quantization.distill import distillation_loss
from quantization.qat_run import Log, QatConfig
from rf_keras.augment import AugmentConfig
from rf_keras.config import ModelConfig, TrainConfig
from rf_keras.losses import corrected_by_labels, large_faces_by_labels, multibox_sums, normalize, teacher_sums
from rf_keras.matching import match
from rf_keras.model import flatten_outputs
from rf_keras.optimization import learning_rate, update_average
from rf_keras.pipeline import DataConfig, make_batches, sample_stream
from rf_keras.wider import Sample
from tflite.spec import ModelSpec

# Whole letterboxed pictures, as they are detected in; only what leaves the statistics of activations alone.
AUGMENT = AugmentConfig(brightness=16, contrast=(0.8, 1.2), saturation=(0.8, 1.2), flip_chance=0.5)
SWAP_AUGMENT = AugmentConfig(
    crop_scales=(0.45, 0.6, 0.8, 1.0, 1.3, 1.6),
    brightness=32,
    contrast=(0.6, 1.4),
    saturation=(0.6, 1.4),
    hue=10,
    flip_chance=0.5,
)

Batch = dict[str, tf.Tensor]
Step = Callable[[Batch], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Phase:
    """One stretch of tuning: `name` ("swap" in float, or "qat"), its steps and peak learning rate."""

    name: str
    steps: int
    learning_rate: float


def network_input(batch: Batch) -> tf.Tensor:
    """Float32 [B, S, S, 3] of a batch's images, mean subtracted."""
    return tf.cast(batch["image"], tf.float32) - tf.constant(ModelSpec.mean, tf.float32)


class Tuned:
    """A model after a phase, with its averaged and its best weights."""

    def __init__(self, model: keras.Model, average: Sequence[tf.Variable], best: Sequence[tf.Variable]) -> None:
        self.model, self.average, self.best = model, average, best

    def _set(self, values: Sequence[tf.Variable]) -> keras.Model:
        for variable, value in zip(self.model.trainable_variables, values, strict=True):
            variable.assign(value)
        return self.model

    def set_average(self) -> keras.Model:
        """The model with its averaged weights."""
        return self._set(self.average)

    def set_best(self) -> keras.Model:
        """The model with the averaged weights that had the lowest held-out loss."""
        return self._set(self.best)


class Tuner:
    """Runs phases of one run.

    Args:
        original: folded float network.
        network: its configuration.
        config: of the run.
        samples: all images; `val_images` of them, chosen by the seed, are held out.
        sizes: how many of them come from each data folder.
        run_dir: where checkpoints go.
        log: metrics.
    """

    def __init__(
        self,
        original: keras.Model,
        network: ModelConfig,
        config: QatConfig,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        run_dir: Path,
        log: Log,
    ) -> None:
        self.original, self.network, self.config, self.run_dir, self.log = original, network, config, run_dir, log
        order = np.random.default_rng(config.seed).permutation(len(samples))
        self.samples = [samples[index] for index in sorted(order[config.val_images :])]
        held = [samples[index] for index in sorted(order[: config.val_images])]
        folder = np.repeat(np.arange(len(sizes)), sizes)
        self.sizes = np.bincount(folder[order[config.val_images :]], minlength=len(sizes)).tolist()
        held_out = make_batches(held, self._data(AugmentConfig(), 1), np.arange(len(held)), drop_remainder=False)
        self.signature = held_out.element_spec
        self.held = list(held_out)

    def _data(self, augment: AugmentConfig, batch: int) -> DataConfig:
        """How batches of photos are made; with a teacher they hold its answers."""
        config = self.config
        return DataConfig(
            size=config.size,
            batch=batch,
            augment=augment,
            seed=config.seed,
            teacher=config.teacher or None,
            teacher_mirror=config.teacher_mirror,
            corrections=any(config.label_trust),
        )

    def run(self, phase: Phase, model: keras.Model) -> Tuned:
        """Tune `model` in place; goes on from the phase's newest checkpoint.

        Raises:
            ValueError: a loss that is not finite.
        """
        config = self.config
        keras.utils.set_random_seed(config.seed)

        # ------------------------------------------------------------------------------------------- state
        variables = model.trainable_variables
        optimizer = keras.optimizers.Adam(phase.learning_rate, jit_compile=False)
        optimizer.build(variables)
        average = [tf.Variable(v, trainable=False) for v in variables]
        best = [tf.Variable(v, trainable=False) for v in variables]
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        best_loss = tf.Variable(np.inf, dtype=tf.float32, trainable=False)
        state = tf.train.Checkpoint(
            variables=variables, optimizer=optimizer, average=average, best=best, step=step, best_loss=best_loss
        )
        checkpoints = tf.train.CheckpointManager(state, str(self.run_dir / "checkpoints" / phase.name), max_to_keep=2)
        if checkpoints.latest_checkpoint:
            state.restore(checkpoints.latest_checkpoint).assert_existing_objects_matched()
        first = int(step)
        self.log.rewind(phase.name, first)
        tuned = Tuned(model, average, best)

        # ------------------------------------------------------------------------------------------- data
        augment = AUGMENT if phase.name == "qat" else SWAP_AUGMENT
        data = self._data(replace(augment, closeup_share=config.closeups), config.batch)
        stream = sample_stream(self.sizes, config.data_weights or None, config.seed, phase.steps * config.batch)
        batches = iter(make_batches(self.samples, data, stream, first * config.batch))

        # ------------------------------------------------------------------------------------------- loop
        train_step = self._make_step(model, variables, optimizer, average, step)
        rate_config = TrainConfig(learning_rate=phase.learning_rate, warmup_steps=config.warmup_steps)
        sums: dict[str, float] = {}
        counted, timer = 0, time.perf_counter()
        for number in tqdm(range(first, phase.steps), initial=first, total=phase.steps, desc=phase.name, unit="step"):
            optimizer.learning_rate = rate = learning_rate(number, phase.steps, rate_config)
            parts = {key: float(value) for key, value in train_step(next(batches)).items()}
            if not np.isfinite(parts["loss"]):
                raise ValueError(f"{phase.name}: the loss is {parts['loss']} at step {number + 1}, expected a number")
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            counted += 1
            if (number + 1) % config.val_every == 0 or number + 1 == phase.steps:
                speed = counted * config.batch / (time.perf_counter() - timer)
                row: dict[str, Any] = {key: round(value / counted, 6) for key, value in sums.items()}
                held = self._held_out_loss(tuned)
                if held < float(best_loss):
                    best_loss.assign(held)
                    for kept, value in zip(best, average, strict=True):
                        kept.assign(value)
                row |= {"phase": phase.name, "step": number + 1, "learning_rate": f"{rate:.4g}"}
                self.log.add(row | {"val_loss": round(held, 6), "images_per_second": round(speed, 2)})
                checkpoints.save(checkpoint_number=number + 1)
                tqdm.write(f"{phase.name} step {number + 1}: loss {row['loss']:.4f}, held out {held:.4f}")
                sums, counted, timer = {}, 0, time.perf_counter()
        return tuned

    def _make_step(
        self,
        model: keras.Model,
        variables: Sequence[tf.Variable],
        optimizer: keras.optimizers.Optimizer,
        average: Sequence[tf.Variable],
        step: tf.Variable,
    ) -> Step:
        config, network = self.config, self.network

        # The number of faces differs from batch to batch; without a signature each would be traced anew.
        @tf.function(input_signature=[self.signature], autograph=False)
        def train_step(batch: Batch) -> dict[str, tf.Tensor]:
            images = network_input(batch)
            parts: dict[str, tf.Tensor] = {}
            loss = tf.constant(0.0)
            expected = self.original(images, training=False) if config.distill else []
            with tf.GradientTape() as tape:
                outputs = model(images, training=True)
                if config.distill:
                    distilled = distillation_loss(outputs, expected, network)
                    loss += distilled.total
                    parts |= {"score": distilled.score, "box": distilled.box, "landmark": distilled.landmark}
                if config.multibox:
                    parts["multibox"] = self._multibox_loss(outputs, batch)
                    loss += parts["multibox"]
                if config.teacher:
                    parts["teacher"] = self._teacher_loss(outputs, batch)
                    loss += parts["teacher"]
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            step.assign_add(1)
            update_average(average, variables, config.ema_decay, step)
            return {"loss": loss, **parts}

        return train_step

    def _multibox_loss(self, outputs: Sequence[tf.Tensor], batch: Batch) -> tf.Tensor:
        """The training loss on labels."""
        network, size = self.network, self.config.size
        anchors = tf.constant(network.anchors(size, size))
        matched = match(batch["boxes"], batch["count"], network, size, size)
        faces = (batch["boxes"], batch["landmarks"])
        found = multibox_sums(flatten_outputs(outputs, network), matched, *faces, anchors, network.variances)
        return normalize(found, found.positives, found.positives_with_landmarks).total

    def _teacher_loss(self, outputs: Sequence[tf.Tensor], batch: Batch) -> tf.Tensor:
        """The training loss on a teacher's answers."""
        said, size = batch["teacher"], self.config.size
        anchors = tf.constant(self.network.anchors(size, size))
        if any(self.config.label_trust):
            said = corrected_by_labels(said, batch["in_view"], batch["trusted"], size)
        if self.config.closeups:
            matched = match(batch["boxes"], batch["count"], self.network, size, size)
            said = large_faces_by_labels(said, batch["boxes"], batch["landmarks"], matched, anchors, size)
        sums = teacher_sums(flatten_outputs(outputs, self.network), said, anchors, self.network.variances)
        return normalize(sums, sums.positives, sums.positives_with_landmarks).total

    def _held_out_loss(self, tuned: Tuned) -> float:
        """Loss of the averaged weights on the held-out images: distance from the teacher's answers if there is a
        teacher, else from the float network if that is imitated, else the loss on labels. The weights in training are
        put back."""
        model = tuned.model
        current = [variable.numpy() for variable in model.trainable_variables]
        tuned.set_average()
        loss = self._loss_of(model)
        losses = [float(loss(batch)) for batch in self.held]
        for variable, value in zip(model.trainable_variables, current, strict=True):
            variable.assign(value)
        return float(np.mean(losses))

    def _loss_of(self, model: keras.Model) -> Callable[[Batch], tf.Tensor]:
        """Compiled loss of `model` on a batch, traced once."""
        if getattr(self, "_traced", (None, None))[0] is not model:

            def loss(batch: Batch) -> tf.Tensor:
                images = network_input(batch)
                outputs = model(images, training=False)
                if self.config.teacher:
                    return self._teacher_loss(outputs, batch)
                if not self.config.distill:
                    return self._multibox_loss(outputs, batch)
                return distillation_loss(outputs, self.original(images, training=False), self.network).total

            self._traced = (model, tf.function(loss, input_signature=[self.signature], autograph=False))
        return self._traced[1]
