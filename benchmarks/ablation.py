"""What each part of the int8 recipe is worth: one int8 file per row, all scored on the same images.

    python benchmarks/ablation.py --weights W.keras --data_dir PHOTOS --eval_dir DEV --gt_dir GT [--qat RUN] [--json F]

All rows calibrate on the same images; one that starts with + adds to the row before it. `--qat` adds tuned weights:
of the same network, or of one that `qat.py --activation_swap` made of it. Losses are against the float --weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags

from quantization.bias import correct_biases
from quantization.calibrate import DEFAULT_IMAGES, calibrate, find_images, load_images
from quantization.convert import stored_ranges
from quantization.equalize import equalize_on
from quantization.export import to_tflite
from quantization.fold import fold
from quantization.simulate import ChannelWeights, Ranges, simulate
from quantization.source import Source, find_source
from rf_keras.backbones import Tensor
from rf_keras.config import ModelConfig
from rf_keras.evaluate import evaluate, open_detector
from rf_keras.ground_truth import Truth, read_truth
from rf_keras.model_file import load_model
from rf_keras.wider_ap import SUBSETS
from tflite.command import flags_only, user_errors
from tflite.files import write_text
from tflite.spec import attach_spec


@dataclass(frozen=True)
class Recipe:
    """One row. `method` and `by_use` as in `calibrate`; `biases`: bias correction; `equalized`: in front of depthwise
    convs; `depthwise_per_tensor`: one scale for a whole depthwise kernel, as TFMOT's default has it."""

    name: str
    method: str = "percentile"
    by_use: bool = True
    biases: bool = True
    equalized: bool = True
    depthwise_per_tensor: bool = False


RECIPES = (
    Recipe("min/max, depthwise per tensor", "minmax", False, False, False, True),
    Recipe("min/max", "minmax", False, False, False),
    Recipe("percentile", by_use=False, biases=False, equalized=False),
    Recipe("+ output ranges by use", biases=False, equalized=False),
    Recipe("+ bias correction", equalized=False),
    Recipe("+ equalization (the default)"),
    Recipe("the default, depthwise per tensor", depthwise_per_tensor=True),
)


@contextmanager
def one_scale_per_depthwise_kernel() -> Iterator[None]:
    """Within it, all channels of a depthwise kernel get the scale that its largest weight needs.

    The product quantizes per channel only; equal scales in all channels are what per tensor would compute.
    """
    per_channel = ChannelWeights.largest

    def largest(kernel: Tensor) -> Tensor:
        peaks = per_channel(kernel)
        # Depthwise kernels come as [h, w, 1, C]; no other conv of the network reads a single channel.
        return tf.ones_like(peaks) * tf.reduce_max(peaks) if kernel.shape[2] == 1 else peaks

    with mock.patch.object(ChannelWeights, "largest", staticmethod(largest)):
        yield


def int8_file(model: keras.Model, config: ModelConfig, images: np.ndarray, recipe: Recipe, ranges: Ranges) -> bytes:
    """The .tflite of a folded model, equalized where the recipe says so; `ranges` are those of its calibration."""

    def export() -> bytes:
        tuned = correct_biases(model, ranges, images) if recipe.biases else model
        height, width = images.shape[1:3]
        content = to_tflite(simulate(tuned, ranges, height=height, width=width), config, "int8")
        return attach_spec(content, config.spec(height, width, quantization="int8-ptq", source=recipe.name))

    if not recipe.depthwise_per_tensor:
        return export()
    with one_scale_per_depthwise_kernel():
        return export()


def qat_file(tuned: Source, size: tuple[int, int]) -> tuple[bytes, ModelConfig]:
    """The .tflite of a quantization-aware run's weights, and their network.

    Raises:
        ValueError: the weights hold no ranges.
    """
    model, config = fold(*load_model(tuned.weights)[:2], *size)
    ranges = stored_ranges(tuned, model, size)
    if ranges is None:
        raise ValueError(f"{tuned.weights}: float weights, --qat expects those of quantization/qat.py")
    content = to_tflite(simulate(model, ranges, height=size[0], width=size[1]), config, "int8")
    return attach_spec(content, config.spec(*size, quantization="int8-qat", source=tuned.weights.name)), config


