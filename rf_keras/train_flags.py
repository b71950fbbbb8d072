"""Command-line flags of training: one per setting of `TrainConfig`, plus those that say what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from absl import flags

from rf_keras.augment import PRESETS as AUGMENTATIONS
from rf_keras.config import ACTIVATIONS, PRESETS, SYNTHETIC, ModelConfig, TrainConfig

SETTINGS = {
    "data_dirs": "",  # --data_dir, given several times
    "data_weights": "share of the items from each --data_dir, comma-separated (default: by number of images)",
    "val_dir": "labelled folder for validation (default: --val_share of the training images, held out)",
    "val_share": "share of the training images held out for validation",
    "val_images": "validation images at most",
    "size": "side of the training images, pixels, a multiple of 32",
    "more_sizes": "further sides, comma-separated; steps take turns (640 with 320 here: one model for both inputs)",
    "val_size": "letterbox size in validation, pixels (0: as --size)",
    "batch": "images per step, over all replicas",
    "epochs": "passes over the training images",
    "steps_per_epoch": "steps that count as one pass (0: each training image once)",
    "augment": f"augmentation preset: {', '.join(AUGMENTATIONS)}",
    "closeups": "share of the images that show one of their faces filling the frame, 0 to 1",
    "optimizer": "sgd or adamw",
    "learning_rate": "peak learning rate",
    "momentum": "of sgd",
    "warmup_steps": "steps of linear growth to the peak rate",
    "schedule": "cosine, or step (÷10 at each of --milestones)",
    "milestones": "comma-separated shares of the run, 0 to 1",
    "weight_decay": "on convolution kernels only",
    "ema_decay": "of the averaged weights (0: off)",
    "clip_norm": "largest global gradient norm (0: off)",
    "freeze_bn": "keep BN statistics and scales as they are",
    "mixed_precision": "compute in float16 (GPUs)",
    "init": "weights file to start from; its network is used, changed by the network flags",
    "teacher": "SCRFD network (.onnx) or weights file (.keras) whose outputs are the targets instead of labels",
    "teacher_features": "weight of a loss by which the network's features predict the teacher's (0: off)",
    "teacher_mirror": "ask the teacher about mirror images, too, and learn the mean of both answers",
    "label_trust": "per --data_dir 1 where its labels correct the teacher's scores, else 0, comma-separated "
    "(default: nowhere)",
    "val_every": "epochs between validations",
    "checkpoint_steps": "steps between checkpoints",
    "distribute": "none, mirrored (all local devices) or multiworker (TF_CONFIG)",
    "seed": "of weights, order and augmentation",
}
LISTS: dict[str, Callable[[str], Any]] = {
    "data_weights": float,
    "milestones": float,
    "more_sizes": int,
    "label_trust": int,
}
NETWORK = ("activation", "width", "blocks", "anchor_sizes", "class_logits", "antialias")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Define them; a setting that is not given stays None and leaves the preset's value."""
    flags.DEFINE_enum("config", "fast", sorted(PRESETS), "preset that the other settings change", flag_values=values)
    flags.DEFINE_multi_string(
        "data_dir",
        [],
        "folder with label.txt and images/; several may be given (default: synthetic)",
        flag_values=values,
    )
    flags.DEFINE_string("run_dir", None, "folder of the run (default: runs/<date>-<time>-<config>)", flag_values=values)
    flags.DEFINE_boolean(
        "resume", False, "go on with --run_dir, or with the newest run below runs/", flag_values=values
    )
    flags.DEFINE_string(
        "repeat", None, "run directory whose config.json a new run starts with, instead of --config", flag_values=values
    )
    flags.DEFINE_boolean("dry_run", False, "print the plan and stop", flag_values=values)
    flags.DEFINE_float(
        "max_missing",
        0.0,
        "largest share (0 to 1) of labelled images that may be missing",
        0.0,
        1.0,
        flag_values=values,
    )
    flags.DEFINE_string("json", None, "file for the final figures", flag_values=values)
    flags.DEFINE_enum("activation", None, ACTIVATIONS, "activation of the network", flag_values=values)
    flags.DEFINE_float("width", None, "backbone width: 0.25, 0.5, 1.0", flag_values=values)
    flags.DEFINE_list(
        "blocks", None, "residual blocks at strides 16 and 32, e.g. 3,3 (backbone of fast only)", flag_values=values
    )
    flags.DEFINE_string(
        "anchor_sizes", None, "anchor sizes in pixels, e.g. 10,20/32,64/128,256 (levels split by /)", flag_values=values
    )
    flags.DEFINE_integer(
        "class_logits", None, "per anchor: 2 (background, face) or 1 (face − background)", flag_values=values
    )
    flags.DEFINE_boolean(
        "antialias",
        None,
        "halve photos that are at least twice as large as the input before they are letterboxed (kept in the model)",
        flag_values=values,
    )
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    makers: dict[type, Any] = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for name, text in SETTINGS.items():
        if name == "data_dirs":
            continue
        default = defaults[name]
        if name in LISTS:
            flags.DEFINE_list(name, None, text, flag_values=values)
        else:
            kind = str if default is None else type(default)
            shown = "" if default is None else f" (default {default}{_preset_note(name)})"
            makers[kind](name, None, text + shown, flag_values=values)


