"""Speed of training: the step, the pipeline, both together, and what matching, mining and the loss take.

    python benchmarks/training_speed.py [--config mobilenet0.25] [--sizes 640,320] [--data_dir D] [--json F]
    python benchmarks/training_speed.py --memory_steps 1000 …    also whether memory grows over so many steps

The parts take turns, so that a busy machine hits all alike; times, shares and ratios are medians over the turns.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rf_keras.config import PRESETS, TrainConfig
from rf_keras.labels import Sample
from rf_keras.losses import multibox_sums, normalize
from rf_keras.matching import match
from rf_keras.model import build_model, flatten_outputs
from rf_keras.optimization import make_optimizer
from rf_keras.pipeline import DataConfig, data_config, make_batches, read_folders, sample_stream
from rf_keras.step import Batch, make_train_step
from rf_keras.synthetic import synthetic_dir
from tflite.command import option, start
from tflite.spec import ModelSpec

FEW, MANY = 1, 500  # faces per image
SPARE_BATCHES = 6  # warm-up, and what tf.data fetches ahead


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    config: str = option(
        "mobilenet0.25", "preset whose network, augmentation and optimizer run", choices=sorted(PRESETS)
    )
    sizes: tuple[int, ...] = option((640, 320), "sides of the training images in pixels, multiples of 32")
    batch: int = option(8, "images per step", low=1)
    data_dir: tuple[Path, ...] = option((), "folder with images/ and labels; repeatable (default: synthetic faces)")
    rounds: int = option(10, "steps timed of each kind", low=1)
    memory_steps: int = option(0, "steps over which memory is watched, at the last of --sizes (0: none)", low=0)
    json: Path | None = option(None, "file to write the figures to")


def crowd(batch: Batch, faces: int, size: int) -> Batch:
    """The batch's images with `faces` faces each (10 to 60 pixels, anywhere, with landmarks) instead of their own."""
    random = np.random.default_rng(0)
    images = len(batch["image"])
    low = random.uniform(0, size - 60, (images, faces, 2))
    boxes = np.concatenate((low, low + random.uniform(10, 60, (images, faces, 1))), axis=-1).astype(np.float32)
    points = np.repeat(boxes[:, :, None, :2], 5, axis=2) + 5
    count = np.full(images, faces, np.int32)
    changed = {"boxes": boxes, "landmarks": points, "count": count}
    return {**batch, **{key: tf.constant(value) for key, value in changed.items()}}


def measure_pipeline(samples: Sequence[Sample], stream: np.ndarray, config: DataConfig, batches: int) -> dict[str, Any]:
    """Speed of the pipeline alone, after two batches of warm-up: images/s and CPU milliseconds per image."""
    iterator = iter(make_batches(samples, config, stream))
    for _ in range(2):
        next(iterator)
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    images, seconds = batches * config.batch, time.perf_counter() - start
    return {
        "size": config.size,
        "batch": config.batch,
        "images": images,
        "images_per_second": images / seconds,
        "cpu_ms_per_image": 1000 * (time.process_time() - cpu_start) / images,
        "cores": os.cpu_count(),
    }


def make_loss_part(config: TrainConfig, like: Sequence[tf.Tensor]) -> Callable[[Batch, list[tf.Tensor]], Any]:
    """Matching, mining and the loss with its gradient to the network's outputs (shaped as `like`), compiled."""
    anchors = tf.constant(config.model.anchors(config.size, config.size))
    faces = {
        "boxes": tf.TensorSpec([None, None, 4], tf.float32),
        "landmarks": tf.TensorSpec([None, None, 5, 2], tf.float32),
        "count": tf.TensorSpec([None], tf.int32),
    }

    @tf.function(input_signature=[faces, [tf.TensorSpec(output.shape, tf.float32) for output in like]])
    def loss_part(batch: Batch, outputs: list[tf.Tensor]) -> list[tf.Tensor]:
        matched = match(batch["boxes"], batch["count"], config.model, config.size, config.size)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            predictions = flatten_outputs(outputs, config.model)
            sums = multibox_sums(
                predictions, matched, batch["boxes"], batch["landmarks"], anchors, config.model.variances
            )
            total = normalize(sums, sums.positives, sums.positives_with_landmarks).total
        return tape.gradient(total, outputs)

    return loss_part


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int, title: str) -> dict[str, np.ndarray]:
    """Seconds [rounds] of each call, after one for warm-up (which also compiles it)."""
    times = {name: np.empty(rounds) for name in calls}
    for turn in tqdm(range(-1, rounds), unit="round", desc=title, leave=False, disable=None):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                times[name][turn] = time.perf_counter() - start
    return times


