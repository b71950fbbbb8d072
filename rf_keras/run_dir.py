"""A run's folder: config.json, metrics.csv, TensorBoard events, curves.png, checkpoints, best and last weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rf_keras.config import TrainConfig, config_to_dict, train_config_from_dict
from tflite.files import replacing, write_text

CONFIG = "config.json"
METRICS = "metrics.csv"
CURVES = "curves.png"
BEST = "best.keras"
LAST = "last.keras"
COLUMNS = (
    "step",
    "epoch",
    "images_seen",
    "learning_rate",
    "loss",
    "box",
    "classes",
    "landmark",
    "features",
    "positives_per_image",
    "images_per_second",
    "val_ap",
    "val_nme",
)

PARTS = ("loss", "box", "classes", "landmark", "features")  # of the training loss


class RunError(ValueError):
    """A run directory that cannot be used; the message names it."""


def default_run_dir(name: str) -> Path:
    """`runs/<date>-<time>-<name>` below the current folder."""
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"


def newest_run(folder: Path = Path("runs")) -> Path | None:
    """The run below `folder` whose configuration is the newest, None when there is none."""
    return next(_newest_first(folder), None)


def newest_training_run(folder: Path = Path("runs")) -> Path | None:
    """Likewise, among the runs that `rf_keras.train` can resume: runs of quantization/qat.py have other settings."""
    for run_dir in _newest_first(folder):
        try:
            read_run_config(run_dir)
        except RunError:
            continue
        return run_dir
    return None


def _newest_first(folder: Path) -> Iterator[Path]:
    configs = sorted(folder.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return (config.parent for config in configs)


def create_run(run_dir: Path, config: TrainConfig) -> None:
    """Make the folder and write its configuration.

    Raises:
        RunError: the folder holds a run already, or cannot be written.
    """
    if (run_dir / CONFIG).exists():
        raise RunError(f"{run_dir}: holds a run already; add --resume to go on with it or choose another --run_dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / CONFIG, json.dumps(config_to_dict(config), indent=1))
    except OSError as error:
        raise RunError(f"{run_dir}: cannot write the run directory ({error.strerror})") from error


def read_run_config(run_dir: Path) -> TrainConfig:
    """The configuration a run was started with.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = run_dir / CONFIG
    try:
        return train_config_from_dict(json.loads(path.read_text()), str(path))
    except FileNotFoundError as error:
        raise RunError(f"{run_dir}: no run, {CONFIG} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not a training configuration ({error})") from error


class MetricsLog:
    """metrics.csv: one row per epoch; a resumed run drops the rows that its checkpoint does not know yet."""

    def __init__(self, run_dir: Path, resume_step: int) -> None:
        self.path = run_dir / METRICS
        self.rows: list[dict[str, Any]] = []
        if resume_step and self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= resume_step]
        self._write()

    def add(self, row: dict[str, Any]) -> None:
        """Append a row (keys from COLUMNS; missing ones stay empty) and redraw the curves."""
        self.rows.append(row)
        self._write()
        draw_curves(self.rows, self.path.with_name(CURVES))

    def _write(self) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss parts and validation AP over images seen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))

    def series(key: str) -> tuple[list[float], list[float]]:
        present = [row for row in rows if row.get(key) not in (None, "")]
        return [float(row["images_seen"]) for row in present], [float(row[key]) for row in present]

    for key in PARTS:
        if any(series(key)[1]):  # a part that is always 0 was not trained
            left.plot(*series(key), label=key)
    left.set(xlabel="images seen", ylabel="training loss", yscale="log")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize="small", frameon=False)
    left.grid(alpha=0.3)
    right.plot(*series("val_ap"), marker=".", color="tab:green")
    right.set(xlabel="images seen", ylabel="validation AP, %", ylim=(0, 100))
    right.grid(alpha=0.3)
    for axes in (left, right):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 160k: longer labels run into each other
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)
