"""What a quantization-aware run depends on, and its folder: config.json, ranges, metrics.csv, curves.png, weights."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantization.calibrate import DEFAULT_PERCENTILE, LOWEST_PERCENTILE, METHODS
from quantization.simulate import Ranges
from rf_keras.config import trust_fits
from rf_keras.run_dir import CONFIG, CURVES, METRICS, RunError
from tflite.files import replacing, write_text

ORIGINAL = "original.keras"  # the folded float network that the run imitates
START = "start.keras"  # the folded, equalized network with its ranges, before the first step
COLUMNS = (
    "phase",
    "step",
    "learning_rate",
    "loss",
    "score",
    "box",
    "landmark",
    "multibox",
    "teacher",
    "val_loss",
    "images_per_second",
)


@dataclass(frozen=True)
class QatConfig:
    """Settings of a run; written to its `config.json`.

    Attributes:
        weights: float weights file it starts from and imitates; or one tuned before, to go on with its ranges.
        data_dirs: image folders; labels are needed only for `multibox`.
        data_weights: share of the items from each folder; empty: by number of images.
        size: side of the square input in pixels, a multiple of 32.
        steps: of quantization-aware tuning.
        batch: images per step.
        learning_rate: peak of Adam; cosine to 1 %.
        warmup_steps: of linear growth to the peak.
        distill: imitate the float network (no labels needed).
        multibox: the training loss on labels.
        teacher: file of a detector to learn from, too (`rf_keras.teacher.open_teacher`); "": none.
        closeups, teacher_mirror, label_trust: as in training (`rf_keras.config.TrainConfig`).
        learn_ranges: train the activation ranges; else they stay as calibrated.
        ema_decay: of the averaged weights that are kept.
        activation_swap: "relu": replace LeakyReLU and tune in float first; "": keep.
        swap_steps, swap_learning_rate: of that float tuning.
        method, percentile, calibration_images, equalize, bias_correction: as in convert.py.
        val_images: held out of the data for choosing the best weights.
        val_every: steps between validations and checkpoints.
        seed: of order and augmentation.
    """

    weights: str
    data_dirs: tuple[str, ...]
    data_weights: tuple[float, ...] = ()
    size: int = 640
    steps: int = 900
    batch: int = 4
    learning_rate: float = 1e-4
    warmup_steps: int = 30
    distill: bool = True
    multibox: bool = False
    teacher: str = ""
    closeups: float = 0.0
    teacher_mirror: bool = False
    label_trust: tuple[int, ...] = ()
    learn_ranges: bool = False
    ema_decay: float = 0.99
    activation_swap: str = ""
    swap_steps: int = 900
    swap_learning_rate: float = 5e-4
    method: str = "percentile"
    percentile: float = DEFAULT_PERCENTILE
    calibration_images: int = 128
    equalize: bool = True
    bias_correction: bool = True
    val_images: int = 16
    val_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")

        need(self.size > 0 and self.size % 32 == 0, "size", "a multiple of 32")
        for name in ("steps", "batch", "val_images", "val_every", "calibration_images"):
            need(getattr(self, name) >= 1, name, "at least 1")
        for name in ("learning_rate", "swap_learning_rate"):
            need(getattr(self, name) > 0, name, "a positive number")
        for name in ("warmup_steps", "swap_steps"):
            need(getattr(self, name) >= 0, name, "0 or more")
        need(0 <= self.closeups <= 1, "closeups", "a share between 0 and 1")
        count = len(self.data_weights)
        need(count in (0, len(self.data_dirs)), "data_weights", f"one for each of {len(self.data_dirs)} data folders")
        need(0 <= self.ema_decay < 1, "ema_decay", "a number from 0 to below 1")
        need(self.distill or self.multibox or bool(self.teacher), "distill", "a loss: distill, multibox or a teacher")
        for name in ("teacher_mirror", "label_trust"):
            need(bool(self.teacher) or not getattr(self, name), name, "nothing without a teacher")
        trust = trust_fits(self.label_trust, self.data_dirs)
        need(trust, "label_trust", f"0 or 1 for each of {len(self.data_dirs)} data folders")
        need(self.activation_swap in ("", "relu"), "activation_swap", "relu")
        need(self.method in METHODS, "method", f"one of {METHODS}")
        need(LOWEST_PERCENTILE <= self.percentile <= 100, "percentile", f"{LOWEST_PERCENTILE} to 100")


def create(run_dir: Path, config: QatConfig) -> None:
    """Make the folder and write the settings.

    Raises:
        RunError: it holds a run already.
    """
    if (run_dir / CONFIG).exists():
        raise RunError(f"{run_dir}: holds a run already; add --resume to go on with it or choose another --run_dir")
    write_text(run_dir / CONFIG, json.dumps(dataclasses.asdict(config), indent=1) + "\n")


def read(run_dir: Path) -> QatConfig:
    """The settings a run was started with.

    Raises:
        RunError: there are none, or they are no quantization-aware run's.
    """
    path = run_dir / CONFIG
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        data |= {name: tuple(data.get(name, ())) for name in ("data_dirs", "data_weights", "label_trust")}
        return QatConfig(**data)
    except FileNotFoundError as error:
        raise RunError(f"{run_dir}: no run to resume, {CONFIG} is missing") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: not the configuration of a quantization-aware run ({error})") from error


def quantization_meta(config: QatConfig, ranges: Ranges) -> dict[str, Any]:
    """What convert.py reads back from the weights file."""
    return {"quantization": {"size": [config.size, config.size], "ranges": {k: list(v) for k, v in ranges.items()}}}


class Log:
    """metrics.csv and curves.png; a resumed run drops the rows that its checkpoint does not know yet."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / METRICS
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def rewind(self, phase: str, step: int) -> None:
        """Forget what `phase` did after `step`."""
        self.rows = [row for row in self.rows if row["phase"] != phase or int(row["step"]) <= step]

    def add(self, row: dict[str, Any]) -> None:
        """Append a row (keys from `COLUMNS`) and redraw the curves."""
        self.rows.append(row)
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        draw_curves(self.rows, self.path.with_name(CURVES))


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss parts and held-out loss over steps, one panel per phase."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    phases = list(dict.fromkeys(row["phase"] for row in rows))
    figure, axes = plt.subplots(1, len(phases), figsize=(7 * len(phases), 4), squeeze=False)
    for axis, phase in zip(axes[0], phases, strict=True):
        mine = [row for row in rows if row["phase"] == phase]
        for key in ("loss", "score", "box", "landmark", "multibox", "teacher", "val_loss"):
            values = [(int(row["step"]), float(row[key])) for row in mine if row.get(key) not in (None, "")]
            axis.plot(*zip(*values, strict=True), label=key) if values else None
        axis.set(xlabel="step", ylabel="loss", title=phase, yscale="log")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)
