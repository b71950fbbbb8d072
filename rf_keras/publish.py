"""The weights file that goes into git: small enough for it, and with the AP that was measured.

    python -m rf_keras.publish --weights RUN/best.keras --output W.keras
    python -m rf_keras.publish --weights W.keras --output W.keras --split "my photos" --metrics A.json --metrics B.json

Kernels are rounded: mantissas that end in zeros deflate well. AP belongs to the published file, so publish, measure
with `rf_keras.evaluate --json`, then publish the same file again with `--metrics`; rounding twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from rf_keras.evaluation.wider_ap import SUBSETS
from rf_keras.history import PART, images_seen, read_history
from rf_keras.model_file import load_model, save_model
from tflite.command import option, start
from tflite.messages import printable

FLOAT_BITS = 24  # significant bits of float32
NEEDED = (*SUBSETS, "size", "model")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to publish."""

    weights: Path = option(text="weights file (.keras) to publish")
    output: Path = option(text="file to write (.keras); may be the same")
    significant_bits: int = option(12, "bits kept of every kernel weight", low=2, high=FLOAT_BITS)
    antialias: bool | None = option(
        None, "whether large photos are halved before they are letterboxed (default: as --weights says)"
    )
    metrics: tuple[Path, ...] = option((), "JSON file of rf_keras.evaluate: AP to keep in the file; repeatable")
    history: Path | None = option(
        None, "JSON file: a list of the runs before those that --weights knows of, each with " + ", ".join(PART)
    )
    license: str | None = option(None, "terms to keep in the file, e.g. 'MIT' (default: as --weights says)")
    split: str | None = option(None, "with --metrics: what was measured, e.g. 'my photos, 317 images, LiteRT 2.3.0'")


def round_kernels(model: keras.Model, bits: int) -> None:
    """Round every kernel of `model` to `bits` significant bits, in place.

    Each weight moves by 2^−bits of itself at most. Biases and batch normalization are few, so they stay as they are.
    """
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(rounded(weight.numpy(), bits))


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """`values` with `bits` significant bits each."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def without_folders(value: Any) -> Any:
    """JSON-ready data with the last part alone of each absolute path: a file need not say where it was made."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def measured(paths: Sequence[Path], split: str) -> dict[str, Any]:
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
            metrics = json.loads(path.read_text())
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


def run(options: Options) -> None:
    """Round and write.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    if bool(options.metrics) != bool(options.split):
        raise ValueError("--metrics and --split belong together: figures, and what they were measured on")
    model, config, meta = load_model(options.weights)
    if options.split:
        meta = meta | {"ap": measured(options.metrics, options.split)}
    if options.history:
        parts = read_history(options.history) + (meta.get("parts") or [])
        meta = meta | {"parts": parts, "images_seen": images_seen(parts)}
    if options.license is not None:
        meta = meta | {"license": options.license}
    if options.antialias is not None:
        config = dataclasses.replace(config, antialias=options.antialias)
    round_kernels(model, options.significant_bits)
    save_model(model, config, options.output, without_folders(meta))
    print(f"wrote {printable(options.output)}: {options.output.stat().st_size:,} bytes")


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
