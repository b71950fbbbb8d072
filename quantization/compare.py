"""One report that sets a float model and its exported files side by side.

    python quantization/compare.py --weights W --models PTQ.tflite QAT.tflite --data_dir D [--gt_dir G]
                                   --output report.html [--size 480x640] [--json F]

AP and landmark NME on the images of D, latency, size and ops, SQNR of each layer, score histograms, and the photos
where a file and the float model disagree most. Those photos come from D and go into the report only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from quantization.comparison import Column, Disagreement
from quantization.fold import fold
from quantization.images import load_images
from quantization.layer_error import LayerError, layer_errors
from quantization.report import html_report
from quantization.tflite_graph import read_graph
from rf_keras.boxes import iou
from rf_keras.evaluation.ground_truth import Truth, read_truth
from rf_keras.evaluation.scoring import evaluate, open_detector
from rf_keras.evaluation.wider_ap import SUBSETS
from rf_keras.input_size import InputSize, fixed_sides
from rf_keras.labels import describe
from rf_keras.model_file import load_model
from rf_keras.selection import evenly_spaced
from tflite.benchmark import machine, measure_stages
from tflite.command import option, start
from tflite.detector import FaceDetector
from tflite.files import write_text
from tflite.images import read_image
from tflite.messages import printable
from tflite.postprocess import Detections
from tflite.spec import read_spec

THREADS = (1, 2)  # of the interpreter, that files are timed with
STAGES = ("invoke", "end_to_end")
RUNS_PER_TURN = 10
SAME_FACE_IOU = 0.5


def fixed_size(text: str) -> InputSize:
    """--size: `640` or `480x640` (height × width), each a multiple of 32.

    Raises:
        ValueError: it is none; one line.
    """
    sides = fixed_sides(text)
    if sides is None:
        raise ValueError(f"--size is {text!r}, expected a multiple of 32 in pixels, or HEIGHTxWIDTH such as 480x640")
    return InputSize(fixed=sides)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare."""

    weights: Path = option(text="float weights file (.keras), the reference of the comparison")
    models: tuple[Path, ...] = option(text="exported .tflite file; repeatable", arguments="too")
    data_dir: Path = option(text="labelled images to measure on")
    gt_dir: Path | None = option(None, "official WIDER FACE .mat files: AP easy, medium and hard by their rules")
    size: InputSize | None = option(
        None,
        "input in pixels, N or HEIGHTxWIDTH, multiples of 32 (default: the files' own, which SQNR is of anyway)",
        parse=fixed_size,
    )
    output: Path = option(text="report to write (.html, self-contained)")
    json: Path | None = option(None, "file to write the figures to")
    worst: int = option(4, "photos shown per model, those it disagrees most on with the float model", low=0)
    runs: int = option(50, "timed runs per number of threads", low=1)
    sqnr_images: int = option(8, "images for the SQNR of layers", low=1)


def measure_float(weights: Path, size: str, truths: Sequence[Truth]) -> Column:
    """The float network, run in Keras."""
    opened = open_detector(weights, size)
    result = evaluate(opened.for_ap, truths)
    figures = {
        **result.metrics,
        "kind": "float",
        "interpreter": opened.interpreter,
        "bytes": weights.stat().st_size,
        "score_threshold": opened.threshold,
    }
    return Column("float", figures, result, [])


def measure_file(
    path: Path, truths: Sequence[Truth], weights: Path, sqnr_images: int, size: InputSize | None = None
) -> Column:
    """An exported file, run on the device runtime at `size` or at its own; SQNR is at its own."""
    content = path.read_bytes()
    spec = read_spec(content, str(path))
    opened = open_detector(path, None if size is None else str(size))
    result = evaluate(opened.for_ap, truths)
    graph = read_graph(content)
    figures = {**result.metrics, "kind": spec.quantization, "interpreter": opened.interpreter, "bytes": len(content)}
    figures |= {"ops": graph.op_counts(), "score_threshold": spec.score_threshold}
    layers: list[LayerError] = []
    if spec.quantization.startswith("int8"):
        side = (spec.input_height, spec.input_width)
        model, config, _ = load_model(weights)
        folded = fold(model, config, *side)
        paths = [truth.image for truth in evenly_spaced(truths, sqnr_images)]
        layers = layer_errors(content, folded.model, load_images(paths, *side, fewest=1, antialias=config.antialias))
        figures["sqnr_db"] = {row.layer: round(row.sqnr, 2) for row in layers}
    return Column(path.stem, figures, result, layers)