def _preset_note(name: str) -> str:
    other = [f"{key}: {getattr(preset, name)}" for key, preset in PRESETS.items()]
    different = [note for note, preset in zip(other, PRESETS.values(), strict=True) if _differs(preset, name)]
    if name in SYNTHETIC:
        different.append(f"synthetic faces: {SYNTHETIC[name]}")
    return "; " + "; ".join(different) if different else ""


def _differs(preset: TrainConfig, name: str) -> bool:
    return getattr(preset, name) != getattr(TrainConfig(), name)


def parse_anchor_sizes(text: str) -> tuple[tuple[float, ...], ...]:
    """`10,20/32,64/128,256` → sizes per level.

    Raises:
        ValueError: anything else.
    """
    try:
        return tuple(tuple(float(size) for size in level.split(",")) for level in text.split("/"))
    except ValueError as error:
        raise ValueError(f"--anchor_sizes is {text!r}, expected e.g. 10,20/32,64/128,256") from error


def numbers(name: str, parts: list[str], kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """The parts of a comma-separated flag as numbers."""
    try:
        return tuple(kind(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"--{name} is {','.join(parts)!r}, expected numbers split by commas") from error


def given_settings(args: flags.FlagValues) -> dict[str, Any]:
    """Settings of `TrainConfig` that the user gave."""
    given: dict[str, Any] = {}
    for name in SETTINGS:
        if name == "data_dirs":
            continue
        value = args[name].value
        if value is None:
            continue
        if name in LISTS:
            value = numbers(name, value, LISTS[name])
        given[name] = value
    if args.data_dir:
        given["data_dirs"] = tuple(args.data_dir)
    return given


def given_network(args: flags.FlagValues) -> dict[str, Any]:
    """Settings of `ModelConfig` that the user gave."""
    given = {name: args[name].value for name in NETWORK if args[name].value is not None}
    if "anchor_sizes" in given:
        given["anchor_sizes"] = parse_anchor_sizes(given["anchor_sizes"])
    if "blocks" in given:
        given["blocks"] = numbers("blocks", given["blocks"], int)
    return given


def config_from_flags(
    args: flags.FlagValues, init_network: ModelConfig | None, repeated: TrainConfig | None = None
) -> TrainConfig:
    """The preset, changed by the synthetic defaults (no --data_dir), by --init's network, and by what was given; or a
    `repeated` run's configuration, changed by what was given."""
    preset = repeated or PRESETS[args.config]
    settings: dict[str, Any] = {} if args.data_dir or repeated else dict(SYNTHETIC)
    settings |= given_settings(args)
    network = dataclasses.replace(init_network or preset.model, **given_network(args))
    return dataclasses.replace(preset, model=network, **settings)
