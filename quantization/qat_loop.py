"""The tuning loop: imitate the float network, average the weights, keep the best by held-out loss, survive a kill."""

from __future__ import annotations

import gc
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from quantization.config import QatConfig
from quantization.distill import distillation_loss
from quantization.quantizers import inner_layer
from rf_keras.augment_config import AugmentConfig
from rf_keras.checkpoints import FOLDER as CHECKPOINTS
from rf_keras.checkpoints import Checkpoints
from rf_keras.config import ModelConfig, TrainConfig
from rf_keras.distillation.losses import taught_sums
from rf_keras.labels import Sample
from rf_keras.losses import multibox_sums, normalize
from rf_keras.matching import match
from rf_keras.model import flatten_outputs
from rf_keras.optimization import learning_rate, update_average
from rf_keras.pipeline import DataConfig, correcting, make_batches, sample_stream
from rf_keras.progress import Interrupted, Progress, check_finite
from rf_keras.run_dir import MetricsLog, Panel, refuse_without_checkpoint
from tflite.signals import Signals
from tflite.spec import ModelSpec

# Whole letterboxed pictures, as they are detected in; only what leaves the statistics of activations alone.
AUGMENT = AugmentConfig(brightness=16, contrast=(0.8, 1.2), saturation=(0.8, 1.2), flip_chance=0.5)
PARTS = ("loss", "score", "box", "landmark", "multibox", "teacher")
COLUMNS = ("step", "learning_rate", *PARTS, "val_loss", "images_per_second")
PANELS = (Panel((*PARTS, "val_loss"), "step", "loss"),)

Batch = dict[str, tf.Tensor]
Step = Callable[[Batch], dict[str, tf.Tensor]]


def network_input(batch: Batch) -> tf.Tensor:
    """Float32 [B, S, S, 3] of a batch's images, mean subtracted."""
    return tf.cast(batch["image"], tf.float32) - tf.constant(ModelSpec.mean, tf.float32)


def learning_variables(model: keras.Model, names: str) -> list[tf.Variable]:
    """The trainable variables of a simulated network (`simulate.simulate`) in layers whose names begin with a match of
    the regular expression, each once."""
    chosen = [layer for layer in model.layers if re.match(names, inner_layer(layer).name)]
    return list({id(variable): variable for layer in chosen for variable in layer.trainable_variables}.values())


class Tuned:
    """A model after a phase: the variables that learn, their averages and their best values."""

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[tf.Variable],
        average: Sequence[tf.Variable],
        best: Sequence[tf.Variable],
    ) -> None:
        self.model, self.variables, self.average, self.best = model, variables, average, best

    def _set(self, values: Sequence[tf.Variable]) -> keras.Model:
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        return self.model

    def set_average(self) -> keras.Model:
        """The model with its averaged weights."""
        return self._set(self.average)

    def set_best(self) -> keras.Model:
        """The model with the averaged weights that had the lowest held-out loss."""
        return self._set(self.best)