def latencies(
    paths: Sequence[Path], image: np.ndarray, runs: int, size: tuple[int, int] | None = None
) -> list[dict[str, dict[str, float]]]:
    """Median ms of `invoke` and `end_to_end` on one photo by number of threads (`THREADS`), of each file.

    The files take turns, a few runs at a time, so that a busy machine hits all alike.
    """
    found: list[dict[str, dict[str, float]]] = [{} for _ in paths]
    turns = -(-runs // RUNS_PER_TURN)
    for threads in THREADS:
        with contextlib.ExitStack() as stack:
            detectors = [stack.enter_context(FaceDetector(path, threads, input_size=size)) for path in paths]
            times: list[list[dict[str, np.ndarray]]] = [[] for _ in paths]
            for turn in range(turns):
                count = min(RUNS_PER_TURN, runs - turn * RUNS_PER_TURN)
                for taken, detector in zip(times, detectors, strict=True):
                    taken.append(measure_stages(detector, image, count))
        for of_file, taken in zip(found, times, strict=True):
            of_file[str(threads)] = {
                stage: float(np.median(np.concatenate([part[stage] for part in taken]))) for stage in STAGES
            }
    return found


def same_faces(expected: Detections, found: Detections, least_iou: float = SAME_FACE_IOU) -> np.ndarray:
    """Which detections of `expected` [N] have a partner of their own in `found`, greedily by falling IoU: bool [N]."""
    partner = np.zeros(len(expected.boxes), bool)
    if not len(expected.boxes) or not len(found.boxes):
        return partner
    overlap = iou(expected.boxes, found.boxes)  # [N, M]
    taken = np.zeros(len(found.boxes), bool)
    for index in np.argsort(-overlap, axis=None):
        i, j = divmod(int(index), len(found.boxes))
        if overlap[i, j] < least_iou:
            break
        if not partner[i] and not taken[j]:
            partner[i] = taken[j] = True
    return partner


def above(detections: Detections, score: float) -> Detections:
    """The detections that score at least `score`."""
    return detections[detections.scores >= score]


def own_threshold(column: Column) -> float:
    """Probability from which the model counts a face."""
    return float(column.figures["score_threshold"])


def disagreements(reference: Column, column: Column, count: int) -> list[Disagreement]:
    """The images with the most faces above the model's own threshold that one of the two finds and the other does not
    find even 0.2 below its."""
    first, second = own_threshold(reference), own_threshold(column)
    found = []
    for a, b in zip(reference.evaluation.images, column.evaluation.images, strict=True):
        expected, other = above(a.found, first), above(b.found, second)
        lost = int((~same_faces(expected, above(b.found, second - 0.2))).sum())
        new = int((~same_faces(other, above(a.found, first - 0.2))).sum())
        if lost + new:
            found.append(Disagreement(a.truth.image, column.name, expected, other, lost, new))
    return sorted(found, key=lambda d: -(d.lost + d.new))[:count]


def agreement(reference: Column, column: Column) -> float | None:
    """Share of the float model's faces that the file finds as well (IoU ≥ 0.5), each at its own threshold."""
    first, second = own_threshold(reference), own_threshold(column)
    hits = [
        same_faces(above(a.found, first), above(b.found, second))
        for a, b in zip(reference.evaluation.images, column.evaluation.images, strict=True)
    ]
    every = np.concatenate(hits) if hits else np.zeros(0)
    return float(every.mean()) if len(every) else None


def summary(document: dict[str, Any]) -> str:
    """The figures as lines of text."""

    def cell(value: float | None, digits: int = 1) -> str:
        return "–" if value is None else f"{value + 0.0:.{digits}f}"

    names = list(document["models"])
    width = max(map(len, names))
    keys = [key for key in (*SUBSETS, "all") if document["models"][names[0]][key] is not None]
    head = [*(f"AP {key}" for key in keys), "NME %", "faces %", "threshold", "kB"]
    head += [f"{stage} {threads} thr." for threads in THREADS for stage in STAGES]
    lines = ["  ".join([" " * width, *head])]
    for name, figures in document["models"].items():
        nme = None if figures["nme"] is None else 100 * figures["nme"]
        same = figures.get("same_faces", 1.0)
        values = [*(cell(figures[key]) for key in keys), cell(nme, 2), cell(None if same is None else 100 * same)]
        values += [f"{figures['score_threshold']:g}", cell(figures["bytes"] / 1000, 0)]
        times = figures.get("latency_ms", {})
        values += [cell(times.get(str(t), {}).get(stage), 2) for t in THREADS for stage in STAGES]
        row = (value.rjust(len(title)) for value, title in zip(values, head, strict=True))
        lines.append("  ".join([name.ljust(width), *row]))
    machine = document["machine"]
    load = " and ".join("–" if value is None else f"{value:.1f}" for value in machine["load"])
    lines.append(f"ms on {machine['cpu']}, {machine['cores']} cores; load before and after {load}")
    return "\n".join(lines)


def load_average() -> float | None:
    """Of the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def run(options: Options) -> dict[str, Any]:
    """Measure, write the report and return its figures.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    paths = options.models
    if len({path.stem for path in paths}) != len(paths):
        raise ValueError(f"two models of the same name: {', '.join(path.name for path in paths)}; rename one")
    specs = [read_spec(path) for path in paths]
    own = {(spec.input_height, spec.input_width) for spec in specs}
    if len(own) != 1 and options.size is None:
        found = ", ".join(f"{path.name} {s.input_height}×{s.input_width}" for path, s in zip(paths, specs, strict=True))
        raise ValueError(f"models of different input sizes do not compare: {found}")
    size = options.size or InputSize(fixed=own.pop())
    output = options.output
    if output.suffix != ".html":
        raise ValueError(f"--output is {str(output)!r}, expected a name ending in .html")
    truths = read_truth(options.data_dir, options.gt_dir)
    print(f"{len(truths)} images, input {size}: float, then {', '.join(printable(path.name) for path in paths)}")
    reference = measure_float(options.weights, str(size), truths)
    columns = [measure_file(path, truths, options.weights, options.sqnr_images, options.size) for path in paths]
    given = options.size.fixed if options.size else None
    photo, before = read_image(reference.evaluation.images[0].truth.image), load_average()
    for column, times in zip(columns, latencies(paths, photo, options.runs, given), strict=True):
        column.figures["latency_ms"] = times
        column.figures["same_faces"] = agreement(reference, column)
    pairs = [d for column in columns for d in disagreements(reference, column, options.worst)]
    document = {
        "data_dir": str(options.data_dir),
        "rules": "WIDER FACE .mat" if options.gt_dir else describe(options.data_dir),
        "images": reference.figures["images"],
        "machine": machine() | {"load": [before, load_average()], "threads": list(THREADS), "runs": options.runs},
        "size": int(str(size)) if str(size).isdecimal() else str(size),
        "models": {column.name: column.figures for column in (reference, *columns)},
        "disagreements": [
            {"image": str(d.image), "model": d.model, "only_float": d.lost, "only_file": d.new} for d in pairs
        ],
    }
    write_text(output, html_report(reference, columns, pairs, document))
    print(summary(document))
    print(f"wrote {printable(output)}")
    return document


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
