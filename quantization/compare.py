"""One report that sets a float model and its exported files side by side.

    python quantization/compare.py --weights W --models PTQ.tflite QAT.tflite --data_dir D [--gt_dir G]
                                   --output report.html [--json F]

AP and landmark NME on the images of D, latency, size and ops, SQNR of each layer, score histograms, and the photos
where a file and the float model disagree most. Those photos come from D and go into the report only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import app, flags

from quantization.calibrate import load_images
from quantization.export import read_graph
from quantization.fold import fold
from quantization.layer_error import LayerError, layer_errors
from quantization.report import html_report
from rf_keras.evaluate import Evaluation, evaluate, open_detector
from rf_keras.ground_truth import Truth, read_truth
from rf_keras.model_file import load_model
from tflite.benchmark import measure_stages
from tflite.command import user_errors
from tflite.detector import FaceDetector
from tflite.files import write_text
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.spec import ModelSpec, read_spec

SHOWN_SCORE = ModelSpec.score_threshold  # disagreement counts faces above it
SAME_FACE_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Column:
    """One model of the report: figures for the JSON, and what the plots need."""

    name: str
    facts: dict[str, Any]
    evaluation: Evaluation
    layers: list[LayerError]


@dataclass(frozen=True, eq=False)
class Disagreement:
    """An image with the faces that only the float model or only the file finds."""

    image: Path
    model: str
    expected: Detections
    found: Detections
    lost: int
    new: int


def measure_float(weights: str, size: str, truths: Sequence[Truth]) -> Column:
    """The float network, run in Keras."""
    opened = open_detector(weights, size)
    result = evaluate(opened.for_ap, truths)
    facts = {
        **result.metrics,
        "kind": "float",
        "interpreter": opened.interpreter,
        "bytes": Path(weights).stat().st_size,
    }
    return Column("float", facts, result, [])


def measure_file(path: Path, truths: Sequence[Truth], weights: str, runs: int, sqnr_images: int) -> Column:
    """An exported file, run on the device runtime."""
    content = path.read_bytes()
    spec = read_spec(content, str(path))
    opened = open_detector(path, None)
    result = evaluate(opened.for_ap, truths)
    graph = read_graph(content)
    facts = {**result.metrics, "kind": spec.quantization, "interpreter": opened.interpreter, "bytes": len(content)}
    facts |= {"ops": graph.op_counts(), "latency_ms": latency(path, truths[0].image, runs)}
    layers: list[LayerError] = []
    if spec.quantization.startswith("int8"):
        side = (spec.input_height, spec.input_width)
        model, config, _ = load_model(weights)
        folded, _ = fold(model, config, *side)
        step = max(1, len(truths) // sqnr_images)
        paths = [truth.image for truth in truths[::step][:sqnr_images]]
        layers = layer_errors(content, folded, load_images(paths, *side, fewest=1, antialias=config.antialias))
        facts["sqnr_db"] = {row.layer: round(row.sqnr, 2) for row in layers}
    return Column(path.stem, facts, result, layers)


def latency(path: Path, image: Path, runs: int) -> dict[str, dict[str, float]]:
    """Median ms of `invoke` and `end_to_end` on one photo, by number of threads (1 and 2)."""
    found: dict[str, dict[str, float]] = {}
    for threads in (1, 2):
        with FaceDetector(path, threads) as detector:
            times = measure_stages(detector, read_image(image), runs)
        found[str(threads)] = {stage: float(np.median(times[stage])) for stage in ("invoke", "end_to_end")}
    return found


def same_faces(expected: Detections, found: Detections, iou: float = SAME_FACE_IOU) -> np.ndarray:
    """Which detections of `expected` [N] have a partner of their own in `found`, greedily by falling IoU: bool [N]."""
    partner = np.zeros(len(expected.boxes), bool)
    if not len(expected.boxes) or not len(found.boxes):
        return partner
    a, b = expected.boxes[:, None], found.boxes[None]
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    ious = overlap / np.maximum(area_a + area_b - overlap, 1e-9)  # [N, M]
    taken = np.zeros(len(found.boxes), bool)
    for index in np.argsort(-ious, axis=None):
        i, j = divmod(int(index), len(found.boxes))
        if ious[i, j] < iou:
            break
        if not partner[i] and not taken[j]:
            partner[i] = taken[j] = True
    return partner


def above(detections: Detections, score: float) -> Detections:
    """The detections that score at least `score`."""
    keep = detections.scores >= score
    return Detections(detections.boxes[keep], detections.scores[keep], detections.landmarks[keep])


def disagreements(reference: Column, column: Column, count: int) -> list[Disagreement]:
    """The images with the most faces above 0.5 that one of the two finds and the other does not find even at 0.3."""
    found = []
    for a, b in zip(reference.evaluation.images, column.evaluation.images, strict=True):
        expected, other = above(a.found, SHOWN_SCORE), above(b.found, SHOWN_SCORE)
        lost = int((~same_faces(expected, above(b.found, SHOWN_SCORE - 0.2))).sum())
        new = int((~same_faces(other, above(a.found, SHOWN_SCORE - 0.2))).sum())
        if lost + new:
            found.append(Disagreement(a.truth.image, column.name, expected, other, lost, new))
    return sorted(found, key=lambda d: -(d.lost + d.new))[:count]


def agreement(reference: Column, column: Column) -> float | None:
    """Share of the float model's faces above 0.5 that the file finds above 0.5 as well (IoU ≥ 0.5)."""
    hits = [
        same_faces(above(a.found, SHOWN_SCORE), above(b.found, SHOWN_SCORE))
        for a, b in zip(reference.evaluation.images, column.evaluation.images, strict=True)
    ]
    every = np.concatenate(hits) if hits else np.zeros(0)
    return float(every.mean()) if len(every) else None


