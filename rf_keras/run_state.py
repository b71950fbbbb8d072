"""What a training run consists of, and how it is saved and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from rf_keras.config import TrainConfig, config_to_dict
from rf_keras.keras_detector import InputSize, KerasDetector
from rf_keras.model import build_model
from rf_keras.model_file import load_model, save_model
from rf_keras.optimization import make_optimizer
from rf_keras.run_dir import LAST


class Run:
    """A training run: network, optimiser, average and counters, with the checkpoints that hold them."""

    def __init__(self, config: TrainConfig, run_dir: Path, strategy: tf.distribute.Strategy) -> None:
        self.config, self.run_dir, self.strategy = config, run_dir, strategy
        keras.utils.set_random_seed(config.seed)
        if config.mixed_precision:
            keras.mixed_precision.set_global_policy("mixed_float16")
        with strategy.scope():
            self.model = build_model(config.model)
            if strategy.num_replicas_in_sync > 1:
                synchronize_bn(self.model)
            if config.init:
                source, _, _ = load_model(config.init)
                copy_weights(source, self.model, config.init)
            if config.freeze_bn:
                for layer in self.model.layers:
                    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
            self.optimizer = make_optimizer(config)
            if config.mixed_precision:
                self.optimizer = keras.mixed_precision.LossScaleOptimizer(self.optimizer)
            self.optimizer.build(self.model.trainable_variables)
            self.average = [tf.Variable(w, trainable=False) for w in self.model.weights] if config.ema_decay else []
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best = tf.Variable(-1.0, trainable=False)
        # What is evaluated and shipped: the averaged weights in a model of their own.
        self.shown = build_model(config.model)
        self.detector = KerasDetector(self.shown, config.model, InputSize(fixed=config.val_size or config.size))
        checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, average=self.average, step=self.step, best=self.best
        )
        self.checkpoints = tf.train.CheckpointManager(checkpoint, str(run_dir / "checkpoints"), max_to_keep=2)

    def restore(self) -> None:
        """Continue from the newest checkpoint, or from the start when the run died before its first."""
        if self.checkpoints.latest_checkpoint:
            self.checkpoints.checkpoint.restore(self.checkpoints.latest_checkpoint).assert_consumed()

    def save(self) -> None:
        """Checkpoint and last weights."""
        self.checkpoints.save(checkpoint_number=int(self.step))
        self.update_shown()
        save_model(self.shown, self.config.model, self.run_dir / LAST, self.facts())

    def update_shown(self) -> None:
        """Copy the averaged (or current) weights into the model that is evaluated."""
        self.shown.set_weights([w.numpy() for w in (self.average or self.model.weights)])

    def facts(self, **more: Any) -> dict[str, Any]:
        """What a weights file says about its making."""
        images = int(self.step) * self.config.batch
        return {
            "source": "trained by rf_keras.train",
            "images_seen": images,
            "train": config_to_dict(self.config),
            **more,
        }


def copy_weights(source: keras.Model, target: keras.Model, name: str) -> None:
    """Set the target's weights from another model of the same shapes.

    Raises:
        ValueError: shapes differ; names the first layer that does.
    """
    for layer in target.layers:
        wanted = [tuple(w.shape) for w in layer.weights]
        try:
            found = [tuple(w.shape) for w in source.get_layer(layer.name).weights]
        except ValueError:
            found = []
        if wanted != found:
            raise ValueError(f"{name}: layer {layer.name} has weights {found}, the network wants {wanted}")
        layer.set_weights(source.get_layer(layer.name).get_weights())


def synchronize_bn(model: keras.Model) -> None:
    """Let BN take its statistics over all replicas: N replicas then compute what one with the whole batch would."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """The tf.distribute strategy of `config.distribute`."""
    if config.distribute == "mirrored":
        return tf.distribute.MirroredStrategy()
    if config.distribute == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()
