"""What a training run is going to do, in words and numbers, before its first step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from rf_keras.config import TrainConfig
from rf_keras.evaluation.before_after import has_points
from rf_keras.labels import Sample, describe
from rf_keras.matching import match
from rf_keras.model import build_model
from rf_keras.optimization import make_optimizer
from rf_keras.pipeline import correcting, data_config, make_batches, sample_stream
from rf_keras.step import make_train_step

PROBE_IMAGES = 64  # enough to see that the anchors fit nothing
DETAILED_IMAGES = 256
PROBE_STEPS = 5


def print_plan(
    config: TrainConfig,
    run_dir: Path,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    validation: Sequence[Sample],
    detailed: bool,
) -> None:
    """Print images, faces and steps; `detailed` adds matched anchors by size and a time estimate.

    Raises:
        ValueError: anchors that match no face of the first augmented images.
    """
    faces = sum(len(sample.boxes) for sample in samples)
    points = sum(int((sample.landmarks != -1).any(axis=(1, 2)).sum()) for sample in samples)
    source = ", ".join(f"{folder} ({describe(folder)})" for folder in config.data_dirs) or "built-in synthetic faces"
    steps = config.epochs * (config.steps_per_epoch or len(samples) // config.batch)
    print(
        f"data: {source}: {len(samples)} images, {faces} faces, {points} with landmarks; "
        f"{len(validation)} for validation"
    )
    print(
        f"network: {config.model.backbone} × {config.model.width:g}, {config.model.activation}, "
        f"anchors {'/'.join(','.join(f'{s:g}' for s in level) for level in config.model.anchor_sizes)}"
        + (f"; starting from {config.init}" if config.init else "")
        + (f"; targets from {config.distillation.teacher}" if config.distillation else "")
    )
    if config.init:
        print(fine_tuning_line(config, faces, points, validation))
    print(
        f"plan: {config.epochs} epochs = {steps} steps of {config.batch} images at "
        f"{' and '.join(map(str, config.sizes))} px, {config.augment} augmentation, "
        f"{config.optimizer} {config.learning_rate:g} {config.schedule}{warmup_text(config, steps)}; "
        f"run directory {run_dir}"
    )
    if not faces:
        raise ValueError(f"{source}: no face in {len(samples)} images, nothing to learn from")
    wanted = DETAILED_IMAGES if detailed else PROBE_IMAGES
    counts, images = _count_matches(config, samples, sizes, wanted, stop_at_first=not detailed)
    if not any(counts.values()):
        raise ValueError(f"anchor_sizes {config.model.anchor_sizes} match no face of {images} augmented images")
    if detailed:
        print(f"matched anchors per image by size, over {images} augmented images:")
        print("  " + ", ".join(f"{size:g} px: {count / images:.1f}" for size, count in counts.items()))
        _print_time(config, samples, sizes, steps)


def warmup_text(config: TrainConfig, steps: int) -> str:
    """How long the rate grows, and that it never falls where that is longer than the run."""
    if config.warmup_steps >= steps:
        return f", but {config.warmup_steps} steps of warm-up: the run ends before its peak"
    return f" after {config.warmup_steps} steps of warm-up" if config.warmup_steps else ""


def fine_tuning_line(config: TrainConfig, faces: int, points: int, validation: Sequence[Sample]) -> str:
    """What is done so that a fine-tuning forgets nothing."""
    text = "fine-tuning: the start is validated first, and is the best until an epoch is better"
    if not validation:
        text = "fine-tuning: no image to validate on, so nothing tells whether it helps"
    if config.distillation is not None and config.distillation.teacher == config.init:
        text += "; its own answers, corrected by the labels, are the targets"
    elif config.distillation is None and points < faces:
        which = "no label has landmarks" if not points else f"{faces - points} faces have no landmarks"
        text += f"; {which}: there the start's answers are the targets"
    if validation and not has_points(validation):
        text += "; landmarks are validated against the start's answers"
    return text


def _batches(
    config: TrainConfig, samples: Sequence[Sample], sizes: Sequence[int], count: int, *, taught: bool
) -> tf.data.Dataset:
    """`count` batches as training makes them; without a teacher's answers, which cost seconds, unless `taught`."""
    data = data_config(config) if taught else dataclasses.replace(data_config(config), distillation=None)
    stream = sample_stream(sizes, config.data_weights, config.seed, count * config.batch)
    return make_batches(samples, data, stream, corrected=correcting(data.distillation, sizes))


def _count_matches(
    config: TrainConfig, samples: Sequence[Sample], sizes: Sequence[int], wanted: int, stop_at_first: bool
) -> tuple[dict[float, int], int]:
    """Positive anchors by size over about `wanted` augmented images, and how many images those were.

    `stop_at_first` ends with the first batch that has one.
    """
    counts = dict.fromkeys((float(np.float32(size)) for level in config.model.anchor_sizes for size in level), 0)
    images = 0
    for batch in _batches(config, samples, sizes, max(1, wanted // config.batch), taught=False):
        side = batch["image"].shape[1]
        matched = match(batch["boxes"], batch["count"], config.model, side, side).numpy()
        anchor_size = config.model.anchors(side, side)[:, 2]
        values, numbers = np.unique(anchor_size[np.nonzero(matched >= 0)[1]], return_counts=True)
        for value, number in zip(values, numbers, strict=True):
            counts[float(value)] = counts.get(float(value), 0) + int(number)
        images += len(matched)
        if stop_at_first and any(counts.values()):
            break
    return counts, images


def _print_time(config: TrainConfig, samples: Sequence[Sample], sizes: Sequence[int], steps: int) -> None:
    model = build_model(config.model)
    optimizer = make_optimizer(config)
    optimizer.build(model.trainable_variables)
    step, strategy = tf.Variable(0, dtype=tf.int64), tf.distribute.get_strategy()
    warmup, timed = 2 * len(config.sizes), PROBE_STEPS * len(config.sizes)
    batches = _batches(config, samples, sizes, warmup + timed, taught=True)
    held = build_model(config.model) if config.init and config.distillation is None else None
    turns = [
        make_train_step(model, optimizer, [], step, config, strategy, size, batches.element_spec, held)
        for size in config.sizes
    ]
    timer = 0.0
    for number, batch in enumerate(batches):
        if number == warmup:
            timer = time.perf_counter()
        float(turns[number % len(turns)](batch)["loss"])
    seconds = (time.perf_counter() - timer) / timed
    speed = config.batch / seconds
    print(f"speed: {speed:.1f} images/s over {timed} steps; about {steps * seconds / 60:.1f} minutes in all")
