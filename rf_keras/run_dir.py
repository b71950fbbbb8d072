"""A run's folder, of training or of quantization-aware training: config.json, metrics.csv, curves.png, weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rf_keras.config import TrainConfig, config_from_dict, config_to_dict
from tflite.files import replacing, write_text
from tflite.messages import one_line

T = TypeVar("T")

CONFIG = "config.json"
METRICS = "metrics.csv"
CURVES = "curves.png"
BEST = "best.keras"
LAST = "last.keras"
DATA = "data.json"  # names and sizes of a run's pictures


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
            read_config(run_dir, TrainConfig)
        except RunError:
            continue
        return run_dir
    return None


def script(name: str) -> str:
    """How a command of quantization is started from here."""
    path = Path("quantization") / f"{name}.py"
    return f"python {path}" if path.is_file() else f"retinaface {name}"


def _newest_first(folder: Path) -> Iterator[Path]:
    configs = sorted(folder.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return (config.parent for config in configs)


def create_run(run_dir: Path, config: Any) -> None:
    """Make the folder and write its configuration, a dataclass.

    Raises:
        RunError: the folder holds a run already, or cannot be written.
    """
    if (run_dir / CONFIG).exists():
        raise RunError(f"{run_dir}: holds a run already; add --resume to go on with it or choose another --run_dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_config(run_dir, config)
    except OSError as error:
        raise RunError(f"{run_dir}: cannot write the run directory ({error.strerror})") from error


def write_config(run_dir: Path, config: Any) -> None:
    """Write the configuration, a dataclass, of a run that is new or goes on with changes."""
    write_text(run_dir / CONFIG, json.dumps(config_to_dict(config), indent=1) + "\n")


def list_pictures(pictures: Sequence[Path]) -> list[list[Any]]:
    """Name and bytes of each, as `DATA` holds them."""
    return [[path.name, path.stat().st_size] for path in pictures]


def write_pictures(run_dir: Path, pictures: Sequence[Path]) -> None:
    """Note which pictures a new run works on, in the order of its labels, for `check_pictures`."""
    write_text(run_dir / DATA, json.dumps(list_pictures(pictures)) + "\n")


def check_pictures(run_dir: Path, pictures: Sequence[Path]) -> None:
    """Refuse other pictures than those that a run was started with; they may have moved.

    Raises:
        RunError: they are others, or the run does not tell.
    """
    path = run_dir / DATA
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{run_dir}: {DATA} is missing, so moved pictures cannot be told from others") from error
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error})") from error
    found = list_pictures(pictures)
    if found == expected:
        return
    if not isinstance(expected, list) or len(found) != len(expected):
        count = len(expected) if isinstance(expected, list) else "another number"
        raise RunError(f"{run_dir}: {len(found)} pictures in the folders given, expected the run's own {count}")
    at = next(index for index, (mine, other) in enumerate(zip(found, expected, strict=True)) if mine != other)
    raise RunError(
        f"{pictures[at]}: {found[at][1]} bytes, expected the run's {expected[at]} at its place: pictures may move "
        "while a run is stopped, but not change"
    )


def read_config(run_dir: Path, kind: type[T]) -> T:
    """The configuration, of dataclass `kind`, that a run was started with.

    Raises:
        RunError: there is none, or it is another kind's or damaged.
    """
    path = run_dir / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and type(found.get("val_size")) is int:  # of a run of version 0.1: a side, or 0
            found["val_size"] = str(found["val_size"] or "")
        return config_from_dict(kind, found, path.name)
    except FileNotFoundError as error:
        raise RunError(f"{run_dir}: no run, {CONFIG} is missing") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a {kind.__name__} ({one_line(error)})") from error


def refuse_without_checkpoint(run_dir: Path) -> None:
    """Refuse to start a run again from its first step if it had got beyond its first checkpoint.

    Raises:
        RunError: it had.
    """
    rows = []
    if (run_dir / METRICS).exists():
        with (run_dir / METRICS).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("step") != "0"]  # 0: a fine-tuning's start
    if len(rows) > 1 or (run_dir / LAST).exists():  # after one row the checkpoint is about to be written
        raise RunError(
            f"{run_dir}: no checkpoint is left of {len(rows)} rows in {METRICS}; nothing was changed, expected its "
            "checkpoints, or another --run_dir for a new run"
        )


def check_unchanged(run_dir: Path, config: Any, given: dict[str, Any]) -> None:
    """Refuse settings that differ from those of a run that goes on.

    Raises:
        RunError: one does.
    """
    for name, value in given.items():
        if value != getattr(config, name):
            raise RunError(f"{run_dir}: {name} is {getattr(config, name)!r} in this run, {value!r} was given")


@dataclass(frozen=True)
class Panel:
    """One plot of curves.png: columns of metrics.csv over another column."""

    columns: tuple[str, ...]
    x: str
    y_label: str
    percent: bool = False


class MetricsLog:
    """metrics.csv and curves.png; a resumed run drops the rows that its checkpoint does not know yet.

    Args:
        run_dir: its folder.
        resume_step: of the checkpoint, 0 for a new run.
        columns: of metrics.csv; `step` is one.
        panels: of curves.png.
    """

    def __init__(self, run_dir: Path, resume_step: int, columns: Sequence[str], panels: Sequence[Panel]) -> None:
        self.path, self.columns, self.panels = run_dir / METRICS, columns, panels
        self.rows: list[dict[str, Any]] = []
        if resume_step and self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= resume_step]
        self._write()

    def add(self, row: dict[str, Any]) -> None:
        """Append a row (missing columns stay empty) and redraw the curves."""
        self.rows.append(row)
        self._write()
        draw_curves(self.rows, self.panels, self.path.with_name(CURVES))

    def _write(self) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


def draw_curves(rows: Sequence[dict[str, Any]], panels: Sequence[Panel], path: Path) -> None:
    """Plot the panels side by side; a column that is empty or always 0 is left out."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column in panel.columns:
            present = [row for row in rows if row.get(column) not in (None, "")]
            values = [float(row[column]) for row in present]
            if any(values):
                axes.plot([float(row[panel.x]) for row in present], values, marker="." * panel.percent, label=column)
        axes.set(xlabel=panel.x.replace("_", " "), ylabel=panel.y_label)
        if panel.percent:
            axes.set_ylim(0, 100)
        elif axes.lines:
            axes.set_yscale("log")
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize="small", frameon=False)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 160k: longer labels run into each other
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
