"""Network and training settings: frozen dataclasses, and the named presets that combine them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite.anchors import make_anchors
from tflite.spec import ModelSpec

ACTIVATIONS = ("leaky_relu", "relu")
REFERENCE_ANCHORS = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
SMALL_ANCHORS = ((10.0, 20.0), (32.0, 64.0), (128.0, 256.0))


@dataclass(frozen=True)
class ModelConfig:
    """What the network is; stored in every weights file, so that no later command must be told again.

    Attributes:
        backbone: "mobilenet" (V1, depthwise), "plain" (3×3 convs chosen for int8 on CPU) or "resnet50".
        width: backbone width multiplier (mobilenet: 0.25, 0.5, 1.0).
        blocks: residual blocks of "plain" at strides 16 and 32; the other backbones keep the default.
        activation: "leaky_relu" (slope 0.1, the reference) or "relu".
        neck_channels: FPN channels.
        ssh_channels: output channels of an SSH context module, a multiple of 4 (½ + ¼ + ¼).
        class_logits: 2 (background, face: the reference) or 1 (face − background).
        strides, anchor_sizes: pixels, per level.
        variances: (centre, size) of the box code.
        antialias: photos at least twice as large as the input are halved before they are letterboxed (`ModelSpec`).
    """

    backbone: str = "mobilenet"
    width: float = 0.25
    blocks: tuple[int, int] = (2, 1)
    activation: str = "leaky_relu"
    neck_channels: int = 64
    ssh_channels: int = 64
    class_logits: int = 2
    strides: tuple[int, ...] = (8, 16, 32)
    anchor_sizes: tuple[tuple[float, ...], ...] = REFERENCE_ANCHORS
    variances: tuple[float, float] = ModelSpec.variances  # type: ignore[assignment]
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}, expected one of {ACTIVATIONS}")
        if self.class_logits not in (1, 2):
            raise ValueError(f"class_logits is {self.class_logits!r}, expected 1 or 2")
        if len(self.blocks) != 2 or min(self.blocks) < 0:
            raise ValueError(f"blocks is {self.blocks}, expected two counts of 0 or more, at strides 16 and 32")
        if self.backbone != "plain" and self.blocks != ModelConfig.blocks:
            raise ValueError(f"blocks is {self.blocks}, but only the plain backbone has them, found {self.backbone}")
        if self.ssh_channels % 4:
            raise ValueError(f"ssh_channels is {self.ssh_channels}, expected a multiple of 4")
        if len({len(level) for level in self.anchor_sizes}) != 1 or len(self.anchor_sizes) != len(self.strides):
            raise ValueError(f"anchor_sizes {self.anchor_sizes} need the same count for each of strides {self.strides}")

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


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data."""
    return dataclasses.asdict(config)


def model_config_from_dict(data: dict[str, Any], name: str = "config") -> ModelConfig:
    """Inverse of `config_to_dict`; unknown settings are errors."""
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{name}: unknown model settings {unknown}, expected some of {sorted(known)}")
    data = dict(data)
    for key in ("strides", "variances", "blocks"):
        if key in data:
            data[key] = tuple(data[key])
    if "anchor_sizes" in data:
        data["anchor_sizes"] = tuple(tuple(float(size) for size in level) for level in data["anchor_sizes"])
    return ModelConfig(**data)


