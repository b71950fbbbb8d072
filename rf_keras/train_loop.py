"""The training loop: which images, step after step, validation, metrics, checkpoints."""

from __future__ import annotations

import contextlib
import gc
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rf_keras.config import TrainConfig, as_tuples
from rf_keras.evaluation.before_after import has_points
from rf_keras.evaluation.scoring import AP_SCORE_THRESHOLD, evaluate_keras
from rf_keras.fine_tuning import Baseline, unknown_points, validation_of
from rf_keras.labels import MAX_MISSING, Sample
from rf_keras.model_file import save_model
from rf_keras.optimization import learning_rate
from rf_keras.pipeline import (
    correcting,
    data_config,
    distribute_batches,
    read_folders,
    sample_stream,
    unreadable_images,
)
from rf_keras.progress import Interrupted, Progress, check_finite
from rf_keras.run_dir import BEST, MetricsLog, Panel
from rf_keras.run_state import Run
from rf_keras.step import make_train_step
from rf_keras.synthetic import synthetic_dir
from tflite.draw import draw_detections
from tflite.images import read_image
from tflite.signals import Signals
from tflite.spec import ModelSpec

PARTS = ("loss", "box", "classes", "landmark")  # of the training loss
COLUMNS = (
    *("step", "epoch", "images_seen", "learning_rate"),
    *PARTS,
    *("positives_per_image", "images_per_second", "val_ap", "val_nme"),
)
PANELS = (
    Panel(PARTS, "images_seen", "training loss"),
    Panel(("val_ap",), "images_seen", "validation AP, %", percent=True),
)
SPLIT = ("data_dirs", "val_dir", "val_share", "val_images", "size", "seed")  # what `split_samples` reads
GO_ON = "go on with: python -m rf_keras.train --resume --run_dir"
# What the collective operations of the remaining workers end with.
WORKER_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


def split_settings(training: dict[str, Any]) -> TrainConfig:
    """The settings of a training, as a weights file holds them, that decide which images were held out."""
    return TrainConfig(**{name: as_tuples(training[name]) for name in SPLIT if name in training})


def split_samples(
    config: TrainConfig, max_missing: float = MAX_MISSING
) -> tuple[list[Sample], list[int], list[Sample]]:
    """Training samples, how many of them come from each folder, and validation samples.

    Without `val_dir` the same share of every folder is held out, chosen by the seed.
    """
    folders: list[str | Path] = list(config.data_dirs) or [synthetic_dir("train", config.size)]
    samples, sizes = read_folders(folders, max_missing)
    val_dir = config.val_dir or (None if config.data_dirs else synthetic_dir("val", config.size))
    if val_dir is not None:
        return samples, sizes, read_folders([val_dir], max_missing, "val")[0][: config.val_images]
    share = min(config.val_share, config.val_images / len(samples))
    train: list[Sample] = []
    validation: list[Sample] = []
    first = 0
    train_sizes = []
    for number, size in enumerate(sizes):
        order = np.random.default_rng((config.seed, number)).permutation(size) + first
        cut = round(share * size)
        validation += [samples[index] for index in sorted(order[:cut])]
        train += [samples[index] for index in sorted(order[cut:])]
        train_sizes.append(size - cut)
        first += size
    return train, train_sizes, validation


def validate(run: Run, samples: Sequence[Sample], writer: tf.summary.SummaryWriter) -> dict[str, Any]:
    """AP and NME of the averaged weights; writes detections of four images to TensorBoard."""
    run.update_averaged()
    metrics = evaluate_keras(run.averaged, run.config.model, samples, run.detector.size, run.detector)
    with writer.as_default(step=int(run.step)):
        tf.summary.scalar("validation/ap", metrics["all"] or 0.0)
        for number, sample in enumerate(samples[:4]):
            image = read_image(sample.image)
            faces = run.detector.detect(image, max(0.3, AP_SCORE_THRESHOLD), ModelSpec.iou_threshold)
            drawn = cv2.cvtColor(draw_detections(image, faces), cv2.COLOR_BGR2RGB)
            tf.summary.image(f"validation/{number}", drawn[None])
    return metrics


