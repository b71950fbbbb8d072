"""Which weights a quantization command works on, and which images belong to them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantization.images import FEWEST_IMAGES
from rf_keras.input_size import LARGEST_SIDE, fixed_sides
from rf_keras.model_file import read_config
from rf_keras.run_dir import BEST, CONFIG, LAST, newest_run
from rf_keras.synthetic import DEFAULT_SIZE as SYNTHETIC_SIZE
from rf_keras.synthetic import synthetic_dir
from rf_keras.weights_files import is_shipped, shipped_weights
from tflite.finding import images_below
from tflite.messages import one_line

SHIPPED_WEIGHTS = "retinaface_fast.keras"
# Where photos may lie in the current folder, for weights whose own are not here: the first that holds enough.
PHOTOS_AT_HAND = ("photos/train", "photos", "images")
DEFAULT_SIZE = 640


@dataclass(frozen=True)
class WeightsSource:
    """A weights file with what is known about it.

    Attributes:
        weights: the .keras file.
        data_dirs: image folders of the run it comes from; empty: none, or built-in synthetic faces.
        size: side of the square input it was trained for, pixels; None when no run says so.
        meta: facts stored with the weights.
        how: how it was chosen, for the user.
    """

    weights: Path
    data_dirs: tuple[str, ...]
    size: int | None
    meta: dict[str, Any]
    how: str

    @property
    def from_synthetic(self) -> bool:
        """Whether synthetic faces are what the weights were trained on."""
        training = self.meta.get("train") or {}
        return "data_dirs" in training and not training["data_dirs"] and not training.get("init")

    def images_from(self, given: Sequence[str | Path]) -> list[Path]:
        """Folders to take images from: those given, else the run's own, else photos at hand (`PHOTOS_AT_HAND`), else
        the synthetic faces, made on first use; weights that were trained on those get no others."""
        if given or self.data_dirs:
            return [Path(folder) for folder in given or self.data_dirs]
        if not self.from_synthetic and (photos := photos_at_hand()):
            return [photos]
        return [synthetic_dir("train", self.size or SYNTHETIC_SIZE) / "images"]

    def calibration_folders(self, given: Sequence[str | Path]) -> list[Path]:
        """`images_from`, with a warning where synthetic faces would stand for photos."""
        folders = self.images_from(given)
        if not given and not self.data_dirs and not self.from_synthetic and photos_at_hand() is None:
            print(
                "warning: only drawn faces to calibrate on, whose ranges do not suit photos: give --data_dir with some "
                "hundred photos as the model will see them",
                file=sys.stderr,
            )
        return folders

    def output_for(self, kind: str, suffix: str) -> Path:
        """Where an exported file goes by default: beside the weights of a run or of one's own, and into the current
        folder for weights that came with the package."""
        name = f"{self.weights.stem}_{kind}{suffix}"
        installed = {"site-packages", "dist-packages"} & set(self.weights.resolve().parts)
        return Path(name) if installed or is_shipped(self.weights) else self.weights.with_name(name)


def photos_at_hand() -> Path | None:
    """The first of `PHOTOS_AT_HAND` with enough pictures for calibration in it and below; None without one."""
    return next((path for path in map(Path, PHOTOS_AT_HAND) if len(images_below(path, [])) >= FEWEST_IMAGES), None)


def find_source(weights: str | Path | None) -> WeightsSource:
    """Resolve --weights: a .keras file, a run directory (its best, else last weights), or nothing given.

    Raises:
        ValueError: nothing usable; one line.
    """
    if weights is None:
        run = newest_run()
        if run is not None and any((run / name).exists() for name in (BEST, LAST)):
            return _from_run(run, f"newest run {run}")
        shipped = shipped_weights(SHIPPED_WEIGHTS)
        if shipped is not None:
            return _from_file(shipped, "shipped weights")
        raise ValueError(
            f"no --weights given, no run with weights below {Path('runs').resolve()}, and {SHIPPED_WEIGHTS} is only in "
            "a checkout of the repository: start there, train first (python -m rf_keras.train), or give --weights"
        )
    path = Path(weights)
    if path.is_dir():
        return _from_run(path, f"run {path}")
    return _from_file(path, "as given")


def _from_run(run: Path, how: str) -> WeightsSource:
    found = next((run / name for name in (BEST, LAST) if (run / name).exists()), None)
    if found is None:
        raise ValueError(f"{run}: no weights in the folder, expected {BEST} or {LAST} of a training run")
    return _from_file(found, how)


def _from_file(path: Path, how: str) -> WeightsSource:
    _, meta = read_config(path)
    data_dirs: list[str] = []
    size = None
    config = path.parent / CONFIG
    if config.exists():
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{config}: not a run's configuration ({one_line(error)})") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{config}: found {type(settings).__name__}, expected a run's configuration")
        data_dirs, size = settings.get("data_dirs") or [], settings.get("size")
        validated = fixed_sides(str(settings.get("val_size")))
        if validated and validated[0] == validated[1]:
            size = validated[0]
        if not isinstance(data_dirs, list) or not all(isinstance(folder, str) for folder in data_dirs):
            raise ValueError(f"{config}: data_dirs is {str(data_dirs)[:100]}, expected a list of folders")
        if size is not None and (type(size) is not int or size % 32 or not 0 < size <= LARGEST_SIDE):
            raise ValueError(f"{config}: size is {str(size)[:100]}, expected a multiple of 32 up to {LARGEST_SIDE}")
    return WeightsSource(path, tuple(data_dirs), size, meta, how)


def parse_side(text: str | None, source: WeightsSource) -> tuple[int, int]:
    """--size: `640` or `480x640` (height × width), each a multiple of 32; by default the run's own size, else 640.

    Raises:
        ValueError: anything else.
    """
    if text is None:
        side = source.size or DEFAULT_SIZE
        return side, side
    if sides := fixed_sides(text):
        return sides
    raise ValueError(f"--size is {text!r}, expected a multiple of 32 in pixels, or HEIGHTxWIDTH such as 480x640")
