"""What a training run consists of, and how it is saved and restored."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.adapt import copy_weights
from rf_keras.checkpoints import FOLDER as CHECKPOINTS
from rf_keras.checkpoints import Checkpoints
from rf_keras.config import TrainConfig, config_to_dict
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.history import TRAINED, images_seen, part, parts_of, source_after
from rf_keras.input_size import parse_size
from rf_keras.model import build_model
from rf_keras.model_file import load_model, save_model
from rf_keras.optimization import make_optimizer
from rf_keras.run_dir import LAST, refuse_without_checkpoint

LOGS_BYTES = 10_000_000  # TensorBoard events with pictures, curves, metrics


class Run:
    """A training run: network, optimiser, average and counters, with the checkpoints that hold them.

    Args:
        config: of the run.
        run_dir: its folder, where a restart finds the checkpoints. Only the chief worker writes there. The others must
            write too, since saving gathers variables from all of them; theirs goes to a scratch folder, which is
            `self.run_dir` for them.
        strategy: the replicas.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, strategy: tf.distribute.Strategy) -> None:
        self.config, self.strategy = config, strategy
        self.restart_dir = run_dir / CHECKPOINTS
        self.run_dir = run_dir if is_chief(strategy) else scratch_dir()
        keras.utils.set_random_seed(config.seed)
        if config.mixed_precision:
            keras.mixed_precision.set_global_policy("mixed_float16")
        with strategy.scope():
            self.model = build_model(config.model)
            if strategy.num_replicas_in_sync > 1:
                synchronize_bn(self.model)
            self.parts: list[dict[str, Any]] = []
            self.license, self.source = "", TRAINED
            self.start: keras.Model | None = None  # the weights that a fine-tuning goes out from
            if config.init:
                source, network, meta = load_model(config.init)
                self.parts, self.license = parts_of(meta), str(meta.get("license", ""))
                self.source = source_after(meta)
                copy_weights(source, network, self.model, config.model, config.init)
                # In the new network's anchors, but with the old one's activations.
                self.start = build_model(replace(config.model, activation=network.activation))
                self.start.set_weights(self.model.get_weights())
                self.start.trainable = False
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
        self.averaged = build_model(config.model)
        self.detector = KerasDetector(self.averaged, config.model, parse_size(config.val_size or str(config.size)))
        checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, average=self.average, step=self.step, best=self.best
        )
        self.checkpoints = Checkpoints(checkpoint, self.run_dir / CHECKPOINTS, self.restart_dir)

    def check_space(self) -> None:
        """Refuse a disk that the run would fill.

        Raises:
            ValueError: less space than the checkpoints and weights files of the run take.
        """
        floats = sum(int(np.prod(v.shape)) for v in (*self.model.weights, *self.average, *self.optimizer.variables))
        # Two checkpoints are kept while the next is written; best and last weights, and a temporary one.
        needed = 4 * (3 * floats + 3 * self.model.count_params()) + LOGS_BYTES
        free = shutil.disk_usage(self.run_dir).free
        if free < needed:
            raise ValueError(f"{self.run_dir}: {free / 1e6:.0f} MB free, the run needs {needed / 1e6:.0f} MB")

    def restore(self) -> None:
        """Continue from the newest checkpoint that is whole, or from the start when the run died before its first.

        Raises:
            ValueError: none can be used, or all are gone.
        """
        if self.checkpoints.restore() is None:
            refuse_without_checkpoint(self.restart_dir.parent)

    def save(self) -> None:
        """Checkpoint and last weights."""
        self.checkpoints.save(int(self.step))
        self.update_averaged()
        save_model(self.averaged, self.config.model, self.run_dir / LAST, self.meta())

    def update_averaged(self) -> None:
        """Copy the averaged (or current) weights into the model that is evaluated."""
        self.averaged.set_weights([w.numpy() for w in (self.average or self.model.weights)])

    def meta(self, **more: Any) -> dict[str, Any]:
        """What a weights file says about its making."""
        config = self.config
        teacher = config.distillation.teacher if config.distillation else ""
        mine = part("training", int(self.step) * config.batch, config.sizes, config.data_dirs, teacher)
        parts = [*self.parts, mine] if int(self.step) else self.parts
        return {
            "source": self.source,
            "license": self.license,
            "images_seen": images_seen(parts),
            "parts": parts,
            "train": config_to_dict(self.config),
            **more,
        }


def synchronize_bn(model: keras.Model) -> None:
    """Let BN take its statistics over all replicas: N replicas then compute what one with the whole batch would."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """The tf.distribute strategy of `config.distribute`; to be called before TensorFlow does anything else.

    Raises:
        ValueError: multiworker with a TF_CONFIG that does not name a cluster and this worker's task.
    """
    if config.distribute == "mirrored":
        return tf.distribute.MirroredStrategy()
    if config.distribute == "multiworker":
        check_cluster(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def check_cluster(text: str) -> None:
    """Refuse a TF_CONFIG that TensorFlow would take for one lonely worker, or wait for without end.

    Raises:
        ValueError: it is not JSON like {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index":
            0}}.
    """
    example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        found = json.loads(text)
        found["cluster"][found["task"]["type"]][found["task"]["index"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"TF_CONFIG is {text!r}, expected {example}") from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the worker that writes the run: the chief, or worker 0 where there is none."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs


def scratch_dir() -> Path:
    """A folder that is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="rf_keras_worker"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