def measure_size(config: TrainConfig, samples: Sequence[Sample], sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """All figures at `config.size`, JSON-ready."""
    data = data_config(config)
    stream = sample_stream(sizes, None, config.seed, config.batch * (rounds + SPARE_BATCHES))
    pipeline = measure_pipeline(samples, stream, data, rounds)

    model = build_model(config.model)
    optimizer = make_optimizer(config)
    optimizer.build(model.trainable_variables)
    optimizer.learning_rate = 0.0  # timing must not run the weights out of range
    counter = tf.Variable(0, dtype=tf.int64)
    batches = iter(make_batches(samples, data, stream))
    strategy = tf.distribute.get_strategy()
    train_step = make_train_step(model, optimizer, [], counter, config, strategy, config.size, batches.element_spec)
    own = next(batches)
    few, many = crowd(own, FEW, config.size), crowd(own, MANY, config.size)
    outputs = model(tf.cast(own["image"], tf.float32) - tf.constant(ModelSpec.mean), training=False)
    loss_part = make_loss_part(config, outputs)

    def loss(batch: Batch) -> None:
        faces = {key: batch[key] for key in ("boxes", "landmarks", "count")}
        loss_part(faces, outputs)[0].numpy()  # numpy(): waits for the result

    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: float(train_step(own)["loss"]),  # float(): waits for the result
        "loss": lambda: loss(own),
        "step_few": lambda: float(train_step(few)["loss"]),
        "step_many": lambda: float(train_step(many)["loss"]),
        "loss_few": lambda: loss(few),
        "loss_many": lambda: loss(many),
    }
    times = take_turns(calls, rounds, f"step at {config.size}")
    # Apart from the others: the pipeline works ahead, in their time.
    training = {"training": lambda: float(train_step(next(batches))["loss"])}
    whole = take_turns(training, rounds, f"training at {config.size}")["training"]

    def speed(seconds: np.ndarray) -> float:
        return round(config.batch / float(np.median(seconds)), 2)

    def ratio(part: str, to: str) -> float:
        return round(float(np.median(times[part] / times[to])), 4)

    return {
        "size": config.size,
        "batch": config.batch,
        "augment": config.augment,
        "faces_per_image": round(float(tf.reduce_mean(tf.cast(own["count"], tf.float32))), 1),
        "step_images_per_second": speed(times["step"]),
        "pipeline_images_per_second": round(pipeline["images_per_second"], 2),
        "pipeline_cpu_ms_per_image": round(pipeline["cpu_ms_per_image"], 3),
        "training_images_per_second": round(config.batch / float(np.mean(whole)), 2),
        "loss_ms_per_batch": round(1000 * float(np.median(times["loss"])), 2),
        "loss_share_of_step": ratio("loss", "step"),
        f"step_{MANY}_faces_to_{FEW}": ratio("step_many", "step_few"),
        f"loss_{MANY}_faces_to_{FEW}": ratio("loss_many", "loss_few"),
    }


def resident_mb() -> float:
    """Memory of this process in MB (10⁶ bytes), from Linux's /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_growth(config: TrainConfig, samples: Sequence[Sample], sizes: Sequence[int], steps: int) -> dict[str, Any]:
    """Resident MB after a tenth of the steps, when all buffers are there, and after all of them."""
    data = data_config(config)
    model = build_model(config.model)
    optimizer = make_optimizer(config)
    optimizer.build(model.trainable_variables)
    average = [tf.Variable(weight, trainable=False) for weight in model.weights]
    counter = tf.Variable(0, dtype=tf.int64)
    batches = iter(make_batches(samples, data, sample_stream(sizes, None, config.seed, config.batch * steps)))
    strategy = tf.distribute.get_strategy()
    train_step = make_train_step(
        model, optimizer, average, counter, config, strategy, config.size, batches.element_spec
    )
    seen = {}
    for step in tqdm(range(1, steps + 1), unit="step", desc="memory", leave=False, disable=None):
        float(train_step(next(batches))["loss"])
        if step in (steps // 10, steps):
            seen[step] = round(resident_mb(), 1)
    return {"size": config.size, "batch": config.batch, "resident_mb": seen}


def run(options: Options) -> dict[str, Any]:
    """Measure, print the figures and return them."""
    if not options.sizes:
        raise ValueError("--sizes is empty, expected numbers such as 640,320")
    preset = dataclasses.replace(PRESETS[options.config], batch=options.batch)
    configs = [dataclasses.replace(preset, size=side) for side in options.sizes]
    samples, counts = read_folders(options.data_dir or [synthetic_dir("train")])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    report: dict[str, Any] = {
        "config": options.config,
        "cores": cores,
        "images": len(samples),
        "rounds": options.rounds,
    }
    report["sizes"] = []
    for config in configs:
        row = measure_size(config, samples, counts, options.rounds)
        report["sizes"].append(row)
        print(
            f"{options.config} at {row['size']}, batch {row['batch']}, {cores} cores: "
            f"step {row['step_images_per_second']:.1f} images/s, "
            f"{row['augment']} pipeline alone {row['pipeline_images_per_second']:.0f} "
            f"({row['pipeline_cpu_ms_per_image']:.1f} ms of CPU per image), "
            f"together {row['training_images_per_second']:.1f}\n"
            f"    matching, mining and loss: {row['loss_ms_per_batch']:.1f} ms per batch of "
            f"{row['faces_per_image']:.1f} faces per image, {100 * row['loss_share_of_step']:.1f} % of the step; "
            f"{MANY} faces to {FEW}: step × {row[f'step_{MANY}_faces_to_{FEW}']:.2f}, "
            f"this part × {row[f'loss_{MANY}_faces_to_{FEW}']:.2f}"
        )
    if options.memory_steps:
        found = report["memory"] = memory_growth(configs[-1], samples, counts, options.memory_steps)
        shown = ", ".join(f"{value:.0f} MB after {step} steps" for step, value in found["resident_mb"].items())
        print(f"memory at {found['size']}, batch {found['batch']}: {shown}")
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
