"""Five training steps on one replica, on two virtual devices, or as one of the workers that TF_CONFIG names; writes the
losses and the weights before, after the first and after the last. A program of its own, because devices and workers
must be set before TensorFlow starts.

    python -m tests.rf_keras.distributed_steps one|mirrored|multiworker WEIGHTS DATA_DIR OUTPUT.npz

WEIGHTS must be trained: a new network's background logits are so nearly equal that rounding, which differs with the
split of the batch, changes which of them are mined. The gradients of the very first step then differ by percents.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from rf_keras.augment_config import PRESETS as AUGMENTATIONS
from rf_keras.config import PRESETS
from rf_keras.model_file import read_config
from rf_keras.pipeline import DataConfig, distribute_batches, read_folders, sample_stream
from rf_keras.run_state import Run, make_strategy
from rf_keras.step import make_train_step

STEPS, BATCH, SIZE = 5, 4, 64


def main(how: str, weights: str, data_dir: str, output: str) -> None:
    strategy = tf.distribute.get_strategy()
    if how == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif how == "multiworker":
        strategy = make_strategy(dataclasses.replace(PRESETS["fast"], distribute="multiworker"))
    settings = {"size": SIZE, "batch": BATCH, "data_dirs": (data_dir,), "init": weights}
    config = dataclasses.replace(PRESETS["fast"], model=read_config(weights)[0], **settings)
    run = Run(config, Path(output).with_suffix(""), strategy)
    samples, sizes = read_folders([data_dir])
    data = DataConfig(size=SIZE, batch=BATCH, augment=AUGMENTATIONS["light"], seed=0)
    batches = iter(distribute_batches(strategy, samples, data, sample_stream(sizes, None, 0, STEPS * BATCH)))
    step = make_train_step(
        run.model, run.optimizer, run.average, run.step, config, strategy, config.size, batches.element_spec
    )
    start = {f"start/{weight.name}": weight.numpy() for weight in run.model.weights}
    result = step(next(batches))
    # The update alone would not show a wrong scale of the gradient: it is clipped.
    losses, norm = [float(result["loss"])], float(result["gradient_norm"])
    first = {f"first/{weight.name}": weight.numpy() for weight in run.model.weights}
    losses += [float(step(next(batches))["loss"]) for _ in range(STEPS - 1)]
    assert step.experimental_get_tracing_count() == 1  # though the batches' numbers of faces differ
    last = {f"last/{weight.name}": weight.numpy() for weight in run.model.weights}
    average = run.average[0].numpy()
    # Not by the code under test: only worker 0 may write the run.
    first_worker = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0) == 0
    run.save()  # gathers variables from all workers
    assert (Path(output).with_suffix("") / "last.keras").exists() == first_worker
    np.savez(output, **start, **first, **last, losses=np.array(losses), gradient_norm=norm, average=average)


if __name__ == "__main__":
    main(*sys.argv[1:])