def run(args: flags.FlagValues, more_models: Sequence[str] = ()) -> dict[str, Any]:
    """The command; `more_models` are files beyond those of --models."""
    paths = [Path(model) for model in (*args.models, *more_models)]
    if len({path.stem for path in paths}) != len(paths):
        raise ValueError(f"two models of the same name: {', '.join(path.name for path in paths)}; rename one")
    specs = [read_spec(path) for path in paths]
    sizes = {(spec.input_height, spec.input_width) for spec in specs}
    if len(sizes) != 1:
        found = ", ".join(f"{path.name} {s.input_height}×{s.input_width}" for path, s in zip(paths, specs, strict=True))
        raise ValueError(f"models of different input sizes do not compare: {found}")
    height, width = sizes.pop()
    if height != width:
        raise ValueError(f"{paths[0]}: input {height}×{width}; the float model is evaluated on squares only")
    output = Path(args.output)
    if output.suffix != ".html":
        raise ValueError(f"--output is {args.output!r}, expected a name ending in .html")
    truths = read_truth(args.data_dir, args.gt_dir)
    print(f"{len(truths)} images, input {height}×{width}: float, then {', '.join(path.name for path in paths)}")
    reference = measure_float(args.weights, str(height), truths)
    columns = [measure_file(path, truths, args.weights, args.runs, args.sqnr_images) for path in paths]
    for column in columns:
        column.facts["same_faces"] = agreement(reference, column)
    pairs = [d for column in columns for d in disagreements(reference, column, args.worst)]
    document = {
        "data_dir": str(args.data_dir),
        "rules": "WIDER FACE .mat" if args.gt_dir else "label.txt",
        "images": len(truths),
        "size": height,
        "models": {column.name: column.facts for column in (reference, *columns)},
        "disagreements": [
            {"image": str(d.image), "model": d.model, "only_float": d.lost, "only_file": d.new} for d in pairs
        ],
    }
    write_text(output, html_report(reference, columns, pairs, document))
    print(f"wrote {output}")
    if args.json:
        write_text(Path(args.json), json.dumps(document, indent=1) + "\n")
    return document


def main(argv: Sequence[str]) -> None:
    # absl takes one value per flag; in `--models A.tflite B.tflite` the rest arrives here.
    more = list(argv[1:])
    if wrong := [name for name in more if not name.endswith(".tflite")]:
        raise app.UsageError(f"unexpected argument {wrong[0]!r}, expected .tflite files")
    with user_errors():
        run(flags.FLAGS, more)


def define_flags() -> None:
    """Only when run as a command."""
    flags.DEFINE_string("weights", None, "float weights file (.keras), the reference of the comparison", required=True)
    flags.DEFINE_multi_string("models", None, "exported .tflite file; several may be given", required=True)
    flags.DEFINE_string("data_dir", None, "labelled images to measure on", required=True)
    flags.DEFINE_string("gt_dir", None, "official WIDER FACE .mat files: AP easy, medium and hard by their rules")
    flags.DEFINE_string("output", None, "report to write (.html, self-contained)", required=True)
    flags.DEFINE_string("json", None, "file to write the figures to")
    flags.DEFINE_integer("worst", 4, "photos shown per model, those it disagrees most on with the float model", 0)
    flags.DEFINE_integer("runs", 50, "timed runs per number of threads", 1)
    flags.DEFINE_integer("sqnr_images", 8, "images for the SQNR of layers", 1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
