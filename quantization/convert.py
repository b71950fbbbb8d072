"""Export a trained model to one self-describing .tflite file.

    python quantization/convert.py --int8                                    newest run, else the shipped weights
    python quantization/convert.py --int8 --weights W.keras --data_dir PHOTOS --output M.tflite
    python quantization/convert.py --int8 --weights QAT_RUN                  ranges come from the run
    python quantization/convert.py --fp16|--dynamic|--fp32 --weights W.keras

The file has one input `image` and nine outputs `score_8` … `landmark_32`; `retinaface.json` inside says the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tf_keras as keras
from absl import app, flags

from quantization.bias import correct_biases
from quantization.calibrate import (
    DEFAULT_IMAGES,
    DEFAULT_PERCENTILE,
    FEW_IMAGES,
    LOWER_TAIL,
    LOWEST_PERCENTILE,
    METHODS,
    align_leaky,
    calibrate,
    find_images,
    load_images,
)
from quantization.equalize import equalize_on
from quantization.export import KINDS, read_graph, to_tflite
from quantization.fold import fold, resize_input
from quantization.simulate import Ranges, simulate
from quantization.source import Source, find_source, parse_side
from quantization.verify import compare_with_float, graph_problems, lsb_difference, saturation_problems
from rf_keras.model_file import load_model
from rf_keras.teacher import TAUGHT_THRESHOLD, default_threshold
from tflite.command import flags_only, user_errors
from tflite.files import replacing, write_text
from tflite.spec import ModelSpec, attach_spec

CHECKED_IMAGES = 8  # the written file is run on so many of the images


def warn(text: str) -> None:
    """One line to stderr."""
    print(f"warning: {text}", file=sys.stderr)


def stored_ranges(source: Source, model: keras.Model, size: tuple[int, int]) -> Ranges | None:
    """Ranges that quantization-aware training left with the weights, None for float weights.

    Args:
        source: where `model` comes from.
        model: folded.
        size: height and width in pixels that it is exported for.
    """
    facts = source.meta.get("quantization")
    if not facts:
        return None
    if tuple(facts["size"]) != size:
        warn(f"{source.weights}: ranges were tuned at {facts['size']} pixels, exporting at {list(size)}")
    ranges = {name: (float(low), float(high)) for name, (low, high) in facts["ranges"].items()}
    return align_leaky(model, ranges)  # a run may be older than that alignment


def warn_if_larger_than_trained(source: Source, size: tuple[int, int]) -> None:
    """Crops of N pixels hold no face above N; a network trained on them cuts larger ones into pieces (BUILD_NOTES)."""
    recipe = source.meta.get("train") or {}
    trained = max([recipe.get("size") or 0, *recipe.get("more_sizes", ())])
    if trained and max(size) > trained:
        warn(
            f"{source.weights}: trained at {trained} pixels, exporting at {size[0]}×{size[1]}: faces above "
            f"{trained} pixels were never seen; train the last part at {max(size)}"
        )


def convert(source: Source, kind: str, output: Path, args: flags.FlagValues) -> dict[str, Any]:
    """Export, write, run what was written; returns the figures that were printed."""
    size = parse_side(args.size, source)
    warn_if_larger_than_trained(source, size)
    folders = source.images_from(args.data_dir)
    print(
        f"weights: {source.weights} ({source.how}); input {size[0]}×{size[1]}; "
        f"images from {', '.join(map(str, folders))}"
    )
    model, config, _ = load_model(source.weights)
    model, config = fold(model, config, *size)

    ranges = stored_ranges(source, model, size) if kind == "int8" else None
    needed = args.calibration_images if kind == "int8" and ranges is None else CHECKED_IMAGES
    images = load_images(find_images(folders, needed), *size, antialias=config.antialias)
    tuned = model
    label, heads_float = kind, kind == "int8" and args.heads_float
    exported = model
    if kind == "int8":
        label = "int8-qat" if ranges is not None else "int8-ptq"
        if ranges is None:
            if len(images) < FEW_IMAGES:
                warn(f"{len(images)} calibration images, {FEW_IMAGES} or more give steadier ranges")
            evened = equalize_on(model, config, images, args.method, args.percentile) if args.equalize else model
            how = f"{args.method} {args.percentile:g}" if args.method == "percentile" else args.method
            print(
                f"calibrating on {len(images)} images, {how}{', equalized' if evened is not model else ''}"
                + (", biases corrected" if args.bias_correction else "")
            )
            if evened is not model:
                tuned = model = resize_input(evened, *size)
            ranges = calibrate(model, config, images, args.method, args.percentile)
            if args.bias_correction:
                tuned = correct_biases(model, ranges, images, heads_float=heads_float)
        exported = simulate(tuned, ranges, height=size[0], width=size[1], heads_float=heads_float)
        label += "-float-heads" if heads_float else ""

    content = to_tflite(exported, config, kind, float_output=heads_float)
    mean = ModelSpec().mean
    problems = graph_problems(content, mean, heads_float) if kind == "int8" else []
    origin = str(source.meta.get("source", source.weights.name))
    ap = source.meta.get("ap") or {}
    threshold = args.score_threshold or default_threshold(source.meta)
    spec = config.spec(*size, quantization=label, source=origin, ap=ap, score_threshold=threshold)
    content = attach_spec(content, spec)
    with replacing(output) as temporary:
        temporary.write_bytes(content)

    written = output.read_bytes()
    shown = images[:CHECKED_IMAGES]
    differences = compare_with_float(written, model, config, shown, mean)
    problems += saturation_problems(differences)
    for problem in problems:
        warn(problem)
    facts: dict[str, Any] = {
        "output": str(output),
        "weights": str(source.weights),
        "quantization": label,
        "size": list(size),
        "score_threshold": threshold,
        "bytes": len(written),
        "ops": read_graph(written).op_counts(),
        "warnings": problems,
        "differences": {name: {"largest": d.largest, "mean": d.mean} for name, d in differences.items()},
    }
    if kind == "int8":
        facts["lsb_99_9"] = lsb_difference(written, exported, config, shown, mean)
        facts["lsb_99_9_float"] = lsb_difference(written, exported, config, shown, mean, exact=False)
    return facts


def report(facts: dict[str, Any]) -> None:
    """Print the figures."""
    ops = ", ".join(f"{count} {name}" for name, count in facts["ops"].items())
    print(f"wrote {facts['output']}: {facts['quantization']}, {facts['bytes'] / 1000:.0f} kB, ops: {ops}")
    print(f"difference to the float model on {CHECKED_IMAGES} images (logits; anchor units of the box code):")
    for name, difference in facts["differences"].items():
        print(f"    {name:12} largest {difference['largest']:8.4f}   mean {difference['mean']:8.5f}")
    if "lsb_99_9" in facts:
        print(
            f"difference to the simulated int8 model, 99.9 percentile: {facts['lsb_99_9']:.0f} steps in integer "
            f"arithmetic, {facts['lsb_99_9_float']:.0f} in float32"
        )


def run(args: flags.FlagValues) -> dict[str, Any]:
    """The command."""
    chosen = [kind for kind in KINDS if args[kind].value]
    if len(chosen) != 1:
        given = " ".join(f"--{kind}" for kind in chosen) or "none"
        raise ValueError(f"give exactly one of {' '.join(f'--{kind}' for kind in KINDS)}, found {given}")
    kind = chosen[0]
    source = find_source(args.weights)
    output = Path(args.output) if args.output else source.weights.with_name(f"{source.weights.stem}_{kind}.tflite")
    if output.suffix != ".tflite":
        raise ValueError(f"--output is {str(output)!r}, expected a name ending in .tflite")
    facts = convert(source, kind, output, args)
    report(facts)
    if args.json:
        write_text(Path(args.json), json.dumps(facts, indent=1) + "\n")
    return facts


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    with user_errors():
        run(flags.FLAGS)


def define_flags() -> None:
    """Only when run as a command: qat.py imports this module and has flags of its own."""
    flags.DEFINE_boolean("int8", False, "int8 weights, activations, input and outputs")
    flags.DEFINE_boolean("fp16", False, "float16 weights, float32 input and outputs")
    flags.DEFINE_boolean("dynamic", False, "int8 weights, float activations quantized on the fly")
    flags.DEFINE_boolean("fp32", False, "everything float32")
    flags.DEFINE_string(
        "weights", None, "weights file (.keras) or run directory; default: newest run, else the shipped"
    )
    flags.DEFINE_multi_string(
        "data_dir", [], "folder of calibration images (labels not needed); several may be given; default: the run's own"
    )
    flags.DEFINE_string(
        "size", None, "input in pixels, N or HEIGHTxWIDTH, multiples of 32 (default: the run's, else 640)"
    )
    flags.DEFINE_string("output", None, "file to write (default: beside the weights)")
    flags.DEFINE_enum("method", "percentile", METHODS, "how activation ranges are chosen")
    flags.DEFINE_float(
        "percentile",
        DEFAULT_PERCENTILE,
        f"upper percentile of --method percentile, the lower tail is {LOWER_TAIL} times as large",
        LOWEST_PERCENTILE,
        100.0,
    )
    flags.DEFINE_integer("calibration_images", DEFAULT_IMAGES, "images at most", 1)
    flags.DEFINE_boolean("equalize", True, "without QAT: even out the channels in front of depthwise convs")
    flags.DEFINE_boolean("bias_correction", True, "without QAT: take back the mean error of rounding in the biases")
    flags.DEFINE_boolean("heads_float", False, "int8 only: the nine output convs in float, outputs float32")
    flags.DEFINE_float(
        "score_threshold",
        None,
        f"probability from which the file counts a face by default (default: {ModelSpec.score_threshold}; "
        f"{TAUGHT_THRESHOLD} for networks trained with --teacher, whose scores are lower)",
        0.01,
        0.99,
    )
    flags.DEFINE_string("json", None, "file to write the figures to")


if __name__ == "__main__":
    define_flags()
    app.run(main)
