"""Settings of quantization: frozen dataclasses, importable without TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rf_keras.distillation.config import Distillation
from tflite.command import option

METHODS = ("percentile", "minmax")
DEFAULT_PERCENTILE = 99.995
# The lower tail may lose this many times the values of the upper one: what lies there is mostly what an activation
# will make small, while the largest values are faces.
LOWER_TAIL = 20
LOWEST_PERCENTILE = 97.5  # both tails together may take half of the values


@dataclass(frozen=True)
class Recipe:
    """How a float network becomes int8 without training (`recipe.quantize`).

    Attributes:
        by_use: outputs get the ranges that candidates need, not those of all anchors.
        depthwise_per_tensor: one scale for a whole depthwise kernel, as TFMOT's default has it.
    """

    method: str = option("percentile", "how activation ranges are chosen", choices=METHODS, hidden=True)
    percentile: float = option(
        DEFAULT_PERCENTILE,
        f"upper percentile of method percentile, the lower tail is {LOWER_TAIL} times as large",
        low=LOWEST_PERCENTILE,
        high=100.0,
        hidden=True,
    )
    calibration_images: int = option(128, "images for the ranges, at most", low=1)
    equalize: bool = option(True, "even out the channels in front of depthwise convs before calibration", hidden=True)
    bias_correction: bool = option(True, "take back the mean error of rounding in the biases", hidden=True)
    by_use: bool = True
    depthwise_per_tensor: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if not LOWEST_PERCENTILE <= self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}, expected {LOWEST_PERCENTILE} to 100")
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images is {self.calibration_images}, expected at least 1")

    def __str__(self) -> str:
        method = f"percentile {self.percentile:g}" if self.method == "percentile" else self.method
        return method + ", biases corrected" * self.bias_correction


@dataclass(frozen=True)
class QatConfig:
    """A run of quantization-aware tuning; written to its `config.json`.

    Attributes:
        weights: float weights file it starts from and imitates; or one tuned before, to go on with its ranges.
        data_dirs: image folders; labels are needed only for `multibox` and what a teacher gets corrected by.
        distillation: a detector to learn from, too.
        recipe: how float weights become int8 before the first step.
    """

    weights: str
    data_dirs: tuple[str, ...]
    data_weights: tuple[float, ...] = option(
        (), "share of the items from each --data_dir, comma-separated (default: by number of images)"
    )
    size: int = option(640, "input side in pixels, a multiple of 32; the default is the run's own where it has one")
    steps: int = option(900, "steps of tuning")
    batch: int = option(4, "images per step")
    learning_rate: float = option(1e-4, "peak of Adam, cosine to 1 %")
    warmup_steps: int = option(30, "steps of linear growth to the peak", hidden=True)
    distill: bool = option(True, "imitate the float network (needs no labels)")
    multibox: bool = option(False, "the training loss on labels")
    closeups: float = option(0.0, "share of the images that show one of their faces filling the frame, 0 to 1")
    learn_ranges: bool = option(False, "train the activation ranges instead of freezing them")
    layers: str = option("", "regular expression: layers whose names begin so learn (empty: all)", hidden=True)
    ema_decay: float = option(0.99, "of the averaged weights that are kept", hidden=True)
    val_images: int = option(16, "images held out for choosing the best weights", hidden=True)
    val_every: int = option(100, "steps between validations and checkpoints", hidden=True)
    seed: int = option(0, "of order and augmentation")
    distillation: Distillation | None = None
    recipe: Recipe = Recipe()

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")

        need(self.size > 0 and self.size % 32 == 0, "size", "a multiple of 32")
        for name in ("steps", "batch", "val_images", "val_every"):
            need(getattr(self, name) >= 1, name, "at least 1")
        need(self.learning_rate > 0, "learning_rate", "a positive number")
        need(self.warmup_steps >= 0, "warmup_steps", "0 or more")
        need(0 <= self.closeups <= 1, "closeups", "a share between 0 and 1")
        need(0 <= self.ema_decay < 1, "ema_decay", "a number from 0 to below 1")
        try:
            re.compile(self.layers)
        except re.error as error:
            raise ValueError(f"layers is {self.layers!r}, expected a regular expression ({error})") from error
        folders = len(self.data_dirs)
        need(len(self.data_weights) in (0, folders), "data_weights", f"one for each of {folders} data folders")
        learns = self.distill or self.multibox or self.distillation is not None
        need(learns, "distill", "a loss: distill, multibox or a teacher")
        if self.distillation is not None:
            self.distillation.check_folders(self.data_dirs)
