"""NMS of 5,000 boxes: Faster R-CNN's NumPy code and cv2.dnn.NMSBoxes against ours.

    python benchmarks/nms.py [--rounds 20] [--json F]

All take turns on the same boxes; the ratios are medians over the turns. Ours runs by the Faster R-CNN rule
(inclusive pixels, no limit on faces) and has to return its indices.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
from tqdm import tqdm

from tests.tflite.faster_rcnn_nms import faster_rcnn_nms  # the tests' oracle: one copy of it
from tflite.command import option, start
from tflite.nms import nms

IOU_THRESHOLD = 0.4
SPREAD = 640  # pixels
CLUSTERS = {"50 clusters": 50, "1,500 clusters": 1500, "random": 0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    boxes: int = option(5000, "boxes per set", low=1)
    rounds: int = option(20, "turns of each", low=1)
    seed: int = option(0, "of the boxes")
    json: Path | None = option(None, "file to write the figures to")


def make_boxes(count: int, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 [count, 4] in pixels and distinct scores float32 [count].

    Those of a cluster jitter by a tenth of its side (12 to 120 pixels) around it; 0 clusters: each has its own place.
    """
    random = np.random.default_rng(seed)
    groups = clusters or count
    centre, side = random.uniform(0, SPREAD, (groups, 2)), random.uniform(12, 120, (groups, 1))
    member = random.integers(0, groups, count) if clusters else np.arange(count)
    middle = centre[member] + random.normal(0, 0.1, (count, 2)) * side[member]
    half = side[member] * np.exp(random.normal(0, 0.1, (count, 2))) / 2
    boxes = np.concatenate((middle - half, middle + half), axis=1).astype(np.float32)
    return boxes, (random.permutation(count) / count).astype(np.float32)


def compare(boxes: np.ndarray, scores: np.ndarray, rounds: int) -> dict[str, Any]:
    """Median ms of each, ours divided by the others, and how many boxes are kept.

    Raises:
        ValueError: ours returns other indices than the seed.
    """
    count = len(boxes)
    x_y_w_h = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    calls: dict[str, Callable[[], Any]] = {
        "faster_rcnn": lambda: faster_rcnn_nms(boxes, scores, IOU_THRESHOLD),
        # OpenCV's stubs ask for lists; arrays are what it takes fastest.
        "opencv": lambda: cv2.dnn.NMSBoxes(x_y_w_h, scores, 0.0, IOU_THRESHOLD),  # type: ignore[arg-type]
        "ours": lambda: nms(boxes, scores, IOU_THRESHOLD, 1, max_candidates=count, max_faces=count),
    }
    if not np.array_equal(calls["ours"](), calls["faster_rcnn"]()):
        raise ValueError("our NMS returns other indices than Faster R-CNN's")
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = np.random.default_rng(0)
    names = list(calls)
    for _ in range(rounds):
        for at in order.permutation(len(names)):
            start = time.perf_counter()
            calls[names[at]]()
            times[names[at]].append(1000 * (time.perf_counter() - start))
    result: dict[str, Any] = {f"{name}_ms": round(float(np.median(values)), 3) for name, values in times.items()}
    for other in ("faster_rcnn", "opencv"):
        result[f"to_{other}"] = round(float(np.median(np.divide(times["ours"], times[other]))), 3)
    return result | {"boxes": count, "kept": len(calls["ours"]())}


def run(options: Options) -> dict[str, Any]:
    """Measure, print the figures and return them."""
    cv2.setNumThreads(1)
    report = {}
    print(f"{'':<16}{'kept':>6}{'R-CNN ms':>10}{'OpenCV ms':>11}{'ours ms':>10}{'÷ R-CNN':>8}{'÷ OpenCV':>10}")
    for name, clusters in tqdm(CLUSTERS.items(), unit="set", leave=False, disable=None):
        row = report[name] = compare(*make_boxes(options.boxes, clusters, options.seed), options.rounds)
        print(
            f"{name:<16}{row['kept']:>6}{row['faster_rcnn_ms']:>10.2f}{row['opencv_ms']:>11.2f}{row['ours_ms']:>10.2f}"
            f"{row['to_faster_rcnn']:>8.2f}{row['to_opencv']:>10.2f}"
        )
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
