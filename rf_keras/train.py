"""Train a detector.

    python -m rf_keras.train                                    synthetic faces, a few minutes on a CPU
    python -m rf_keras.train --data_dir WIDER_train --config mobilenet0.25
    python -m rf_keras.train --resume                           go on with the newest run

The run directory holds everything: config.json, metrics.csv, curves.png, TensorBoard events, checkpoints, weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_keras.config import PRESETS, SYNTHETIC, ModelConfig, TrainConfig
from rf_keras.distillation.config import Distillation
from rf_keras.labels import MAX_MISSING, check_apart
from rf_keras.run_dir import (
    BEST,
    CONFIG,
    CURVES,
    check_unchanged,
    create_run,
    default_run_dir,
    newest_training_run,
    read_config,
)
from tflite.command import option, settings_of, start

DEFAULT_PRESET = "fast"
# Settings that lie in a dataclass of their own inside of `TrainConfig`.
NETWORK = {field.name for field in dataclasses.fields(ModelConfig)}
DISTILLATION = {field.name for field in dataclasses.fields(Distillation)}


def preset_note(name: str) -> str:
    """Where presets and training on synthetic faces have other values of a setting than `TrainConfig`."""
    if name in NETWORK | DISTILLATION:
        return ""
    usual = getattr(TrainConfig, name)
    notes = [f"{key}: {getattr(one, name)}" for key, one in PRESETS.items() if getattr(one, name) != usual]
    if name in SYNTHETIC:
        notes.append(f"synthetic faces: {SYNTHETIC[name]}")
    return "; ".join(notes)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train. `settings`: of `TrainConfig`, `ModelConfig` and `Distillation`, those that differ from the
    preset's."""

    config: str | None = option(
        None, f"preset that the other settings change (default {DEFAULT_PRESET})", choices=sorted(PRESETS)
    )
    data_dir: tuple[Path, ...] = option(
        (), "folder with label.txt and images/; repeatable (default: the built-in synthetic faces)"
    )
    run_dir: Path | None = option(None, "folder of the run (default: runs/<date>-<time>-<config>)")
    resume: bool = option(False, "go on with --run_dir, or with the newest run below runs/")
    repeat: Path | None = option(None, "run directory whose config.json a new run starts with, instead of --config")
    dry_run: bool = option(False, "print the plan and stop")
    max_missing: float = option(
        MAX_MISSING, "largest share of labelled images that may be missing or unreadable, 0 to 1", low=0, high=1
    )
    settings: dict[str, Any] = settings_of(TrainConfig, ModelConfig, Distillation, note=preset_note)
    json: Path | None = option(None, "file for the final figures")


def given_settings(options: Options) -> dict[str, Any]:
    """Settings of `TrainConfig` itself that were given."""
    given = {name: value for name, value in options.settings.items() if name not in NETWORK | DISTILLATION}
    return given | ({"data_dirs": tuple(map(str, options.data_dir))} if options.data_dir else {})


def changed(base: TrainConfig, options: Options) -> TrainConfig:
    """`base` with everything that was given."""
    network = {name: value for name, value in options.settings.items() if name in NETWORK}
    taught = {name: value for name, value in options.settings.items() if name in DISTILLATION}
    distillation = base.distillation
    if taught and distillation is not None:
        distillation = dataclasses.replace(distillation, **taught)
    elif taught:
        distillation = Distillation(**taught)
    model = dataclasses.replace(base.model, **network)
    return dataclasses.replace(base, model=model, distillation=distillation, **given_settings(options))


def prepare(options: Options) -> tuple[TrainConfig, Path]:
    """Configuration and run directory.

    The preset is changed by the synthetic defaults (without data), by the network of `init`, and by what was given; a
    repeated run's configuration by what was given.

    Raises:
        ValueError: settings that contradict each other or the run to resume.
    """
    if options.resume:
        run_dir = options.run_dir or newest_training_run()
        if run_dir is None:
            raise ValueError("no training run below runs/ to resume; give --run_dir")
        config = read_config(run_dir, TrainConfig)
        check_unchanged(run_dir, config, given_settings(options))
        check_unchanged(run_dir, config.model, {k: v for k, v in options.settings.items() if k in NETWORK})
        taught = {k: v for k, v in options.settings.items() if k in DISTILLATION}
        check_unchanged(run_dir, config.distillation or Distillation("none"), taught)
        return config, run_dir
    if options.repeat and options.config:
        raise ValueError("--repeat and --config both name a configuration, give one of them")
    name = options.config or DEFAULT_PRESET
    if options.repeat:
        base = read_config(options.repeat, TrainConfig)
    else:
        base = PRESETS[name]
        if not options.data_dir:
            base = dataclasses.replace(base, **SYNTHETIC)
    if init := options.settings.get("init"):
        from rf_keras.model_file import read_config as read_network

        base = dataclasses.replace(base, model=read_network(init)[0])
    config = changed(base, options)
    if config.distribute == "multiworker" and not options.run_dir:
        raise ValueError("--distribute=multiworker needs --run_dir, a folder that all workers can read")
    return config, options.run_dir or default_run_dir(name)


def run(options: Options) -> dict[str, Any] | None:
    """Train; returns the figures of the end (`train_loop.train`), None for a dry run.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    config, run_dir = prepare(options)
    import tensorflow as tf

    from rf_keras.distillation.teacher import check_teachable, open_teacher
    from rf_keras.plan import print_plan
    from rf_keras.run_state import Run, is_chief, make_strategy
    from rf_keras.train_loop import split_samples, train

    strategy = tf.distribute.get_strategy() if options.dry_run else make_strategy(config)
    if config.distillation is not None:
        check_teachable(config.model)
        open_teacher(config.distillation)  # fails before anything is written
    samples, sizes, validation = split_samples(config, options.max_missing)
    check_apart(samples, validation)
    if len(samples) < config.batch:
        raise ValueError(f"batch is {config.batch}, but there are only {len(samples)} training images")
    print_plan(config, run_dir, samples, sizes, validation, detailed=options.dry_run)
    if options.dry_run:
        return None
    new = not options.resume and is_chief(strategy)
    if new:
        create_run(run_dir, config)
    try:
        state = Run(config, run_dir, strategy)
        state.check_space()
    except ValueError:
        if new:
            (run_dir / CONFIG).unlink()  # what cannot start leaves no run behind
        raise
    if options.resume:
        state.restore()
        print(f"resuming {run_dir} at step {int(state.step)}")
    figures = train(state, samples, sizes, validation)
    best = "not measured" if figures["best_ap"] is None else f"{figures['best_ap']:.1f} %"
    print(f"done: best validation AP {best}; weights in {run_dir / BEST}, curves in {run_dir / CURVES}")
    return figures


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