def score(model: Path, size: str | None, truths: Sequence[Truth]) -> dict[str, Any]:
    """AP (percent), landmark NME (share of the face size) and the interpreter that ran the model."""
    opened = open_detector(model, size)
    metrics = evaluate(opened.for_ap, truths).metrics
    return {key: metrics[key] for key in (*SUBSETS, "all", "nme")} | {"interpreter": opened.interpreter}


def as_line(name: str, row: dict[str, Any], reference: dict[str, Any]) -> str:
    """One row as Markdown: AP, and what it lost against float."""
    keys = [key for key in SUBSETS if row[key] is not None] or ["all"]
    ap = " / ".join(f"{row[key]:.1f}" for key in keys)
    lost = " / ".join(f"{reference[key] - row[key]:.1f}" for key in keys)
    return f"| {name} | {ap} | {lost} |"


def run(args: flags.FlagValues) -> dict[str, Any]:
    """The command; returns what the JSON holds."""
    chosen = [recipe for recipe in RECIPES if not args.rows or recipe.name in args.rows]
    if unknown := set(args.rows) - {recipe.name for recipe in RECIPES}:
        names = ", ".join(repr(recipe.name) for recipe in RECIPES)
        raise ValueError(f"--rows {sorted(unknown)[0]!r}: unknown, expected some of {names}")
    if args.size % 32:
        raise ValueError(f"--size is {args.size}, expected a multiple of 32")
    source = find_source(args.weights)
    if source.meta.get("quantization"):
        raise ValueError(f"{source.weights}: is the result of quantization-aware tuning already, give float weights")
    truths = read_truth(args.eval_dir, args.gt_dir)
    folders = source.images_from(args.data_dir)
    model, config, _ = load_model(source.weights)
    paths = find_images(folders, args.calibration_images)
    images = load_images(paths, args.size, args.size, antialias=config.antialias)
    model, config = fold(model, config, args.size, args.size)

    report: dict[str, Any] = {
        "weights": str(source.weights),
        "size": args.size,
        "calibration_images": len(images),
        "eval_dir": str(args.eval_dir),
        "images": len(truths),
        "rules": "WIDER FACE .mat" if args.gt_dir else "label.txt",
        "rows": {},
    }
    rows = report["rows"]

    def add(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(as_line(name, row, rows["float"]), flush=True)
        if args.json:  # after every row: the whole takes long, and a killed run keeps what it has
            write_text(Path(args.json), json.dumps(report, indent=1) + "\n")

    print("| int8 recipe | AP | lost |\n|---|---|---|")
    add("float", score(source.weights, str(args.size), truths))
    networks = {False: model}
    if any(recipe.equalized for recipe in chosen):
        networks[True] = equalize_on(model, config, images)
    calibrated: dict[tuple[str, bool, bool], Ranges] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "row.tflite"
        for recipe in chosen:
            network = networks[recipe.equalized]
            key = (recipe.method, recipe.by_use, recipe.equalized)
            if key not in calibrated:
                calibrated[key] = calibrate(network, config, images, recipe.method, by_use=recipe.by_use)
            path.write_bytes(int8_file(network, config, images, recipe, calibrated[key]))
            add(recipe.name, score(path, None, truths))
        for given in args.qat:
            content, network_of_row = qat_file(find_source(given), (args.size, args.size))
            path.write_bytes(content)
            name = "+ QAT" if network_of_row.activation == config.activation else f"+ QAT, {network_of_row.activation}"
            add(name if name not in rows else f"{name} ({given})", score(path, None, truths))
    return report


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    with user_errors():
        run(flags.FLAGS)


def define_flags() -> None:
    """Only when run as a command."""
    flags.DEFINE_string("weights", None, "float weights (.keras) or run directory (default: newest run, else shipped)")
    flags.DEFINE_multi_string("data_dir", [], "folder of calibration images; repeatable (default: the run's own)")
    flags.DEFINE_string("eval_dir", None, "folder with images/ and label.txt to score on", required=True)
    flags.DEFINE_string("gt_dir", None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    flags.DEFINE_integer("size", 640, "input side in pixels, a multiple of 32", 32)
    flags.DEFINE_integer("calibration_images", DEFAULT_IMAGES, "images at most", 1)
    flags.DEFINE_multi_string("rows", [], "only these rows, by name; repeatable (default: all)")
    flags.DEFINE_multi_string("qat", [], "weights or run directory of quantization/qat.py for one more row; repeatable")
    flags.DEFINE_string("json", None, "file to write the figures to, after every row")


if __name__ == "__main__":
    define_flags()
    app.run(main)