def train(run: Run, samples: Sequence[Sample], sizes: Sequence[int], validation: Sequence[Sample]) -> dict[str, Any]:
    """The loop. Returns the figures of the end: `val_ap`, `best_ap` and `start_ap` (of a fine-tuning) in percent,
    `start_nme`, `images_per_second`, `steps`.

    Args:
        run: new or restored.
        samples: to train on; `sizes` of them from each folder.
        validation: held out; may be empty.

    Raises:
        ValueError: a loss that is not finite, an image that cannot be decoded, or a lost worker.
        Interrupted: a signal; the state is saved.
    """
    gc.freeze()  # TensorFlow's imports: walking them again and again is a tenth of a short run
    config = run.config
    steps_per_epoch = config.steps_per_epoch or len(samples) // config.batch
    total = config.epochs * steps_per_epoch

    # -------------------------------------------------------------------------------------------- data
    stream = sample_stream(sizes, config.data_weights, config.seed, total * config.batch)
    start = int(run.step)
    corrected = correcting(config.distillation, sizes)
    data = data_config(config)
    batches = iter(distribute_batches(run.strategy, samples, data, stream, start * config.batch, corrected))

    # -------------------------------------------------------------------------------------------- logs
    spec = batches.element_spec
    held = run.start if config.distillation is None and unknown_points(samples) else None
    turns = [
        make_train_step(run.model, run.optimizer, run.average, run.step, config, run.strategy, size, spec, held)
        for size in config.sizes
    ]
    log = MetricsLog(run.run_dir, start, COLUMNS, PANELS)
    writer = tf.summary.create_file_writer(str(run.run_dir / "tensorboard"))
    figures: dict[str, Any] = {"steps": total, "val_ap": None, "best_ap": None, "images_per_second": None}
    labelled_points = has_points(validation)
    validation = validation_of(run, validation)
    baseline = validated_start(run, validation, labelled_points, log, writer)
    figures |= {"start_ap": baseline and baseline.ap, "start_nme": baseline and baseline.nme}
    progress = Progress(config.batch)

    # -------------------------------------------------------------------------------------------- loop
    bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None)
    row: dict[str, Any] | None = None  # of an epoch that is over but not yet in the log
    stack = contextlib.ExitStack()
    signals = stack.enter_context(Signals())
    try:
        for step in range(start, total):
            signals.check()
            rate = learning_rate(step, total, config)
            run.optimizer.learning_rate = rate
            parts = {key: float(value) for key, value in turns[step % len(turns)](next(batches)).items()}
            chosen = stream[step * config.batch : (step + 1) * config.batch]
            check_finite(parts["loss"], step + 1, ", ".join(samples[index].image.name for index in chosen))
            progress.add(parts)
            bar.set_postfix_str(
                f"loss {progress.means['loss']:.2f}, {progress.images_per_second:.0f} images/s", refresh=False
            )
            bar.update()
            if (step + 1) % 20 == 0:
                write_summaries(writer, step + 1, parts, rate, config.batch)

            end_of_epoch = (step + 1) % steps_per_epoch == 0
            if end_of_epoch:
                epoch = (step + 1) // steps_per_epoch
                means, speed = progress.take()
                row = {key: round(means[key], 5) for key in PARTS}
                row |= {"step": step + 1, "epoch": epoch, "images_seen": (step + 1) * config.batch}
                row |= {"learning_rate": f"{rate:.6g}", "images_per_second": round(speed, 2)}
                row["positives_per_image"] = round(means["positives"] / config.batch, 2)
                if validation and (epoch % config.val_every == 0 or step + 1 == total):
                    metrics = signals.wait(lambda: validate(run, validation, writer))
                    figures["val_ap"], row["val_nme"] = metrics["all"], metrics["nme"]
                    row["val_ap"] = metrics["all"]
                    spoiled = baseline is not None and baseline.spoiled(metrics["nme"])
                    if metrics["all"] > float(run.best) and not spoiled:
                        run.best.assign(metrics["all"])
                        save_model(run.averaged, config.model, run.run_dir / BEST, run.meta(val_ap=metrics["all"]))
                log.add(row)
                measured = f", validation {as_text(row)}" if "val_ap" in row else ""
                bar.write(f"epoch {epoch}/{config.epochs}: loss {row['loss']:.3f}, {speed:.0f} images/s{measured}")
                row = None
                figures["images_per_second"] = round(speed, 2)
            if end_of_epoch or (step + 1) % config.checkpoint_steps == 0:
                run.save()
    except KeyboardInterrupt as stop:
        done, go_on_in = f"stopped at step {int(run.step)} of {total}", shlex.quote(str(run.restart_dir.parent))
        if config.distribute == "multiworker":  # saving gathers variables from all workers, who know of no stop
            lost = "what was done since the last checkpoint is lost"
            raise Interrupted(f"{done}, {lost}; {GO_ON} {go_on_in}", stop) from stop
        if row is not None:  # stopped while its AP was measured
            log.add(row)
        run.save()
        raise Interrupted(f"{done} and saved; {GO_ON} {go_on_in}", stop) from stop
    except WORKER_LOST as error:
        if config.distribute != "multiworker":
            raise
        raise ValueError(
            f"another worker is gone at step {int(run.step)} of {total}; start all workers again with --resume"
        ) from error
    except tf.errors.InvalidArgumentError as error:
        if bad := unreadable_images(samples):
            raise ValueError(f"{bad[0]}: not a readable image ({len(bad)} such files)") from error
        raise
    finally:
        stack.close()
        bar.close()
        writer.close()
    if not validation or not (run.run_dir / BEST).exists():  # the latter: stopped in its last validation
        run.update_averaged()
        save_model(run.averaged, config.model, run.run_dir / BEST, run.meta())
    return figures | {"best_ap": float(run.best) if validation else None}


