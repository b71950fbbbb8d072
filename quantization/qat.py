"""Tune a float model so that its int8 version loses nothing: calibrate, assign the ranges, imitate the float network.

    python quantization/qat.py --weights W --data_dir PHOTOS             distillation: no labels needed
    python quantization/qat.py --weights W --data_dir D --multibox       and the training loss on labels
    python quantization/qat.py --weights W --data_dir D --teacher scrfd.onnx     and a teacher's answers, as in training
    python quantization/qat.py --weights W --data_dir D --activation_swap=relu
    python quantization/qat.py --weights RUN --data_dir D --nodistill --multibox      go on from a tuned run
    python quantization/qat.py --run_dir R --resume

then `python quantization/convert.py --int8 --weights R`. The run directory is like training's.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tf_keras as keras
from absl import app, flags

from quantization.bias import correct_biases
from quantization.calibrate import METHODS, calibrate, find_images, load_images
from quantization.equalize import equalize_on
from quantization.fold import copy_layer, fold, rebuild
from quantization.qat_loop import Phase, Tuner
from quantization.qat_run import ORIGINAL, START, Log, QatConfig, create, quantization_meta, read
from quantization.simulate import Ranges, simulate, write_back
from quantization.source import Source, find_source
from rf_keras.backbones import Tensor
from rf_keras.config import ModelConfig
from rf_keras.model_file import load_model, read_config, save_model
from rf_keras.pipeline import read_folders
from rf_keras.run_dir import BEST, CURVES, LAST
from rf_keras.teacher import check_teachable, open_teacher
from rf_keras.train_flags import numbers
from rf_keras.wider import LabelError, Sample
from tflite.command import flags_only, user_errors
from tflite.images import expand_inputs

SWAPPED = "swapped.keras"  # after the float tuning of --activation_swap


def read_samples(config: QatConfig) -> tuple[list[Sample], list[int]]:
    """The images, with labels where a folder has them, and how many each folder has; without labels they serve
    distillation only.

    Raises:
        ValueError: a folder without images, or labels missing for --multibox or --label_trust.
    """
    samples: list[Sample] = []
    sizes: list[int] = []
    for folder, trusted in zip(config.data_dirs, config.label_trust or (0,) * len(config.data_dirs), strict=True):
        try:
            samples += read_folders([folder], trust=(trusted,))[0]
        except LabelError:
            if config.multibox or trusted:
                raise
            files, errors = expand_inputs([folder])
            if errors:
                raise ValueError(errors[0]) from None
            none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
            samples += [Sample(path, *none) for path, _ in files]
        sizes.append(len(samples) - sum(sizes))
    if len(samples) < config.batch + config.val_images:
        found = f"{', '.join(config.data_dirs)}: {len(samples)} images"
        raise ValueError(f"{found}, expected at least {config.batch} for a batch and {config.val_images} held out")
    return samples, sizes


def swap_to_relu(model: keras.Model, config: ModelConfig) -> tuple[keras.Model, ModelConfig]:
    """A copy of a folded model with ReLU in place of its LeakyReLUs."""

    def replace(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
        if isinstance(layer, keras.layers.LeakyReLU):
            return keras.layers.ReLU(name=layer.name)(sources[0])
        return copy_layer(layer, sources)

    return rebuild(model, replace), dataclasses.replace(config, activation="relu")


def prepare(config: QatConfig, run_dir: Path) -> tuple[keras.Model, ModelConfig, dict[str, Any]]:
    """Write and return the original, its configuration and facts: the float network, folded. It stays in the run, so
    that a resume needs nothing else."""
    path = run_dir / ORIGINAL
    if not path.exists():
        model, network, meta = load_model(config.weights)
        folded, network = fold(model, network)
        save_model(folded, network, path, meta)
    return load_model(path)


def start_point(
    model: keras.Model, network: ModelConfig, config: QatConfig, run_dir: Path, meta: dict[str, Any]
) -> tuple[keras.Model, Ranges]:
    """The network as calibration leaves it, and its ranges; computed once per run. Weights that were tuned before keep
    theirs."""
    path = run_dir / START
    if not path.exists() and "quantization" in meta:
        save_model(model, network, path, meta)
    if not path.exists():
        paths = find_images(config.data_dirs, config.calibration_images)
        images = load_images(paths, config.size, config.size, antialias=network.antialias)
        if config.equalize:
            model = equalize_on(model, network, images, config.method, config.percentile)
        ranges = calibrate(model, network, images, config.method, config.percentile)
        if config.bias_correction:
            model = correct_biases(model, ranges, images)
        save_model(model, network, path, meta | quantization_meta(config, ranges))
    model, _, meta = load_model(path)
    return model, {name: (low, high) for name, (low, high) in meta["quantization"]["ranges"].items()}


def check_tuned(source: Source, config: QatConfig, given: dict[str, Any]) -> None:
    """What tuning needs that goes on from weights tuned before: their ranges, and something else to learn than their
    own answers.

    Args:
        source: the weights.
        config: settings of the run.
        given: those that the user gave.

    Raises:
        ValueError: a setting that does not fit; one line.
    """
    tuned = f"{source.weights}: is the result of quantization-aware tuning already"
    if config.distill:
        raise ValueError(f"{tuned}, expected float weights to imitate; add --nodistill and --multibox or --teacher")
    for name in ("activation_swap", "method", "percentile", "calibration_images", "equalize", "bias_correction"):
        if name in given:
            raise ValueError(f"{tuned} and keeps its ranges; expected no --{name}")
    tuned_at = source.meta["quantization"]["size"]
    if tuned_at != [config.size, config.size]:
        raise ValueError(f"{tuned} at {tuned_at} pixels, found --size {config.size}")


def run_all(config: QatConfig, run_dir: Path) -> None:
    """Every phase that the run has not finished."""
    samples, sizes = read_samples(config)
    original, network, meta = prepare(config, run_dir)
    facts = meta | {"source": f"{meta.get('source', config.weights)}; quantization-aware tuning by rf_keras"}
    facts.pop("ap", None)
    tuner = Tuner(original, network, config, samples, sizes, run_dir, Log(run_dir))

    # ------------------------------------------------------------------------------ float tuning of a new activation
    model, _, _ = load_model(run_dir / ORIGINAL)
    if config.activation_swap and network.activation != "relu":
        model, network = swap_to_relu(model, network)
        tuner.network = network
        if not (run_dir / SWAPPED).exists():
            tuned = tuner.run(Phase("swap", config.swap_steps, config.swap_learning_rate), model)
            save_model(tuned.set_best(), network, run_dir / SWAPPED, facts)
        model, _, _ = load_model(run_dir / SWAPPED)

    # ---------------------------------------------------------------------------------- quantization-aware tuning
    start, ranges = start_point(model, network, config, run_dir, facts)
    simulated = simulate(start, ranges, learn_ranges=config.learn_ranges)
    result = tuner.run(Phase("qat", config.steps, config.learning_rate), simulated)
    for name, weights in ((LAST, result.set_average), (BEST, result.set_best)):
        trained = write_back(weights(), start)  # frozen ones come back rounded to float32
        final = trained if config.learn_ranges else ranges
        save_model(start, network, run_dir / name, facts | quantization_meta(config, final))
    print(f"wrote {run_dir / BEST}, {run_dir / LAST}, {run_dir / CURVES}")
    print(f"next: python quantization/convert.py --int8 --weights {run_dir} --size {config.size}")


def run(args: flags.FlagValues) -> None:
    """The command."""
    given = given_settings(args)
    if args.resume:
        if not args.run_dir:
            raise ValueError("--resume goes on with --run_dir: give the folder of the run")
        run_dir = Path(args.run_dir)
        config = read(run_dir)
        changed = [name for name, value in given.items() if getattr(config, name) != value]
        if changed:
            raise ValueError(f"--{changed[0]} differs from the run's own; a resumed run keeps its settings")
    else:
        source = find_source(args.weights)
        folders = [str(folder) for folder in source.images_from(args.data_dir)]
        given |= {"weights": str(source.weights), "data_dirs": tuple(folders)}
        tuned = source.meta.get("quantization")
        given.setdefault("size", tuned["size"][0] if tuned else source.size or QatConfig.size)
        config = QatConfig(**given)
        if tuned:
            check_tuned(source, config, given)
        run_dir = Path(args.run_dir or f"runs/{datetime.now():%Y%m%d-%H%M%S}-qat")
        if config.teacher:
            check_teachable(read_config(source.weights)[0])
            open_teacher(config.teacher)
        read_samples(config)  # errors in data and teacher come before a folder is made
        create(run_dir, config)
        print(f"weights: {source.weights} ({source.how}); images from {', '.join(folders)}")
    what = " + ".join(name for name in ("distill", "multibox", "teacher") if getattr(config, name))
    print(f"{config.steps} steps of {config.batch} images at {config.size} px, {what}; run directory {run_dir}")
    run_all(config, run_dir)


def given_settings(args: flags.FlagValues) -> dict[str, Any]:
    """Settings that the user gave on the command line."""
    names = [field.name for field in dataclasses.fields(QatConfig) if field.name not in ("weights", "data_dirs")]
    given = {name: args[name].value for name in names if args[name].value is not None}
    for name, kind in (("label_trust", int), ("data_weights", float)):
        if name in given:
            given[name] = numbers(name, given[name], kind)
    return given


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    with user_errors():
        run(flags.FLAGS)


def define_flags() -> None:
    """One flag per setting; one that is not given keeps the default of `QatConfig`."""
    flags.DEFINE_string(
        "weights", None, "float or tuned weights file, or run directory (default: newest run, else the shipped)"
    )
    flags.DEFINE_multi_string(
        "data_dir",
        [],
        "folder of images; labels are needed for --multibox only; several may be given (default: the run's)",
    )
    flags.DEFINE_string("run_dir", None, "folder of the run (default: runs/<date>-<time>-qat)")
    flags.DEFINE_boolean("resume", False, "go on with --run_dir")
    texts = {
        "size": "input side in pixels, a multiple of 32 (default: the run's, else 640)",
        "steps": "steps of quantization-aware tuning",
        "batch": "images per step",
        "learning_rate": "peak of Adam, cosine to 1 %",
        "warmup_steps": "steps of linear growth to the peak",
        "distill": "imitate the float network",
        "multibox": "the training loss on labels",
        "teacher": "SCRFD network (.onnx) or weights file to learn from, too, as rf_keras.train does (default: none)",
        "closeups": "share of the images that show one of their faces filling the frame, 0 to 1",
        "teacher_mirror": "ask the teacher about mirror images, too, and learn the mean of both answers",
        "learn_ranges": "train the activation ranges instead of freezing them",
        "ema_decay": "of the averaged weights",
        "swap_steps": "steps of float tuning after --activation_swap",
        "swap_learning_rate": "peak of that tuning",
        "percentile": "upper percentile of --method percentile",
        "calibration_images": "images at most",
        "equalize": "even out the channels in front of depthwise convs before calibration",
        "bias_correction": "start from biases that take back the mean error of rounding",
        "val_images": "images held out for choosing the best weights",
        "val_every": "steps between validations and checkpoints",
        "seed": "of order and augmentation",
    }
    makers: dict[type, Any] = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for name, text in texts.items():
        default = getattr(QatConfig, name)
        makers[type(default)](name, None, text if "default" in text else f"{text} (default {default})")
    flags.DEFINE_list(
        "label_trust",
        None,
        "per --data_dir 1 where its labels correct the teacher's scores, else 0, comma-separated (default: nowhere)",
    )
    flags.DEFINE_list(
        "data_weights",
        None,
        "share of the items from each --data_dir, comma-separated (default: by number of images)",
    )
    flags.DEFINE_enum("method", None, METHODS, f"how activation ranges are chosen (default {QatConfig.method})")
    flags.DEFINE_enum("activation_swap", None, ["relu"], "replace LeakyReLU by ReLU and tune in float first")


if __name__ == "__main__":
    define_flags()
    app.run(main)
