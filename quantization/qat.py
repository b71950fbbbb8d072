"""Tune a float model so that its int8 version loses nothing: calibrate, assign the ranges, imitate the float network.

    python quantization/qat.py --weights W --data_dir PHOTOS             distillation: no labels needed
    python quantization/qat.py --weights W --data_dir D --multibox       and the training loss on labels
    python quantization/qat.py --weights W --data_dir D --teacher scrfd.onnx     and a teacher's answers, as in training
    python quantization/qat.py --weights RUN --data_dir D --nodistill --multibox      go on from a tuned run
    python quantization/qat.py --run_dir R --resume

then `python quantization/convert.py --int8 --weights R`. The run directory is like training's.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from quantization.config import QatConfig, Recipe
from rf_keras.config import WARMUP_SHARE, check_no_mesh
from rf_keras.distillation.config import Distillation
from rf_keras.run_dir import (
    BEST,
    CURVES,
    LAST,
    check_pictures,
    check_unchanged,
    create_run,
    default_run_dir,
    read_config,
    script,
    write_config,
    write_pictures,
)
from tflite.command import option, settings_of, start
from tflite.messages import printable

if TYPE_CHECKING:
    from quantization.source import WeightsSource

RECIPE = {field.name for field in dataclasses.fields(Recipe)}
DISTILLATION = {field.name for field in dataclasses.fields(Distillation)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to tune. `settings`: of `config.QatConfig`, `Distillation` and `config.Recipe`, those that are not to have
    their defaults."""

    weights: Path | None = option(
        None, "float or tuned weights file, or run directory (default: the newest run, else the shipped)"
    )
    data_dir: tuple[Path, ...] = option(
        (),
        "folder of images; labels are needed for --multibox only; repeatable (default: the run's own); with --resume: "
        "where the run's pictures are now",
    )
    run_dir: Path | None = option(None, "folder of the run (default: runs/<date>-<time>-qat)")
    resume: bool = option(False, "go on with --run_dir")
    settings: dict[str, Any] = settings_of(QatConfig, Distillation, Recipe)

    def part(self, names: set[str]) -> dict[str, Any]:
        """The settings of these names."""
        return {name: value for name, value in self.settings.items() if name in names}

    @property
    def own(self) -> dict[str, Any]:
        """The settings of `QatConfig` itself."""
        return {name: value for name, value in self.settings.items() if name not in RECIPE | DISTILLATION}


def new_config(options: Options, source: WeightsSource) -> QatConfig:
    """The configuration of a new run.

    Raises:
        ValueError: settings that contradict each other, or weights tuned before, without anything else to learn than
            their own answers, or at another size.
    """
    tuned = source.meta.get("quantization")
    own = options.own
    own.setdefault("size", tuned["size"][0] if tuned else source.size or QatConfig.size)
    own.setdefault("warmup_steps", min(QatConfig.warmup_steps, int(WARMUP_SHARE * own.get("steps", QatConfig.steps))))
    taught = options.part(DISTILLATION)
    config = QatConfig(
        weights=str(source.weights),
        data_dirs=tuple(map(str, source.images_from(options.data_dir))),
        distillation=Distillation(**taught) if taught else None,
        recipe=Recipe(**options.part(RECIPE)),
        **own,
    )
    if not tuned:
        return config
    before = f"{source.weights}: is the result of quantization-aware tuning already"
    if config.distill:
        raise ValueError(f"{before}, expected float weights to imitate; add --nodistill and --multibox or --teacher")
    for name in options.part(RECIPE):
        raise ValueError(f"{before} and keeps its ranges; expected no {name}")
    if tuned["size"] != [config.size, config.size]:
        raise ValueError(f"{before} at {tuned['size']} pixels, found --size {config.size}")
    return config


def resumed_config(options: Options) -> tuple[QatConfig, Path]:
    """The configuration of the run that goes on, with moved folders where they are given, and its folder.

    Raises:
        ValueError: there is none, or settings that are not the run's own.
    """
    if not options.run_dir:
        raise ValueError("--resume goes on with --run_dir: give the folder of the run")
    config = read_config(options.run_dir, QatConfig)
    check_unchanged(options.run_dir, config, options.own)
    check_unchanged(options.run_dir, config.recipe, options.part(RECIPE))
    check_unchanged(options.run_dir, config.distillation or Distillation("none"), options.part(DISTILLATION))
    if options.data_dir:
        config = dataclasses.replace(config, data_dirs=tuple(map(str, options.data_dir)))
    return config, options.run_dir


def run(options: Options) -> dict[str, Any]:
    """Tune; returns the figures of the float network and of the int8 one (`qat_steps.compare_with_float`).

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    if options.resume:
        config, run_dir = resumed_config(options)
        from quantization.qat_steps import read_samples, run_all

        if config != read_config(run_dir, QatConfig):
            check_pictures(run_dir, [sample.image for sample in read_samples(config)[0]])
            write_config(run_dir, config)
    else:
        from quantization.qat_steps import read_samples, run_all
        from quantization.source import find_source
        from rf_keras.distillation.teacher import check_teachable, open_teacher
        from rf_keras.model_file import read_config as read_network

        source = find_source(options.weights)
        check_no_mesh(read_network(source.weights)[0], source.weights)
        config, run_dir = new_config(options, source), options.run_dir or default_run_dir("qat")
        if config.distillation is not None:
            check_teachable(read_network(source.weights)[0])
            open_teacher(config.distillation)
        samples, _ = read_samples(config)  # errors in data and teacher come before a folder is made
        create_run(run_dir, config)
        write_pictures(run_dir, [sample.image for sample in samples])
        print(
            f"weights: {printable(source.weights)} ({printable(source.how)}); "
            f"images from {', '.join(map(printable, config.data_dirs))}"
        )
    losses = {"distill": config.distill, "multibox": config.multibox, "teacher": config.distillation is not None}
    learned = " + ".join(name for name, used in losses.items() if used)
    steps = f"{config.steps} steps of {config.batch} images at {config.size} px"
    print(f"{steps}, {learned}; run directory {printable(run_dir)}")
    figures = run_all(config, run_dir)
    print(f"wrote {', '.join(printable(run_dir / name) for name in (BEST, LAST, CURVES))}")
    print(f"next: {script('convert')} --int8 --weights {printable(run_dir)} --size {config.size}")
    return figures


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