def trust_fits(label_trust: tuple[int, ...], data_dirs: tuple[str, ...]) -> bool:
    """Whether `label_trust` says 0 or 1 for each data folder, or nothing at all."""
    return len(label_trust) in (0, len(data_dirs)) and set(label_trust) <= {0, 1}


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on; written to its `config.json`, from which it can be repeated.

    Attributes:
        model: the network.
        data_dirs: folders with labels; empty: the built-in synthetic faces.
        data_weights: share of items per folder; None: by number of images.
        val_dir: labelled folder for validation AP; None: `val_share` of the training images, held out.
        val_share: share of the training images held out, at most 200 images.
        val_images: at most this many validation images.
        size: side of the square training images, pixels, a multiple of 32. Validation letterboxes to `val_size`, or
            this where that is 0.
        more_sizes: further sides of training images; steps take turns, `size` first. A crop of 320 pixels holds no face
            above 320, and in crops of 640 small faces are rarer, so a model for both inputs should see both.
        batch: images per step, over all replicas.
        epochs: passes over the training images.
        steps_per_epoch: steps that count as one pass; 0: as many as show each training image once.
        augment: preset of `augment.PRESETS`.
        closeups: share of the images that show one of their faces filling the frame (`augment.choose_closeup`), of
            those that have one large enough. With a teacher, faces of at least `losses.LARGE_FACE` of the image are
            then learned from the labels: teachers do not know them.
        optimizer: "sgd" (momentum) or "adamw".
        learning_rate: peak.
        warmup_steps: steps of linear growth to the peak.
        schedule: "cosine" to 1 % of the peak, or "step": ÷10 at each of `milestones`.
        milestones: shares of the run, 0 to 1.
        weight_decay: on convolution kernels only; L2 in the gradient for sgd, decoupled for adamw.
        ema_decay: of the averaged weights that are evaluated and kept as best; 0: off.
        clip_norm: largest global norm of the gradient; 0: off.
        freeze_bn: keep BN statistics and scales as they are.
        mixed_precision: compute in float16 (GPUs).
        init: weights file to start from.
        teacher: file of a network (`teacher.open_teacher`) whose outputs replace labels, matching and mining as the
            targets. Labels still choose the crops and the validation AP. None: learn from the labels.
        teacher_features: weight of the loss that makes the network's features predict the teacher's; 0: off.
        teacher_mirror: ask the teacher about each image's mirror image, too, and learn the mean of its answers.
        label_trust: per data folder 1 where labels correct the teacher's scores (`losses.corrected_by_labels`), 0
            where they do not, e.g. because a network made them; empty: nowhere.
        val_every: epochs between validations.
        checkpoint_steps: steps between checkpoints.
        distribute: "none", "mirrored" (all local devices) or "multiworker" (TF_CONFIG).
        seed: of weights, order and augmentation.
    """

    model: ModelConfig = ModelConfig()
    data_dirs: tuple[str, ...] = ()
    data_weights: tuple[float, ...] | None = None
    val_dir: str | None = None
    val_share: float = 0.05
    val_images: int = 200
    size: int = 640
    more_sizes: tuple[int, ...] = ()
    val_size: int = 0
    batch: int = 16
    epochs: int = 100
    steps_per_epoch: int = 0
    augment: str = "scale"
    closeups: float = 0.0
    optimizer: str = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    warmup_steps: int = 500
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    weight_decay: float = 5e-4
    ema_decay: float = 0.999
    clip_norm: float = 10.0
    freeze_bn: bool = False
    mixed_precision: bool = False
    init: str | None = None
    teacher: str | None = None
    teacher_features: float = 0.0
    teacher_mirror: bool = False
    label_trust: tuple[int, ...] = ()
    val_every: int = 1
    checkpoint_steps: int = 500
    distribute: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")

        need(self.size > 0 and self.size % 32 == 0, "size", "a multiple of 32")
        need(all(s > 0 and s % 32 == 0 for s in self.more_sizes), "more_sizes", "multiples of 32")
        need(self.val_size >= 0 and self.val_size % 32 == 0, "val_size", "0 or a multiple of 32")
        for name in ("batch", "epochs", "val_every", "val_images", "checkpoint_steps"):
            need(getattr(self, name) >= 1, name, "at least 1")
        need(self.optimizer in ("sgd", "adamw"), "optimizer", "sgd or adamw")
        need(self.schedule in ("cosine", "step"), "schedule", "cosine or step")
        need(self.distribute in ("none", "mirrored", "multiworker"), "distribute", "none, mirrored or multiworker")
        need(self.learning_rate > 0, "learning_rate", "a positive number")
        need(self.steps_per_epoch >= 0, "steps_per_epoch", "0 or more")
        need(0 <= self.closeups <= 1, "closeups", "a share between 0 and 1")
        for name in ("momentum", "ema_decay", "val_share"):
            need(0 <= getattr(self, name) < 1, name, "a number from 0 to below 1")
        for name in ("weight_decay", "clip_norm", "warmup_steps", "teacher_features"):
            need(getattr(self, name) >= 0, name, "0 or more")
        for name in ("teacher_features", "teacher_mirror", "label_trust"):
            need(bool(self.teacher) or not getattr(self, name), name, "0 or nothing without a teacher")
        trust = trust_fits(self.label_trust, self.data_dirs)
        need(trust, "label_trust", f"0 or 1 for each of {len(self.data_dirs)} data folders")
        need(all(0 < m < 1 for m in self.milestones), "milestones", "shares of the run between 0 and 1")
        sizes = self.model.anchor_sizes
        if min(sizes[0]) > min(self.sizes):
            raise ValueError(f"anchor_sizes {sizes} are larger than the training size of {min(self.sizes)} px")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the training images, in the order of their turns."""
        return (self.size, *self.more_sizes)


FAST = ModelConfig(
    backbone="plain",
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
    # Plain convs, ReLU, one-logit heads, small anchors: the fast int8 network. From scratch by labels, 258,896 images
    # seen (five hours on 2 cores): 82.3 / 82.1 / 56.5 on wider/dev at 640 and 76.1 / 69.1 / 32.4 at 320. The shipped
    # weights went on from there with a teacher and its anchors, 16…512, with (3, 3), then (4, 5), then (5, 6) blocks
    # instead of (2, 1): 89.2 / 89.0 / 63.9 and 85.0 / 78.9 / 36.2 (MODEL_CARD, parts T to Z), and after seven
    # minutes on a GPU, with labels correcting the teacher in the end, 90.5 / 90.3 / 68.5 and 86.6 / 81.3 / 38.4.
    # `--init` takes the network of the weights file.
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


def train_config_from_dict(data: dict[str, Any], name: str = "config") -> TrainConfig:
    """Inverse of `config_to_dict`; unknown settings are errors."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{name}: unknown settings {unknown}, expected some of {sorted(known)}")
    data = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    data["model"] = model_config_from_dict(data["model"], name)
    return TrainConfig(**data)
