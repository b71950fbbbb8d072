"""Train a detector.

    python -m rf_keras.train                                    synthetic faces, a few minutes on a CPU
    python -m rf_keras.train --data_dir WIDER_train --config mobilenet0.25
    python -m rf_keras.train --resume                           go on with the newest run

The run directory holds everything: config.json, metrics.csv, curves.png, TensorBoard events, checkpoints, weights.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from tqdm import tqdm

from rf_keras.augment import PRESETS as AUGMENTATIONS
from rf_keras.config import TrainConfig
from rf_keras.evaluate import AP_SCORE_THRESHOLD, evaluate_keras
from rf_keras.model_file import read_config, save_model
from rf_keras.optimization import learning_rate
from rf_keras.pipeline import data_config, distribute_batches, read_folders, sample_stream, unreadable_images
from rf_keras.plan import print_plan
from rf_keras.run_dir import (
    BEST,
    CONFIG,
    CURVES,
    PARTS,
    MetricsLog,
    create_run,
    default_run_dir,
    newest_training_run,
    read_run_config,
)
from rf_keras.run_state import Run, is_chief, make_strategy
from rf_keras.step import make_train_step
from rf_keras.synthetic import synthetic_dir
from rf_keras.teacher import check_teachable, open_teacher
from rf_keras.train_flags import config_from_flags, define_flags, given_network, given_settings
from rf_keras.wider import Sample
from tflite.command import flags_only, user_errors
from tflite.draw import draw_detections
from tflite.files import write_text
from tflite.images import read_image
from tflite.spec import ModelSpec

# What the collective operations of the remaining workers end with.
WORKER_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


class Interrupted(Exception):
    """Ctrl-C, after everything was saved."""


def split_samples(config: TrainConfig, max_missing: float = 0.0) -> tuple[list[Sample], list[int], list[Sample]]:
    """Training samples, how many of them come from each folder, and validation samples.

    Without `val_dir` the same share of every folder is held out, chosen by the seed.
    """
    folders: list[str | Path] = list(config.data_dirs) or [synthetic_dir("train", config.size)]
    samples, sizes = read_folders(folders, max_missing, config.label_trust)
    val_dir = config.val_dir or (None if config.data_dirs else synthetic_dir("val", config.size))
    if val_dir is not None:
        return samples, sizes, read_folders([val_dir], max_missing)[0][: config.val_images]
    share = min(config.val_share, config.val_images / len(samples))
    train: list[Sample] = []
    held: list[Sample] = []
    first = 0
    train_sizes = []
    for number, size in enumerate(sizes):
        order = np.random.default_rng((config.seed, number)).permutation(size) + first
        cut = round(share * size)
        held += [samples[index] for index in sorted(order[:cut])]
        train += [samples[index] for index in sorted(order[cut:])]
        train_sizes.append(size - cut)
        first += size
    return train, train_sizes, held


def validate(run: Run, samples: Sequence[Sample], writer: tf.summary.SummaryWriter) -> dict[str, Any]:
    """AP and NME of the averaged weights; writes detections of four images to TensorBoard."""
    run.update_shown()
    size = run.config.val_size or run.config.size
    metrics = evaluate_keras(run.shown, run.config.model, samples, size, run.detector)
    with writer.as_default(step=int(run.step)):
        tf.summary.scalar("validation/ap", metrics["all"] or 0.0)
        for number, sample in enumerate(samples[:4]):
            image = read_image(sample.image)
            faces = run.detector.detect(image, max(0.3, AP_SCORE_THRESHOLD), ModelSpec.iou_threshold)
            drawn = cv2.cvtColor(draw_detections(image, faces), cv2.COLOR_BGR2RGB)
            tf.summary.image(f"validation/{number}", drawn[None])
    return metrics


def train(run: Run, samples: Sequence[Sample], sizes: Sequence[int], held: Sequence[Sample]) -> dict[str, Any]:
    """The loop. Returns the figures of the end: `val_ap` and `best_ap` in percent, `images_per_second`, `steps`.

    Raises:
        ValueError: a loss that is not finite, or an image that cannot be decoded.
        Interrupted: Ctrl-C; the state is saved.
    """
    config = run.config
    steps_per_epoch = config.steps_per_epoch or len(samples) // config.batch
    total = config.epochs * steps_per_epoch

    # -------------------------------------------------------------------------------------------- data
    stream = sample_stream(sizes, config.data_weights, config.seed, total * config.batch)
    start = int(run.step)
    batches = iter(distribute_batches(run.strategy, samples, data_config(config), stream, start * config.batch))

    # -------------------------------------------------------------------------------------------- logs
    turns = [
        make_train_step(
            run.model,
            run.optimizer,
            run.average,
            run.step,
            config,
            run.strategy,
            size,
            batches.element_spec,
            run.trained,
        )
        for size in config.sizes
    ]
    log = MetricsLog(run.run_dir, start)
    writer = tf.summary.create_file_writer(str(run.run_dir / "tensorboard"))
    figures: dict[str, Any] = {"steps": total, "val_ap": None, "best_ap": None, "images_per_second": None}
    sums: dict[str, float] = {}
    timer, counted = time.perf_counter(), 0

    # -------------------------------------------------------------------------------------------- loop
    bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None)
    try:
        for step in range(start, total):
            rate = learning_rate(step, total, config)
            run.optimizer.learning_rate = rate
            parts = {key: float(value) for key, value in turns[step % len(turns)](next(batches)).items()}
            if not np.isfinite(parts["loss"]):
                chosen = stream[step * config.batch : (step + 1) * config.batch]
                names = ", ".join(samples[index].image.name for index in chosen)
                raise ValueError(
                    f"loss is {parts['loss']} at step {step + 1}, expected a finite number; batch: {names}"
                )
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            counted += 1
            speed = counted * config.batch / (time.perf_counter() - timer)
            bar.set_postfix_str(f"loss {sums['loss'] / counted:.2f}, {speed:.0f} images/s", refresh=False)
            bar.update()
            if (step + 1) % 20 == 0:
                with writer.as_default(step=step + 1):
                    for key in (*PARTS, "gradient_norm"):
                        tf.summary.scalar(f"train/{key}", parts[key])
                    tf.summary.scalar("train/positives_per_image", parts["positives"] / config.batch)
                    tf.summary.scalar("train/learning_rate", rate)

            end_of_epoch = (step + 1) % steps_per_epoch == 0
            if end_of_epoch:
                epoch = (step + 1) // steps_per_epoch
                row: dict[str, Any] = {key: round(sums[key] / counted, 5) for key in PARTS}
                row |= {"step": step + 1, "epoch": epoch, "images_seen": (step + 1) * config.batch}
                row |= {"learning_rate": f"{rate:.6g}", "images_per_second": round(speed, 2)}
                row["positives_per_image"] = round(sums["positives"] / counted / config.batch, 2)
                if held and (epoch % config.val_every == 0 or step + 1 == total):
                    metrics = validate(run, held, writer)
                    figures["val_ap"], row["val_nme"] = metrics["all"], metrics["nme"]
                    row["val_ap"] = metrics["all"]
                    if metrics["all"] > float(run.best):
                        run.best.assign(metrics["all"])
                        facts = run.facts(val_ap=metrics["all"])
                        save_model(run.shown, config.model, run.run_dir / BEST, facts)
                log.add(row)
                shown = f", validation AP {row['val_ap']:.1f} %" if "val_ap" in row else ""
                bar.write(f"epoch {epoch}/{config.epochs}: loss {row['loss']:.3f}, {speed:.0f} images/s{shown}")
                figures["images_per_second"] = round(speed, 2)
                sums, timer, counted = {}, time.perf_counter(), 0
            if end_of_epoch or (step + 1) % config.checkpoint_steps == 0:
                run.save()
    except KeyboardInterrupt as stop:
        done = f"stopped at step {int(run.step)} of {total}"
        if config.distribute == "multiworker":  # saving gathers variables from all workers, who know of no stop
            raise Interrupted(f"{done}, what was done since the last checkpoint is lost") from stop
        run.save()
        raise Interrupted(f"{done} and saved") from stop
    except WORKER_LOST as error:
        if config.distribute != "multiworker":
            raise
        raise ValueError(
            f"another worker is gone at step {int(run.step)} of {total}; start all workers again with --resume"
        ) from error
    except tf.errors.InvalidArgumentError as error:
        if bad := unreadable_images(samples):
            raise ValueError(f"{bad[0]}: not a readable image ({len(bad)} such files), expected JPEG or PNG") from error
        raise
    finally:
        bar.close()
        writer.close()
    if not held:
        run.update_shown()
        save_model(run.shown, config.model, run.run_dir / BEST, run.facts())
    return figures | {"best_ap": float(run.best) if held else None}


def prepare(args: flags.FlagValues) -> tuple[TrainConfig, Path]:
    """Configuration and run directory from the flags.

    Raises:
        ValueError: settings that contradict each other or the run to resume.
    """
    if args.resume:
        run_dir = Path(args.run_dir) if args.run_dir else newest_training_run()
        if run_dir is None:
            raise ValueError("no training run below runs/ to resume; give --run_dir")
        config = read_run_config(run_dir)
        for name, value in (given_settings(args)).items():
            if value != getattr(config, name):
                raise ValueError(f"{run_dir}: {name} is {getattr(config, name)!r} in this run, {value!r} was given")
        for name, value in given_network(args).items():
            if value != getattr(config.model, name):
                raise ValueError(
                    f"{run_dir}: {name} is {getattr(config.model, name)!r} in this run, {value!r} was given"
                )
        return config, run_dir
    if args.repeat and args["config"].present:
        raise ValueError("--repeat and --config both name a configuration, give one of them")
    repeated = read_run_config(Path(args.repeat)) if args.repeat else None
    config = config_from_flags(args, read_config(args.init)[0] if args.init else None, repeated)
    if config.distribute == "multiworker" and not args.run_dir:
        raise ValueError("--distribute=multiworker needs --run_dir, a folder that all workers can read")
    return config, Path(args.run_dir) if args.run_dir else default_run_dir(args.config)


def command(args: flags.FlagValues) -> None:
    """What `python -m rf_keras.train` does."""
    config, run_dir = prepare(args)
    strategy = tf.distribute.get_strategy() if args.dry_run else make_strategy(config)
    if config.augment not in AUGMENTATIONS:
        raise ValueError(f"augment is {config.augment!r}, expected one of {', '.join(AUGMENTATIONS)}")
    if config.teacher:
        check_teachable(config.model)
        open_teacher(config.teacher, features=config.teacher_features > 0)  # fails before anything is written
    elif AUGMENTATIONS[config.augment].needs_teacher:
        raise ValueError(
            f"augment is {config.augment!r}, whose images leave their labels behind: expected a --teacher to answer"
        )
    samples, sizes, held = split_samples(config, args.max_missing)
    if len(samples) < config.batch:
        raise ValueError(f"batch is {config.batch}, but there are only {len(samples)} training images")
    print_plan(config, run_dir, samples, sizes, held, detailed=args.dry_run)
    if args.dry_run:
        return
    new = not args.resume and is_chief(strategy)
    if new:
        create_run(run_dir, config)
    try:
        run = Run(config, run_dir, strategy)
        run.check_space()
    except ValueError:
        if new:
            (run_dir / CONFIG).unlink()  # what cannot start leaves no run behind
        raise
    if args.resume:
        run.restore()
        print(f"resuming {run_dir} at step {int(run.step)}")
    figures = train(run, samples, sizes, held)
    if args.json:
        write_text(Path(args.json), json.dumps(figures, indent=1))
    best = "not measured" if figures["best_ap"] is None else f"{figures['best_ap']:.1f} %"
    print(f"done: best validation AP {best}; weights in {run_dir / BEST}, curves in {run_dir / CURVES}")


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint otherwise
    try:
        with user_errors():
            command(flags.FLAGS)
    except Interrupted as stop:
        print(f"{stop}; go on with: python -m rf_keras.train --resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    define_flags()
    app.run(main)