def as_text(row: dict[str, Any]) -> str:
    """AP and NME of a row of metrics."""
    nme = row["val_nme"]
    return f"AP {row['val_ap']:.1f} %" + ("" if nme is None else f", landmark NME {100 * nme:.2f} %")


def validated_start(
    run: Run, validation: Sequence[Sample], labelled_points: bool, log: MetricsLog, writer: tf.summary.SummaryWriter
) -> Baseline | None:
    """What the weights that a fine-tuning starts from do on the validation images; None without either.

    A new run validates them before its first step: a row of metrics, and the best weights so far.
    """
    if run.start is None or not validation:
        return None
    if not int(run.step):
        metrics = validate(run, validation, writer)
        row = {"step": 0, "epoch": 0, "images_seen": 0, "val_ap": metrics["all"], "val_nme": metrics["nme"]}
        log.add(row)
        print(f"start: validation {as_text(row)}")
        run.best.assign(metrics["all"])
        save_model(run.averaged, run.config.model, run.run_dir / BEST, run.meta(val_ap=metrics["all"]))
        return Baseline(metrics["all"], metrics["nme"], labelled_points)
    first = log.rows[0] if log.rows else {"step": ""}
    if first["step"] != "0":  # a run of an earlier version
        return None
    nme = float(first["val_nme"]) if first["val_nme"] else None
    return Baseline(float(first["val_ap"]), nme, labelled_points)


def write_summaries(
    writer: tf.summary.SummaryWriter, step: int, parts: dict[str, float], rate: float, batch: int
) -> None:
    """One step's scalars to TensorBoard."""
    with writer.as_default(step=step):
        for key in (*PARTS, "gradient_norm"):
            tf.summary.scalar(f"train/{key}", parts[key])
        tf.summary.scalar("train/positives_per_image", parts["positives"] / batch)
        tf.summary.scalar("train/learning_rate", rate)
