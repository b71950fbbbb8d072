"""Time against the number of faces: one face pasted 0 to 256 times into a picture of constant size.

    python benchmarks/crowd.py [--model M.tflite] [--rounds 5] [--json F]

The face is the portrait in matplotlib's sample data (public domain). All pictures take turns; decode and NMS are given
apart, since the rest of the time does not know how many faces there are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import matplotlib.cbook
import numpy as np
from tqdm import tqdm

from tflite.benchmark import measure_stages
from tflite.command import option, start
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.shipped import DEFAULT_MODEL

COUNTS = (0, 1, 32, 64, 128, 256)
HEAD = (slice(60, 380), slice(90, 410))  # rows and columns of the portrait
CELL = 40  # pixels: 16 × 16 of them fit into 640 × 640
SMALLEST = 24  # pixels; side, place and light are drawn at random: rows of equal heads are wallpaper to the network
RUNS = 5  # per turn


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: Path = option(DEFAULT_MODEL, "model file (.tflite)")
    rounds: int = option(5, f"turns, of {RUNS} runs of each picture", low=1)
    json: Path | None = option(None, "file to write the figures to")


def crowd(faces: int, height: int, width: int) -> np.ndarray:
    """uint8 BGR [height, width, 3]: that many heads in cells of their own, on grey; the same at each call.

    Raises:
        ValueError: they do not fit.
    """
    columns = width // CELL
    cells = columns * (height // CELL)
    if faces > cells:
        raise ValueError(f"{faces} faces of {CELL} pixels do not fit into {width}×{height}")
    portrait = read_image(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    random = np.random.default_rng(0)
    picture = np.full((height, width, 3), 128, np.uint8)
    for cell in random.permutation(cells)[:faces]:
        side = int(random.integers(SMALLEST, CELL + 1))
        head = cv2.resize(portrait[HEAD], (side, side), interpolation=cv2.INTER_AREA)
        head = head[:, :: random.choice((-1, 1))] * random.uniform(0.7, 1.2)
        top, left = cell // columns * CELL, cell % columns * CELL
        picture[top : top + side, left : left + side] = np.minimum(head, 255)
    return picture


def measure(detector: FaceDetector, counts: Sequence[int], rounds: int) -> list[dict[str, float]]:
    """One row per count: faces pasted and found, median ms of decode + NMS and of everything."""
    height, width = detector.spec.input_height, detector.spec.input_width
    pictures = [crowd(count, height, width) for count in counts]
    survivors: list[list[float]] = [[] for _ in counts]
    whole: list[list[float]] = [[] for _ in counts]
    for _ in tqdm(range(rounds), unit="round", leave=False, disable=None):
        for at, picture in enumerate(pictures):
            times = measure_stages(detector, picture, RUNS)
            survivors[at] += list(times["decode"] + times["nms"])
            whole[at] += list(times["end_to_end"])
    return [
        {
            "faces": count,
            "found": len(detector.detect(picture)),
            "decode_and_nms_ms": round(float(np.median(some)), 3),
            "end_to_end_ms": round(float(np.median(every)), 3),
        }
        for count, picture, some, every in zip(counts, pictures, survivors, whole, strict=True)
    ]


def run(options: Options) -> dict[str, Any]:
    """Measure, print the figures and return them."""
    cv2.setNumThreads(1)
    with FaceDetector(options.model, num_threads=1, input_size=None) as detector:
        side = min(detector.spec.input_height, detector.spec.input_width)
        counts = [count for count in COUNTS if count <= (side // CELL) ** 2]
        report = {"model": str(options.model), "interpreter": detector.interpreter_name, "threads": 1}
        rows = report["rows"] = measure(detector, counts, options.rounds)
    print(f"{'faces':>6}{'found':>7}{'decode + NMS ms':>17}{'end to end ms':>15}{'µs per face found':>19}")
    for row in rows:
        # Against the picture without faces: what one more face costs.
        each = 1000 * (row["decode_and_nms_ms"] - rows[0]["decode_and_nms_ms"]) / max(row["found"], 1)
        row["us_per_face"] = round(each, 1)
        shown = f"{each:.1f}" if row["found"] else "–"
        print(
            f"{row['faces']:>6}{row['found']:>7}{row['decode_and_nms_ms']:>17.2f}{row['end_to_end_ms']:>15.2f}{shown:>19}"
        )
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
