"""Average precision and landmark error of a model on WIDER FACE or any labelled folder.

    python -m rf_keras.evaluate --model W.keras|W.h5|M.tflite|M.onnx --data_dir D [--gt_dir G] [--size 640]
    python -m rf_keras.evaluate --model M.tflite --data_dir D --closeups --turned      what AP does not see

AP is in percent, landmark NME a share of the face size √(w·h). Rules: `rf_keras/evaluation/wider_ap.py`. A .tflite file
is evaluated without TensorFlow, an .onnx file of `convert.py --onnx` in ONNX Runtime; of an HDF5 file activation and
anchors are found out first, as `import_weights` does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rf_keras.import_weights import imported
from rf_keras.labels import MAX_MISSING, describe
from rf_keras.weights_files import is_hdf5
from tflite.command import option, start, write_json
from tflite.messages import printable

if TYPE_CHECKING:
    from rf_keras.evaluation.closeups import Tally


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to evaluate, and on which images."""

    model: Path = option(text="weights file (.keras, or .h5 of Keras) or exported model (.tflite, .onnx)")
    data_dir: Path = option(
        text="folder of pictures and labels of any format that rf_keras.labels reads, or a label file; with --gt_dir "
        "the pictures alone"
    )
    gt_dir: Path | None = option(None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    size: str | None = option(
        None,
        "multiple of 32, or HEIGHTxWIDTH of such: letterbox into that many pixels (default: 640, or an exported "
        "file's own); 'auto': at that scale (640 for .keras), less of it empty; 'original'; or SHORT,LONG: short "
        "side SHORT pixels unless the long side would exceed LONG (the last two for .keras only)",
    )
    json: Path | None = option(None, "file to write the metrics to")
    output: Path | None = option(None, "folder for metrics.json, pr_curve.png and worst images")
    format: str | None = option(
        None,
        "also write the detections into --output, for other tools: detections.json, ground_truth.json",
        choices=("coco",),
    )
    max_missing: float = option(
        MAX_MISSING, "largest share of labelled images that may be missing or unreadable, 0 to 1", low=0, high=1
    )
    worst: int = option(0, "images with most misses and false alarms, and missed views, to draw into --output", low=0)
    closeups: bool = option(False, "find large faces in crops that they fill, by the margin around them, too")
    turned: bool = option(False, "find large faces in photos turned by 0, 90, 180 and 270 degrees, too")


def summary(metrics: dict[str, Any]) -> str:
    """The metrics as a few lines of text."""

    def percent(value: float | None) -> str:
        return "   –" if value is None else f"{value:4.1f}"

    official = " / ".join(f"{name} {percent(metrics[name]).strip()}" for name in ("easy", "medium", "hard"))
    nme = "–" if metrics["nme"] is None else f"{100 * metrics['nme']:.2f} % of the face size"
    left_out = f", {len(metrics['left_out'])} unreadable ones left out" if metrics["left_out"] else ""
    lines = [
        f"{metrics['model']} on {metrics['data_dir']}: {metrics['images']} images, {metrics['faces']} faces{left_out}",
        f"size {metrics['size']}, {metrics['interpreter']}, {metrics['images_per_second']:.1f} images/s",
        f"AP  {official} / all {percent(metrics['all']).strip()}   landmark NME {nme}",
    ]
    if metrics["images"] < metrics["split_size"]:
        lines.append(
            f"{metrics['images']:,} of {metrics['split_size']:,} images of WIDER FACE val: not comparable with "
            "published figures"
        )
    if best := metrics["f1"]["best"]:
        parts = [
            f"{point['f1']:.1f} at {what} {point['threshold']:g} (precision {percent(point['precision']).strip()}, "
            f"recall {point['recall']:.1f})"
            for what, point in (("threshold", best), ("the model's own", metrics["f1"]["at_default"]))
        ]
        lines.append(f"F1  best {parts[0]}; {parts[1]}")
    for name, row in metrics["by_size"].items():
        lines.append(f"    √(w·h) {name:>6} px: AP {percent(row['ap'])}  ({row['faces']} faces)")
    return "\n".join(lines)


def run(options: Options) -> dict[str, Any]:
    """Evaluate, print, write what was asked for; returns the metrics.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    for flag in ("worst", "format"):
        if getattr(options, flag) and not options.output:
            raise ValueError(f"--{flag} writes into a folder: give --output DIR")
    from rf_keras.evaluation import closeups
    from rf_keras.evaluation.coco_output import write_coco
    from rf_keras.evaluation.ground_truth import read_truth
    from rf_keras.evaluation.pictures import plot_curves, save_missed, save_worst
    from rf_keras.evaluation.scoring import SHOWN_THRESHOLDS, evaluate, open_detector, open_network, points_at

    truths = read_truth(options.data_dir, options.gt_dir, options.max_missing)
    if is_hdf5(options.model):
        opened = open_network(*imported(str(options.model)), options.size)
    else:
        opened = open_detector(options.model, options.size)
    start, size = time.perf_counter(), opened.size
    result = evaluate(opened.for_ap, truths, max_missing=options.max_missing)
    result.metrics["f1"]["at_default"] = points_at(result.images, [opened.threshold])[0]._asdict()
    metrics = result.metrics | {
        "size": int(size) if size.isdecimal() else size,
        "interpreter": opened.interpreter,
        "model": str(options.model),
        "data_dir": str(options.data_dir),
        "rules": "WIDER FACE .mat" if options.gt_dir else describe(options.data_dir),
        "split_size": truths[0].split_size,
        "images_per_second": len(truths) / (time.perf_counter() - start),
    }
    print(summary(metrics))
    tallies: dict[str, Tally] = {}
    readable = [one.truth for one in result.images]
    if options.closeups or options.turned:
        views, tallies = closeups.measure(opened.in_use, readable, options.closeups, options.turned, keep=options.worst)
        metrics["large"] = views | {"threshold": opened.threshold}
        print(closeups.table(views))
    if options.output:
        folder = options.output
        write_json(folder / "metrics.json", metrics)
        points = points_at(result.images, SHOWN_THRESHOLDS)
        plot_curves(result.curves, points, f"{options.model.name}, size {size}", folder / "pr_curve.png")
        save_worst(result.images, options.worst, folder)
        save_missed(tallies, folder)
        if options.format:
            write_coco(result.images, folder)
        print(f"wrote {printable(folder)}")
    return metrics


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
