"""Five training steps on one replica or on two virtual devices; writes the weights. A program of its own, because
virtual devices must be set before TensorFlow starts.

    python -m tests.rf_keras.distributed_steps REPLICAS DATA_DIR OUTPUT.npz
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from rf_keras.augment import PRESETS as AUGMENTATIONS
from rf_keras.config import PRESETS
from rf_keras.pipeline import DataConfig, distribute_batches, read_folders, sample_stream
from rf_keras.run_state import Run
from rf_keras.step import make_train_step

STEPS, BATCH, SIZE = 5, 4, 64


def main(replicas: int, data_dir: str, output: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    strategy = (
        tf.distribute.get_strategy()
        if replicas == 1
        else tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
    )
    config = dataclasses.replace(PRESETS["fast"], size=SIZE, batch=BATCH, data_dirs=(data_dir,))
    run = Run(config, Path(output).parent / f"run{replicas}", strategy)
    samples, sizes = read_folders([data_dir])
    data = DataConfig(size=SIZE, batch=BATCH, augment=AUGMENTATIONS["light"], seed=0)
    batches = iter(distribute_batches(strategy, samples, data, sample_stream(sizes, None, 0, STEPS * BATCH)))
    step = make_train_step(run.model, run.optimizer, run.average, run.step, config, strategy)
    losses = [float(step(next(batches))["loss"]) for _ in range(STEPS)]
    weights = {weight.name: weight.numpy() for weight in run.model.weights}
    np.savez(output, **weights, losses=np.array(losses), average=run.average[0].numpy())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
