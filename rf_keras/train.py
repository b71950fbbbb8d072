"""Train a detector.

    python -m rf_keras.train                                    synthetic faces, a few minutes on a CPU
    python -m rf_keras.train --data_dir WIDER_train --config mobilenet0.25
    python -m rf_keras.train --data_dir PHOTOS --init W.keras    fine-tune trained weights
    python -m rf_keras.train --resume [--epochs MORE]           go on with the newest run

The run directory holds everything: config.json, metrics.csv, curves.png, TensorBoard events, checkpoints, weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_keras.config import (
    FINE_TUNING,
    PRESETS,
    SYNTHETIC,
    ModelConfig,
    TrainConfig,
    check_no_mesh,
    fine_tuning_of,
    fitted,
    kept,
)
from rf_keras.distillation.config import Distillation
from rf_keras.labels import MAX_MISSING, LabelError, check_apart
from rf_keras.run_dir import (
    BEST,
    CONFIG,
    CURVES,
    DATA,
    check_pictures,
    check_unchanged,
    create_run,
    default_run_dir,
    newest_training_run,
    read_config,
    script,
    write_config,
    write_pictures,
)
from tflite.command import option, settings_of, start

DEFAULT_PRESET = "fast"
MOVABLE = ("data_dirs", "val_dir")  # settings that a run that goes on may have anew
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
    if name in FINE_TUNING:
        notes.append(f"with --init: {FINE_TUNING[name]}")
    return "; ".join(notes)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train. `settings`: of `TrainConfig`, `ModelConfig` and `Distillation`, those that differ from the
    preset's."""

    config: str | None = option(
        None, f"preset that the other settings change (default {DEFAULT_PRESET})", choices=sorted(PRESETS)
    )
    data_dir: tuple[Path, ...] = option(
        (),
        "folder with label.txt and images/; repeatable (default: the built-in synthetic faces); with --resume: where "
        "the run's pictures are now",
    )
    run_dir: Path | None = option(None, "folder of the run (default: runs/<date>-<time>-<config>)")
    resume: bool = option(
        False, "go on with --run_dir, or with the newest run below runs/; for longer than planned with more --epochs"
    )
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


def resumed(run_dir: Path, given: dict[str, Any]) -> TrainConfig:
    """The configuration of a run that goes on, with more epochs or moved folders where they are given.

    Raises:
        ValueError: another setting, or fewer epochs.
    """
    config = read_config(run_dir, TrainConfig)
    changes = {name: given[name] for name in MOVABLE if name in given}
    if "epochs" in given and given["epochs"] > config.epochs:
        changes["epochs"] = given["epochs"]
    check_unchanged(run_dir, config, {name: value for name, value in given.items() if name not in changes})
    return dataclasses.replace(config, **changes)


def prepare(options: Options) -> tuple[TrainConfig, Path]:
    """Configuration and run directory.

    The preset is changed by the synthetic defaults (without data), by the network of `init` and the defaults of
    fine-tuning, and by what was given; a repeated run's configuration by what was given. A run that goes on may get
    more epochs, and other folders (`data_dirs`, `val_dir`) with the same pictures.

    Raises:
        ValueError: settings that contradict each other or the run to resume.
    """
    if options.resume:
        run_dir = options.run_dir or newest_training_run()
        if run_dir is None:
            raise ValueError("no training run below runs/ to resume; give --run_dir")
        config = resumed(run_dir, given_settings(options))
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
    meta: dict[str, Any] = {}
    if init := options.settings.get("init"):
        from rf_keras.model_file import read_config as read_network

        defaults = {} if options.repeat else fine_tuning_of(PRESETS[name])
        network, meta = read_network(init)
        check_no_mesh(network, init)
        base = dataclasses.replace(base, model=network, **defaults)
    config = changed(base, options)
    if not options.repeat:
        config = kept(config, meta)
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
    from rf_keras.fine_tuning import compare_with_start, outcome
    from rf_keras.plan import print_plan
    from rf_keras.run_state import Run, is_chief, make_strategy
    from rf_keras.train_loop import split_samples, train

    strategy = tf.distribute.get_strategy() if options.dry_run else make_strategy(config)
    if config.distillation is not None:
        check_teachable(config.model)
        open_teacher(config.distillation)  # fails before anything is written
    try:
        samples, sizes, validation = split_samples(config, options.max_missing)
    except LabelError as error:
        hint = "; if the data has moved, give --data_dir again" if options.resume else ""
        raise ValueError(f"{error}{hint}") from error
    check_apart(samples, validation)
    if not options.resume and not options.repeat:
        config = fitted(config, len(samples), options.settings)
    if len(samples) < config.batch:
        raise ValueError(f"batch is {config.batch}, but there are only {len(samples)} training images")
    print_plan(config, run_dir, samples, sizes, validation, detailed=options.dry_run)
    if options.dry_run:
        return None
    chief = is_chief(strategy)
    new = not options.resume and chief
    pictures = [sample.image for sample in (*samples, *validation)]
    before = None
    if new:
        create_run(run_dir, config)
        write_pictures(run_dir, pictures)
    elif options.resume:
        before = read_config(run_dir, TrainConfig)
        if any(getattr(before, name) != getattr(config, name) for name in MOVABLE):
            check_pictures(run_dir, pictures)
    try:
        state = Run(config, run_dir, strategy)
        state.check_space()
    except ValueError:
        if new:
            for name in (CONFIG, DATA):  # what cannot start leaves no run behind
                (run_dir / name).unlink(missing_ok=True)
        raise
    if before is not None:
        state.restore()
        if chief and before != config:
            write_config(run_dir, config)
        print(f"resuming {run_dir} at step {int(state.step)}{tail_text(before, config, int(state.step), len(samples))}")
    figures = train(state, samples, sizes, validation)
    print(f"done: {outcome(figures)}; weights in {run_dir / BEST}, curves in {run_dir / CURVES}")
    if chief and figures["start_ap"] is not None:
        figures |= compare_with_start(state, validation, figures)
    if chief:
        print(f"next: {next_command(config, run_dir)}")
    return figures


def tail_text(before: TrainConfig, config: TrainConfig, step: int, images: int) -> str:
    """How a run goes on that got more epochs, or that has none left."""
    from rf_keras.optimization import learning_rate

    steps_per_epoch = config.steps_per_epoch or images // config.batch
    total = config.epochs * steps_per_epoch
    if step >= total:
        return f", its end: --epochs with more than {config.epochs} goes on"
    if before.epochs == config.epochs:
        return ""
    first, last = (learning_rate(number, total, config) for number in (step, total - 1))
    return (
        f" for {config.epochs} epochs instead of {before.epochs}: the rate goes on as in a run of that length, from "
        f"{first:.3g} ({config.schedule}) to {last:.3g} at step {total}"
    )


def next_command(config: TrainConfig, run_dir: Path) -> str:
    """What makes an int8 file of the run."""
    if not config.data_dirs:
        return f"{script('convert')} --int8 --weights {run_dir}"
    folders = " ".join(f"--data_dir {folder}" for folder in config.data_dirs)
    return f"{script('qat')} --weights {run_dir} {folders}"


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
