"""Network and training settings: frozen dataclasses, and the named presets that combine them. Needs no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rf_keras.augment_config import PRESETS as AUGMENTATIONS
from rf_keras.distillation.config import Distillation
from rf_keras.input_size import fixed_sides
from tflite.anchors import make_anchors
from tflite.command import option
from tflite.mesh import MAX_COEFFICIENTS
from tflite.spec import ModelSpec

T = TypeVar("T")

BACKBONES = ("mobilenet", "fast", "resnet50")
ACTIVATIONS = ("leaky_relu", "relu")
Anchors = tuple[tuple[float, ...], ...]  # sizes in pixels, per level
REFERENCE_ANCHORS = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
SMALL_ANCHORS = ((10.0, 20.0), (32.0, 64.0), (128.0, 256.0))
STRIDES = (8, 16, 32)  # of the features that every backbone gives, pixels
# Bounds of a network, above all of one that a file names: the largest takes about as much memory as ResNet-50.
MAX_WIDTH, MAX_BLOCKS, MAX_CHANNELS, MAX_ANCHORS, MAX_ANCHOR_SIZE, MAX_VARIANCE = 2.0, 32, 512, 48, 8192, 10.0
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "step")
DISTRIBUTIONS = ("none", "mirrored", "multiworker")
# A teacher's scores say how well a box fits, and few pass 0.8; so do its student's. From here on a student shows about
# what a network trained by labels shows from 0.5 on (benchmarks/operating_point.py).
TAUGHT_THRESHOLD = 0.4


def parse_anchor_sizes(text: str) -> tuple[tuple[float, ...], ...]:
    """`10,20/32,64/128,256` → sizes per level.

    Raises:
        ValueError: anything else.
    """
    try:
        return tuple(tuple(float(size) for size in level.split(",")) for level in text.split("/"))
    except ValueError as error:
        raise ValueError(f"--anchor_sizes is {text!r}, expected e.g. 10,20/32,64/128,256") from error


def format_anchors(sizes: Anchors) -> str:
    """As `--anchor_sizes` takes them: `16,32/64,128/256,512`."""
    return "/".join(",".join(f"{size:g}" for size in level) for level in sizes)


@dataclass(frozen=True)
class ModelConfig:
    """What the network is; stored in every weights file, so that no later command must be told again.

    Attributes:
        backbone: "mobilenet" (V1, depthwise), "fast" (3×3 convs chosen for int8 on CPU) or "resnet50".
        width: backbone width multiplier (mobilenet: 0.25, 0.5, 1.0).
        blocks: residual blocks of "fast" at strides 16 and 32; the other backbones keep the default.
        activation: "leaky_relu" (slope 0.1, the reference) or "relu".
        neck_channels: FPN channels.
        ssh_channels: output channels of an SSH context module, a multiple of 4 (½ + ¼ + ¼).
        class_logits: 2 (background, face: the reference) or 1 (face − background).
        strides, anchor_sizes: pixels, per level.
        variances: (centre, size) of the box code.
        antialias: photos at least twice as large as the input are halved before they are letterboxed (`ModelSpec`).
        mesh: coefficients of a dense face per anchor (`tflite.mesh`); 0: no mesh branch.
    """

    backbone: str = "mobilenet"
    width: float = option(0.25, "backbone width: 0.25, 0.5, 1.0", hidden=True)
    blocks: tuple[int, int] = option(
        (2, 1), "residual blocks at strides 16 and 32, e.g. 3,3 (backbone of fast only)", hidden=True
    )
    activation: str = option("leaky_relu", "activation of the network", choices=ACTIVATIONS)
    neck_channels: int = 64
    ssh_channels: int = 64
    class_logits: int = option(2, "per anchor: 2 (background, face) or 1 (face − background)", hidden=True)
    strides: tuple[int, ...] = STRIDES
    anchor_sizes: Anchors = option(
        REFERENCE_ANCHORS,
        "anchor sizes in pixels, e.g. 10,20/32,64/128,256 (levels split by /)",
        parse=parse_anchor_sizes,
        show=format_anchors,
    )
    variances: tuple[float, float] = ModelSpec.variances  # type: ignore[assignment]
    antialias: bool = option(
        False,
        "halve photos that are at least twice as large as the input before they are letterboxed (kept in the model)",
        hidden=True,
    )
    mesh: int = 0

    def __post_init__(self) -> None:
        if self.backbone == "plain":  # its name in weights of version 0.1
            object.__setattr__(self, "backbone", "fast")
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone[:40]!r}, expected one of {', '.join(BACKBONES)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}, expected one of {ACTIVATIONS}")
        if self.class_logits not in (1, 2):
            raise ValueError(f"class_logits is {self.class_logits!r}, expected 1 or 2")
        if len(self.blocks) != 2 or not 0 <= min(self.blocks) <= max(self.blocks) <= MAX_BLOCKS:
            raise ValueError(f"blocks is {self.blocks}, expected two counts of 0 to {MAX_BLOCKS}, at strides 16 and 32")
        if self.backbone != "fast" and self.blocks != ModelConfig.blocks:
            raise ValueError(f"blocks is {self.blocks}, but only the backbone of fast has them, found {self.backbone}")
        if not 0 < self.width <= MAX_WIDTH:
            raise ValueError(f"width is {self.width}, expected a number above 0, at most {MAX_WIDTH:g}")
        if not 0 < self.neck_channels <= MAX_CHANNELS:
            raise ValueError(f"neck_channels is {self.neck_channels}, expected 1 to {MAX_CHANNELS}")
        if self.ssh_channels % 4 or not 0 < self.ssh_channels <= MAX_CHANNELS:
            raise ValueError(f"ssh_channels is {self.ssh_channels}, expected a multiple of 4 up to {MAX_CHANNELS}")
        if self.strides != STRIDES:
            raise ValueError(f"strides are {self.strides}, expected {STRIDES}, those of the backbones")
        if len({len(level) for level in self.anchor_sizes}) != 1 or len(self.anchor_sizes) != len(self.strides):
            raise ValueError(f"anchor_sizes {self.anchor_sizes} need the same count for each of strides {self.strides}")
        sizes = [size for level in self.anchor_sizes for size in level]
        if not 0 < len(sizes) <= MAX_ANCHORS or not all(0 < size <= MAX_ANCHOR_SIZE for size in sizes):
            raise ValueError(
                f"anchor_sizes are {self.anchor_sizes}, expected up to {MAX_ANCHORS} sizes above 0 and up to "
                f"{MAX_ANCHOR_SIZE} pixels"
            )
        if len(self.variances) != 2 or not all(0 < one <= MAX_VARIANCE for one in self.variances):
            raise ValueError(f"variances are {self.variances}, expected two numbers above 0, at most {MAX_VARIANCE:g}")
        if not 0 <= self.mesh <= MAX_COEFFICIENTS:
            raise ValueError(f"mesh is {self.mesh}, expected 0 to {MAX_COEFFICIENTS} coefficients")

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0])

    def anchors(self, height: int, width: int) -> np.ndarray:
        """float32 [A, 3] (cx, cy, size) in pixels for an input of `height` × `width`."""
        return make_anchors(height, width, self.strides, self.anchor_sizes)

    def spec(self, height: int, width: int, **overrides: Any) -> ModelSpec:
        """The device-side spec of this network at one input size."""
        shared: dict[str, Any] = {
            "strides": self.strides,
            "anchor_sizes": self.anchor_sizes,
            "variances": self.variances,
            "antialias": self.antialias,
        }
        return ModelSpec(input_height=height, input_width=width, **shared, **overrides)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on; written to its `config.json`, from which it can be repeated.

    The crops of a training image of N pixels hold no face above N, and in those of 640 small faces are rarer: a model
    for two input sizes should see both (`more_sizes`).

    Attributes:
        model: the network.
        data_dirs: folders with labels; empty: the built-in synthetic faces.
        distillation: who teaches. Labels then still choose the crops and the validation AP, and say what a teacher does
            not know (`distillation.losses`). None: learn from the labels.
    """

    model: ModelConfig = ModelConfig()
    data_dirs: tuple[str, ...] = ()
    data_weights: tuple[float, ...] | None = option(
        None, "share of the items from each --data_dir, comma-separated (default: by number of images)"
    )
    val_dir: str | None = option(
        None, "labelled folder for validation (default: a share of the training images, held out)"
    )
    val_share: float = option(0.05, "share of the training images held out for validation", hidden=True)
    val_images: int = option(200, "validation images at most", hidden=True)
    size: int = option(640, "side of the square training images, pixels, a multiple of 32")
    more_sizes: tuple[int, ...] = option(
        (), "further sides, pixels, comma-separated; steps take turns (640 with 320 here: one model for both inputs)"
    )
    val_size: str = option(
        "", "letterbox size in validation, N or HEIGHTxWIDTH, multiples of 32 (empty: as size)", hidden=True
    )
    batch: int = option(16, "images per step, over all replicas")
    epochs: int = option(100, "passes over the training images")
    steps_per_epoch: int = option(0, "steps that count as one pass (0: each training image once)")
    augment: str = option("scale", "augmentation preset", choices=tuple(AUGMENTATIONS))
    closeups: float = option(
        0.0,
        "share of the images that show one of their faces filling the frame, 0 to 1; with a teacher, faces that large "
        "are learned from their labels",
    )
    optimizer: str = option("sgd", "optimizer: SGD with momentum, or Adam with decoupled decay", choices=OPTIMIZERS)
    learning_rate: float = option(0.02, "peak learning rate")
    momentum: float = option(0.9, "of sgd", hidden=True)
    warmup_steps: int = option(
        500, "steps of linear growth to the peak rate; unless given, a tenth of the run at most", hidden=True
    )
    schedule: str = option("cosine", "cosine to 1 %, or step: ÷10 at each milestone", choices=SCHEDULES, hidden=True)
    milestones: tuple[float, ...] = option((), "comma-separated shares of the run, 0 to 1", hidden=True)
    weight_decay: float = option(
        5e-4, "on convolution kernels only; L2 in the gradient for sgd, decoupled for adamw", hidden=True
    )
    ema_decay: float = option(0.999, "of the averaged weights, which are evaluated and kept (0: off)", hidden=True)
    clip_norm: float = option(10.0, "largest global norm of the gradient (0: off)", hidden=True)
    freeze_bn: bool = option(False, "keep BN statistics and scales as they are", hidden=True)
    mixed_precision: bool = option(False, "compute in float16 (GPUs)")
    init: str | None = option(
        None, "weights file (.keras) to start from; its network is used, changed by the network's flags"
    )
    keep_scores: bool = option(
        True,
        "with --init of a network that a teacher taught: learn its own answers, corrected by the labels; labels alone "
        "would give every anchor on a face the same score",
        hidden=True,
    )
    distillation: Distillation | None = None
    val_every: int = option(1, "epochs between validations", hidden=True)
    checkpoint_steps: int = option(500, "steps between checkpoints", hidden=True)
    distribute: str = option(
        "none", "none, mirrored (all local devices) or multiworker (TF_CONFIG)", choices=DISTRIBUTIONS
    )
    seed: int = option(0, "of weights, order and augmentation")

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")

        need(self.size > 0 and self.size % 32 == 0, "size", "a multiple of 32")
        need(all(s > 0 and s % 32 == 0 for s in self.more_sizes), "more_sizes", "multiples of 32")
        need(
            not self.val_size or fixed_sides(self.val_size) is not None,
            "val_size",
            "N or HEIGHTxWIDTH, multiples of 32",
        )
        for name in ("batch", "epochs", "val_every", "val_images", "checkpoint_steps"):
            need(getattr(self, name) >= 1, name, "at least 1")
        for name, known in (
            ("augment", tuple(AUGMENTATIONS)),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("distribute", DISTRIBUTIONS),
        ):
            need(getattr(self, name) in known, name, f"one of {', '.join(known)}")
        need(self.learning_rate > 0, "learning_rate", "a positive number")
        need(self.steps_per_epoch >= 0, "steps_per_epoch", "0 or more")
        need(0 <= self.closeups <= 1, "closeups", "a share between 0 and 1")
        for name in ("momentum", "ema_decay", "val_share"):
            need(0 <= getattr(self, name) < 1, name, "a number from 0 to below 1")
        for name in ("weight_decay", "clip_norm", "warmup_steps"):
            need(getattr(self, name) >= 0, name, "0 or more")
        if self.distillation is not None:
            self.distillation.check_folders(self.data_dirs)
        elif AUGMENTATIONS[self.augment].needs_teacher:
            raise ValueError(
                f"augment is {self.augment!r}, whose images leave their labels behind: expected a --teacher to answer"
            )
        need(all(0 < m < 1 for m in self.milestones), "milestones", "shares of the run between 0 and 1")
        sizes = self.model.anchor_sizes
        if min(sizes[0]) > min(self.sizes):
            raise ValueError(f"anchor_sizes {sizes} are larger than the training size of {min(self.sizes)} px")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the training images, in the order of their turns."""
        return (self.size, *self.more_sizes)


FAST = ModelConfig(
    backbone="fast",
    width=1.0,
    blocks=(5, 6),
    activation="relu",
    neck_channels=48,
    ssh_channels=48,
    class_logits=1,
    anchor_sizes=SMALL_ANCHORS,
    antialias=True,
)

PRESETS = {
    # The reference network with our recipe.
    "mobilenet0.25": TrainConfig(),
    # The reference network with the reference's recipe (Pytorch_Retinaface, config.py and train.py).
    "reference": TrainConfig(
        batch=32,
        epochs=250,
        augment="reference",
        learning_rate=1e-3,
        warmup_steps=0,
        schedule="step",
        milestones=(190 / 250, 220 / 250),
        ema_decay=0.0,
        clip_norm=0.0,
    ),
    # Plain convs, ReLU, one-logit heads, small anchors: the fast int8 network. The shipped weights have larger anchors;
    # `--init` takes them over.
    "fast": TrainConfig(model=FAST),
    # The reference's large network.
    "resnet50": TrainConfig(
        model=ModelConfig(backbone="resnet50", width=1.0, neck_channels=256, ssh_channels=256), batch=8
    ),
}

# Without --data_dir: small synthetic images, chosen to end within 4 minutes on 2 slow cores.
SYNTHETIC: dict[str, Any] = {
    "size": 160,
    "epochs": 17,
    "batch": 32,
    "learning_rate": 0.04,
    "warmup_steps": 50,
    "ema_decay": 0.99,
    "augment": "light",
    "val_every": 8,
}

WARMUP_SHARE = 0.1  # of a run's steps, at most
# With --init, where the preset does not say otherwise: a few dozen photos are not to undo what thousands taught.
FINE_TUNING: dict[str, Any] = {
    "epochs": 20,
    "batch": 8,
    "learning_rate": 0.002,
    "freeze_bn": True,  # batches of a few photos know less of the statistics than the start does
    "ema_decay": 0.98,  # over 50 steps: one epoch of a few photos is not better than the next for more than luck
    "val_share": 0.2,  # of 60 photos a twentieth would be three
}


def kept(config: TrainConfig, meta: dict[str, Any]) -> TrainConfig:
    """A fine-tuning's configuration, with the start as its own teacher where one taught it.

    A teacher's scores say how well a box fits. Labels alone would teach all anchors on a face the same score, so that
    suppression kept any of them, with its box and points.

    Args:
        config: with `init`.
        meta: facts of that weights file.
    """
    if not (config.keep_scores and config.init and config.data_dirs) or config.distillation is not None:
        return config
    comparable = (config.model.strides, config.model.anchor_sizes) == (ModelConfig.strides, REFERENCE_ANCHORS)
    if default_threshold(meta) != TAUGHT_THRESHOLD or not comparable:
        return config
    start = Distillation(config.init, correct_with_labels=(1,) * len(config.data_dirs))
    return dataclasses.replace(config, distillation=start)


def fine_tuning_of(preset: TrainConfig) -> dict[str, Any]:
    """`FINE_TUNING` without the settings that `preset` itself chose."""
    return {name: value for name, value in FINE_TUNING.items() if getattr(preset, name) == getattr(TrainConfig, name)}


def fitted(config: TrainConfig, images: int, given: Collection[str]) -> TrainConfig:
    """`config` for so many training images: a warm-up of `WARMUP_SHARE` of the run at most, and in fine-tuning no
    larger batch than there are images. Settings that were given stay.
    """
    if config.init and "batch" not in given:
        config = dataclasses.replace(config, batch=max(1, min(config.batch, images)))
    if "warmup_steps" in given:
        return config
    steps = config.epochs * (config.steps_per_epoch or images // config.batch)
    return dataclasses.replace(config, warmup_steps=min(config.warmup_steps, int(WARMUP_SHARE * steps)))


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data."""
    return dataclasses.asdict(config)