class Tuner:
    """Runs the tuning of one network.

    Args:
        original: folded float network.
        network: its configuration.
        config: of the run.
        samples: all images; `val_images` of them, chosen by the seed, are held out.
        sizes: how many of them come from each data folder.
        run_dir: where checkpoints and metrics go.
    """

    def __init__(
        self,
        original: keras.Model,
        network: ModelConfig,
        config: QatConfig,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        run_dir: Path,
    ) -> None:
        self.original, self.network, self.config, self.run_dir = original, network, config, run_dir
        order = np.random.default_rng(config.seed).permutation(len(samples))
        training, validation = np.sort(order[config.val_images :]), np.sort(order[: config.val_images])
        folder = np.repeat(np.arange(len(sizes)), sizes)
        self.samples = [samples[index] for index in training]
        self.held_out = [samples[index] for index in validation]
        self.sizes = np.bincount(folder[training], minlength=len(sizes)).tolist()
        validation_sizes = np.bincount(folder[validation], minlength=len(sizes)).tolist()
        batches = make_batches(
            self.held_out,
            self._data(AugmentConfig(), 1),
            np.arange(len(validation)),
            drop_remainder=False,
            corrected=correcting(config.distillation, validation_sizes),
        )
        self.signature = batches.element_spec
        self.validation = list(batches)

    def _data(self, augment: AugmentConfig, batch: int) -> DataConfig:
        """How batches of photos are made; with a teacher they hold its answers."""
        config = self.config
        return DataConfig(
            size=config.size, batch=batch, augment=augment, seed=config.seed, distillation=config.distillation
        )

    def run(self, model: keras.Model) -> Tuned:
        """Tune `model` in place; goes on from the newest checkpoint.

        Raises:
            ValueError: a loss that is not finite, or no checkpoint that can be used.
            Interrupted: a signal; the state is saved.
        """
        gc.freeze()  # TensorFlow's imports: walking them again and again is a tenth of a short run
        config = self.config
        keras.utils.set_random_seed(config.seed)

        # ------------------------------------------------------------------------------------------- state
        variables = learning_variables(model, config.layers)
        optimizer = keras.optimizers.Adam(config.learning_rate, jit_compile=False)
        optimizer.build(variables)
        average = [tf.Variable(v, trainable=False) for v in variables]
        best = [tf.Variable(v, trainable=False) for v in variables]
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        best_loss = tf.Variable(np.inf, dtype=tf.float32, trainable=False)
        state = tf.train.Checkpoint(
            variables=variables, optimizer=optimizer, average=average, best=best, step=step, best_loss=best_loss
        )
        checkpoints = Checkpoints(state, self.run_dir / CHECKPOINTS)
        if checkpoints.restore() is None:
            refuse_without_checkpoint(self.run_dir)
        first = int(step)
        log = MetricsLog(self.run_dir, first, COLUMNS, PANELS)
        tuned = Tuned(model, variables, average, best)

        # ------------------------------------------------------------------------------------------- data
        data = self._data(replace(AUGMENT, closeup_share=config.closeups), config.batch)
        stream = sample_stream(self.sizes, config.data_weights or None, config.seed, config.steps * config.batch)
        corrected = correcting(config.distillation, self.sizes)
        batches = iter(make_batches(self.samples, data, stream, first * config.batch, corrected=corrected))

        # ------------------------------------------------------------------------------------------- loop
        train_step = self._make_step(model, variables, optimizer, average, step)
        rate_config = TrainConfig(learning_rate=config.learning_rate, warmup_steps=config.warmup_steps)
        progress = Progress(config.batch)
        with Signals() as signals:
            for number in tqdm(
                range(first, config.steps), initial=first, total=config.steps, unit="step", disable=None
            ):
                self._stop_if_asked(signals, checkpoints, number)
                optimizer.learning_rate = rate = learning_rate(number, config.steps, rate_config)
                parts = {key: float(value) for key, value in train_step(next(batches)).items()}
                chosen = stream[number * config.batch : (number + 1) * config.batch]
                check_finite(parts["loss"], number + 1, ", ".join(self.samples[index].image.name for index in chosen))
                progress.add(parts)
                if (number + 1) % config.val_every == 0 or number + 1 == config.steps:
                    means, speed = progress.take()
                    loss = self._validation_loss(tuned)
                    if loss < float(best_loss):
                        best_loss.assign(loss)
                        for kept, value in zip(best, average, strict=True):
                            kept.assign(value)
                    row: dict[str, Any] = {key: round(value, 6) for key, value in means.items()}
                    row |= {"step": number + 1, "learning_rate": f"{rate:.4g}"}
                    log.add(row | {"val_loss": round(loss, 6), "images_per_second": round(speed, 2)})
                    checkpoints.save(number + 1)
                    tqdm.write(f"step {number + 1}: loss {row['loss']:.4f}, held out {loss:.4f}")
        return tuned

    def _stop_if_asked(self, signals: Signals, checkpoints: Checkpoints, done: int) -> None:
        """After a signal: save the state of `done` steps and raise `Interrupted`."""
        try:
            signals.check()
        except KeyboardInterrupt as stop:
            checkpoints.save(done)
            go_on = f"go on with: python quantization/qat.py --resume --run_dir {shlex.quote(str(self.run_dir))}"
            raise Interrupted(f"stopped at step {done} of {self.config.steps} and saved; {go_on}", stop) from stop

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
                if config.distillation is not None:
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
        config, network = self.config, self.network
        assert config.distillation is not None
        predictions = flatten_outputs(outputs, network)
        large = config.closeups > 0
        sums = taught_sums(predictions, batch, config.distillation, network, config.size, large_faces=large)
        return normalize(sums, sums.positives, sums.positives_with_landmarks).total

    def _validation_loss(self, tuned: Tuned) -> float:
        """Loss of the averaged weights on the held-out images: distance from the teacher's answers if there is a
        teacher, else from the float network if that is imitated, else the loss on labels. The weights in training are
        put back."""
        model = tuned.model
        current = [variable.numpy() for variable in tuned.variables]
        tuned.set_average()
        loss = self._loss_of(model)
        losses = [float(loss(batch)) for batch in self.validation]
        for variable, value in zip(tuned.variables, current, strict=True):
            variable.assign(value)
        return float(np.mean(losses))

    def _loss_of(self, model: keras.Model) -> Callable[[Batch], tf.Tensor]:
        """Compiled loss of `model` on a batch, traced once."""
        if getattr(self, "_traced", (None, None))[0] is not model:

            def loss(batch: Batch) -> tf.Tensor:
                images = network_input(batch)
                outputs = model(images, training=False)
                if self.config.distillation is not None:
                    return self._teacher_loss(outputs, batch)
                if not self.config.distill:
                    return self._multibox_loss(outputs, batch)
                return distillation_loss(outputs, self.original(images, training=False), self.network).total

            self._traced = (model, tf.function(loss, input_signature=[self.signature], autograph=False))
        return self._traced[1]
