"""What each part of the int8 recipe is worth: one int8 file per row, all scored on the same images.

    python benchmarks/ablation.py --weights W.keras --data_dir PHOTOS --eval_dir DEV --gt_dir GT [--qat RUN] [--json F]

All rows calibrate on the same images; one that starts with + adds to the row before it. `--qat` adds weights that were
tuned from these. Losses are against the float --weights.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from quantization.config import Recipe
from tflite.command import option, start, write_json

if TYPE_CHECKING:
    from quantization.source import WeightsSource
    from rf_keras.evaluation.ground_truth import Truth

DEFAULT = "+ equalization (the default)"
RECIPES = {
    "min/max, depthwise per tensor": Recipe(
        "minmax", by_use=False, bias_correction=False, equalize=False, depthwise_per_tensor=True
    ),
    "min/max": Recipe("minmax", by_use=False, bias_correction=False, equalize=False),
    "percentile": Recipe(by_use=False, bias_correction=False, equalize=False),
    "+ output ranges by use": Recipe(bias_correction=False, equalize=False),
    "+ bias correction": Recipe(equalize=False),
    DEFAULT: Recipe(),
    "the default, depthwise per tensor": Recipe(depthwise_per_tensor=True),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    weights: Path | None = option(
        None, "float weights (.keras) or run directory (default: the newest run, else the shipped)"
    )
    data_dir: tuple[Path, ...] = option((), "folder of calibration images; repeatable (default: the run's own)")
    eval_dir: Path = option(text="folder with images/ and label.txt to score on")
    gt_dir: Path | None = option(None, "folder of the official WIDER FACE .mat files: AP easy, medium, hard")
    size: int = option(640, "input side in pixels, a multiple of 32", low=32)
    calibration_images: int = option(Recipe.calibration_images, "images at most", low=1)
    rows: tuple[str, ...] = option((), "only these rows, by name; repeatable (default: all)")
    qat: tuple[Path, ...] = option((), "weights or run directory of quantization/qat.py for one more row; repeatable")
    json: Path | None = option(None, "file to write the figures to, after every row")


def qat_file(tuned: WeightsSource, size: tuple[int, int]) -> bytes:
    """The .tflite of a quantization-aware run's weights.

    Raises:
        ValueError: the weights hold no ranges.
    """
    from quantization.fold import fold
    from quantization.recipe import export_int8, with_stored_ranges
    from rf_keras.model_file import load_model

    network = fold(*load_model(tuned.weights)[:2], *size)
    int8 = with_stored_ranges(network, tuned.meta)
    if int8 is None:
        raise ValueError(f"{tuned.weights}: float weights, --qat expects those of quantization/qat.py")
    return export_int8(int8, network.config.spec(*size, quantization="int8-qat", source=tuned.weights.name))[0]


def score(model: Path, size: str | None, truths: Sequence[Truth]) -> dict[str, Any]:
    """AP in percent and landmark NME of a weights file (at `size`) or a .tflite file."""
    from rf_keras.evaluation.scoring import evaluate, open_detector
    from rf_keras.evaluation.wider_ap import SUBSETS

    opened = open_detector(model, size)
    metrics = evaluate(opened.for_ap, truths).metrics
    return {name: metrics[name] for name in (*SUBSETS, "all", "nme")} | {"interpreter": opened.interpreter}


def as_line(name: str, row: dict[str, Any], reference: dict[str, Any]) -> str:
    """One row as Markdown: AP, and what it lost against float."""
    keys = [key for key in ("easy", "medium", "hard") if row[key] is not None] or ["all"]
    ap = " / ".join(f"{row[key]:.1f}" for key in keys)
    lost = " / ".join(f"{reference[key] - row[key]:.1f}" for key in keys)
    return f"| {name} | {ap} | {lost} |"


def run(options: Options) -> dict[str, Any]:
    """Measure and print every row; returns the figures.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    from quantization.fold import fold
    from quantization.images import find_images, load_images
    from quantization.recipe import export_int8, quantize
    from quantization.source import find_source
    from rf_keras.evaluation.ground_truth import read_truth
    from rf_keras.model_file import load_model

    if unknown := set(options.rows) - set(RECIPES):
        names = ", ".join(map(repr, RECIPES))
        raise ValueError(f"--rows {sorted(unknown)[0]!r}: unknown, expected some of {names}")
    if options.size % 32:
        raise ValueError(f"--size is {options.size}, expected a multiple of 32")
    size = (options.size, options.size)
    source = find_source(options.weights)
    if source.meta.get("quantization"):
        raise ValueError(f"{source.weights}: is the result of quantization-aware tuning already, give float weights")
    truths = read_truth(options.eval_dir, options.gt_dir)
    folders = source.images_from(options.data_dir)
    model, config, _ = load_model(source.weights)
    paths = find_images(folders, options.calibration_images)
    images = load_images(paths, *size, antialias=config.antialias)
    network = fold(model, config, *size)

    figures: dict[str, Any] = {
        "weights": str(source.weights),
        "size": options.size,
        "calibration_images": len(images),
        "eval_dir": str(options.eval_dir),
        "images": len(truths),
        "rules": "WIDER FACE .mat" if options.gt_dir else "label.txt",
        "rows": {},
    }
    rows = figures["rows"]

    def add(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(as_line(name, row, rows["float"]), flush=True)
        if options.json:  # after every row: the whole takes long, and a killed run keeps what it has
            write_json(options.json, figures)

    print("| int8 recipe | AP | lost |\n|---|---|---|")
    add("float", score(source.weights, str(options.size), truths))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "row.tflite"
        for name, recipe in RECIPES.items():
            if options.rows and name not in options.rows:
                continue
            spec = network.config.spec(*size, quantization="int8-ptq", source=name)
            path.write_bytes(export_int8(quantize(network, images, recipe), spec)[0])
            add(name, score(path, None, truths))
        for given in options.qat:
            path.write_bytes(qat_file(find_source(given), size))
            add("+ QAT" if "+ QAT" not in rows else f"+ QAT ({given})", score(path, None, truths))
    return figures


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
