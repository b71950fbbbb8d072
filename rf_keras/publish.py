"""The weights file that goes into git: small enough for it, and with the AP that was measured.

    python -m rf_keras.publish --weights RUN/best.keras --output W.keras
    python -m rf_keras.publish --weights W.keras --output W.keras --split "my photos" --metrics float.json,int8.json

Kernels are rounded: mantissas that end in zeros deflate well. AP belongs to the published file, so publish, measure
with `rf_keras.evaluate --json`, then publish the same file again with `--metrics`; rounding twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from absl import app, flags

from rf_keras.model_file import load_model, save_model
from rf_keras.wider_ap import SUBSETS
from tflite.command import flags_only, user_errors

FLOAT_BITS = 24  # significant bits of float32
NEEDED = (*SUBSETS, "size", "model")


def round_kernels(model: keras.Model, bits: int) -> None:
    """Round every kernel of `model` to `bits` significant bits, in place.

    Each weight moves by 2^−bits of itself at most. Biases and batch normalization are few, so they stay as they are.
    """
    for weight in model.weights:
        if len(weight.shape) > 1:
            mantissa, exponent = np.frexp(weight.numpy())
            weight.assign(np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits))


def measured(paths: Sequence[str], split: str) -> dict[str, Any]:
    """What the weights file and the .tflite files made from it say about AP.

    Args:
        paths: JSON files of `rf_keras.evaluate`.
        split: what was measured on.

    Returns:
        {"split": …, size: {"float" or "int8": {"easy": percent, "medium": …, "hard": …}}}, one decimal.

    Raises:
        ValueError: a file that is not one, or two of the same size and kind; names it.
    """
    found: dict[str, Any] = {"split": split}
    for path in paths:
        try:
            metrics = json.loads(Path(path).read_text())
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error})") from error
        # Without the official .mat files the three are there, and null.
        missing = [name for name in NEEDED if not isinstance(metrics, dict) or metrics.get(name) is None]
        if missing:
            raise ValueError(f"{path}: lacks {missing}, expected what `rf_keras.evaluate --gt_dir G --json` writes")
        kind = "int8" if str(metrics["model"]).endswith(".tflite") else "float"
        kinds = found.setdefault(str(metrics["size"]), {})
        if kind in kinds:
            raise ValueError(f"{path}: a second file for {kind} at {metrics['size']}, expected one of each")
        kinds[kind] = {name: round(metrics[name], 1) for name in SUBSETS}
    return found


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    args = flags.FLAGS
    with user_errors():
        if bool(args.metrics) != bool(args.split):
            raise ValueError("--metrics and --split belong together: figures, and what they were measured on")
        model, config, meta = load_model(args.weights)
        if args.metrics:
            meta = meta | {"ap": measured(args.metrics, args.split)}
        if args.antialias is not None:
            config = dataclasses.replace(config, antialias=args.antialias)
        round_kernels(model, args.significant_bits)
        save_model(model, config, args.output, meta)
        print(f"wrote {args.output}: {Path(args.output).stat().st_size:,} bytes")


if __name__ == "__main__":
    flags.DEFINE_string("weights", None, "weights file (.keras) to publish", required=True)
    flags.DEFINE_string("output", None, "file to write (.keras); may be the same", required=True)
    flags.DEFINE_integer("significant_bits", 12, "bits kept of every kernel weight", 2, FLOAT_BITS)
    flags.DEFINE_boolean(
        "antialias", None, "whether large photos are halved before they are letterboxed (default: as --weights says)"
    )
    flags.DEFINE_list("metrics", [], "JSON files of rf_keras.evaluate, comma-separated: AP to keep in the file")
    flags.DEFINE_string("split", None, "with --metrics: what was measured, e.g. 'wider/dev, 317 images, LiteRT 2.3.0'")
    app.run(main)
