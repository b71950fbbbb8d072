"""One model file at several input sizes, in turns: mean time from decoded photo to faces, pixels computed, AP.

    python benchmarks/input_sizes.py [PHOTO|FOLDER …] [--model M.tflite] [--sizes auto,960] [--data_dir D --gt_dir G]
                                     [--rounds 3] [--json F]

All ratios are to the model's own size. The photos come in the order of their names, as in a folder that is searched
for faces: what a change of shape costs is part of the time. `benchmarks/figures.py` writes the table of the documents
from docs/input_sizes.json.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.report import NOTHING, number
from rf_keras.evaluation.ground_truth import Truth, read_truth
from rf_keras.evaluation.scoring import AP_SCORE_THRESHOLD, evaluate
from rf_keras.evaluation.wider_ap import SUBSETS
from tflite.benchmark import machine
from tflite.command import option, start
from tflite.detector import FaceDetector
from tflite.finding import expand_inputs
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.shapes import OWN, InputSize, parse_input_size, size_text
from tflite.shipped import DEFAULT_NAME, find_model
from tflite.spec import ModelSpec


def parse_sizes(text: str) -> tuple[InputSize, ...]:
    """Sizes as `parse_input_size` reads them, split by commas; the model's own is left out.

    Raises:
        ValueError: one of them is none.
    """
    sizes = [parse_input_size(part) for part in text.split(",")]
    return tuple(dict.fromkeys(size for size in sizes if size is not None))


@dataclass(frozen=True)
class Options:
    """What to measure, and on what."""

    photos: tuple[str, ...] = option((), "photos or folders to time on (default: those of --data_dir)", arguments="too")
    model: str = option(DEFAULT_NAME, "model file (.tflite), or the name of a shipped one")
    sizes: tuple[InputSize, ...] = option(
        ("auto",),
        "inputs beside the model's own, comma-separated: auto, or HEIGHTxWIDTH as for tflite.detect",
        parse=parse_sizes,
        show=lambda sizes: ",".join(map(size_text, sizes)),
    )
    rounds: int = option(3, "turns of every size on every photo; 0: only AP", low=0)
    data_dir: Path | None = option(None, "folder of labelled photos: measures AP")
    gt_dir: Path | None = option(None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    json: Path | None = option(None, "file to write the figures to")


@dataclass(eq=False)
class Row:
    """A detector at one size, the ms of its turns, and the shapes it ran at, photo by photo."""

    size: InputSize
    detector: FaceDetector
    milliseconds: list[float] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)
    ap: dict[str, float | None] | None = None

    @property
    def pixels(self) -> float:
        """Mean pixels of the input."""
        return float(np.mean([height * width for height, width in self.shapes]))


def take_turns(rows: Sequence[Row], photos: Sequence[Path], rounds: int) -> None:
    """Fill in times and shapes of `rows`."""
    order = np.random.default_rng(0)
    for row in rows:
        row.detector.warm_up()
    for turn in tqdm(range(max(rounds, 1)), unit="round", leave=False, disable=None):
        for path in tqdm(photos, unit="photo", leave=False, disable=None):
            image = read_image(path)
            for at in order.permutation(len(rows)) if rounds else ():
                start = time.perf_counter()
                rows[at].detector.detect(image)
                rows[at].milliseconds.append(1000 * (time.perf_counter() - start))
            for row in rows if turn == 0 else ():
                row.shapes.append(row.detector.input_shape(*image.shape[:2]))


def measure_ap(detector: FaceDetector, truths: Sequence[Truth]) -> dict[str, float | None]:
    """AP in percent: easy, medium, hard (None without .mat files), all."""

    def detect(image: np.ndarray) -> Detections:
        return detector.detect(image, AP_SCORE_THRESHOLD, ModelSpec.iou_threshold)

    metrics = evaluate(detect, truths, progress=sys.stderr.isatty()).metrics
    return {key: metrics[key] for key in (*SUBSETS, "all")}


def figures(row: Row, own: Row) -> dict[str, Any]:
    """What is known of one row, JSON-ready."""
    times = row.milliseconds
    return {
        "size": size_text(row.size),
        "end_to_end_ms": round(float(np.mean(times)), 3) if times else None,
        "time_to_own": round(float(np.mean(times) / np.mean(own.milliseconds)), 4) if times else None,
        "pixels_to_own": round(row.pixels / own.pixels, 4),
        "shapes": {size_text(shape): row.shapes.count(shape) for shape in sorted(set(row.shapes))},
        "changes": sum(a != b for a, b in pairwise(row.shapes)),
        "ap": row.ap,
    }


def text_of(report: dict[str, Any]) -> str:
    """The figures as text."""
    load = f"load {report['machine']['load_before'][0]:.1f} before and {report['machine']['load_after'][0]:.1f} after"
    lines = [
        f"{report['file']}, {report['photos']} photos × {report['rounds']} rounds in turns, one thread, {load}",
        f"{'input':<10}{'mean ms':>9}{'÷ own':>8}{'pixels':>8}{'shapes':>8}{'changes':>9}  AP",
    ]
    for row in report["rows"]:
        ap = "/".join(number(row["ap"][key], 1) for key in (*SUBSETS, "all")) if row["ap"] else NOTHING
        lines.append(
            f"{row['size']:<10}{number(row['end_to_end_ms'], 2):>9}{number(row['time_to_own'], 3):>8}"
            f"{row['pixels_to_own']:>8.3f}{len(row['shapes']):>8}{row['changes']:>9}  {ap}"
        )
    return "\n".join(lines)


def run(options: Options) -> dict[str, Any]:
    """The command; returns what the JSON holds.

    Raises:
        ValueError: nothing to measure on, or anything else the user got wrong; one line.
    """
    truths = read_truth(options.data_dir, options.gt_dir) if options.data_dir else []
    photos = [truth.image for truth in truths]
    if options.photos:
        found, errors = expand_inputs(options.photos)
        if errors:
            raise ValueError(errors[0])
        photos = [path for path, _ in found]
    if not photos:
        raise ValueError("nothing to measure on: name photos or folders, or give --data_dir")
    path = find_model(options.model)
    cv2.setNumThreads(1)
    load = os.getloadavg()
    rows = [Row(size, FaceDetector(path, 1, size)) for size in (parse_input_size(OWN), *options.sizes)]
    take_turns(rows, photos, options.rounds)
    for row in rows if truths else ():
        row.ap = measure_ap(row.detector, truths)
    report = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "interpreter": rows[0].detector.interpreter_name,
        "machine": machine() | {"load_before": load, "load_after": os.getloadavg()},
        "date": time.strftime("%Y-%m-%d"),
        "photos": len(photos),
        "rounds": options.rounds,
        "rows": [figures(row, rows[0]) for row in rows],
    }
    print(text_of(report))
    return report


if __name__ == "__main__":
    start(run, Options)