def config_from_dict(kind: type[T], data: Any, name: str = "config") -> T:
    """Inverse of `config_to_dict` for a dataclass of numbers, texts, tuples and other such dataclasses.

    Raises:
        ValueError: an unknown setting, or no settings at all; names `name`.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{name}: found {type(data).__name__}, expected settings of {kind.__name__}")
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise ValueError(f"{name}: unknown settings {unknown}, expected some of {sorted(hints)}")

    return kind(**{key: _value(hints[key], found, f"{name}: {key}") for key, found in data.items()})


def _value(hint: Any, found: Any, name: str) -> Any:
    """`found` as a value of the type `hint`: a dataclass, a tuple, int, float, bool, str, or one of them or None.

    Raises:
        ValueError: it is of another type, or not finite; names `name`.
    """
    kinds = typing.get_args(hint)
    if type(None) in kinds:
        return None if found is None else _value(kinds[0], found, name)
    if dataclasses.is_dataclass(hint):
        return config_from_dict(hint, found, name)  # type: ignore[arg-type]
    if kinds and isinstance(found, (list, tuple)):  # a tuple: of one kind and any length, or of a kind for each place
        parts = kinds[:1] * len(found) if kinds[-1] is ... else kinds
        if len(parts) == len(found):
            return tuple(_value(part, one, name) for part, one in zip(parts, found, strict=True))
    number = type(found) is int or (type(found) is float and math.isfinite(found))
    if kinds or not (number and abs(found) < 1e30 if hint is float else type(found) is hint):
        expected = hint if kinds else hint.__name__
        raise ValueError(f"{name} is {str(found)[:100]!r}, expected {expected}")
    return found


def as_tuples(found: Any) -> Any:
    """Lists, also inside of lists, as tuples."""
    return tuple(map(as_tuples, found)) if isinstance(found, list) else found


def check_no_mesh(model: ModelConfig, name: object) -> None:
    """Refuse a network whose mesh branch would no longer fit what it is to become.

    Raises:
        ValueError: it has one; names the file.
    """
    if model.mesh:
        raise ValueError(f"{name}: has a mesh branch, expected the weights that it was given to; it is trained at last")


def default_threshold(meta: dict[str, Any]) -> float:
    """Probability from which weights with these facts (`model_file.load_model`) count a face: by how they learned to
    score."""
    training = meta.get("train") or {}
    taught = training.get("distillation") or training.get("teacher")  # the latter in files of earlier versions
    taught = taught or any(part["teacher"] for part in meta.get("parts") or ())
    return TAUGHT_THRESHOLD if taught else ModelSpec.score_threshold
