"""The average of several weights files: two runs, one of which started from the other, are often best in the middle.

    python -m rf_keras.average --weights LAST.keras --weights BEFORE.keras --output AVERAGE.keras

Quantization-aware runs too, where they started from the same ranges and kept them, or with --first_ranges: tune the
result a little, then.

Sources: model soups (Wortsman et al. 2022); with --shares, weights before and after a fine-tuning that taught something
new (WiSE-FT, Wortsman et al. 2022). Averages of networks that were trained apart mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rf_keras.config import ModelConfig, check_no_mesh, config_to_dict
from tflite.command import option, start
from tflite.messages import printable

if TYPE_CHECKING:
    import tf_keras as keras

    Loaded = tuple[keras.Model, ModelConfig, Path]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to average."""

    weights: tuple[Path, ...] = option(text="weights file (.keras); two or more, the first says which network")
    shares: tuple[float, ...] = option((), "of each file, in the same order, e.g. 0.7,0.3 (default: equal)", low=0)
    first_ranges: bool = option(
        False, "of quantization-aware weights whose activation ranges differ take the first file's ranges"
    )
    output: Path = option(text="file to write (.keras)")


def average_weights(sources: Sequence[Loaded], shares: Sequence[float] = ()) -> keras.Model:
    """A model of the first one's network, each weight the mean over all.

    Args:
        sources: model, configuration and file of each.
        shares: of each, positive in sum; equal ones if none are given.

    Raises:
        ValueError: another network; names the file.
    """
    import tf_keras as keras

    config = sources[0][1]
    wanted = config_to_dict(config)
    for _, network, name in sources:
        found = config_to_dict(network)
        if differing := [key for key in wanted if wanted[key] != found[key]]:
            key = differing[0]
            raise ValueError(f"{name}: {key} is {found[key]}, expected {wanted[key]} as in {sources[0][2]}")
    average = keras.models.clone_model(sources[0][0])  # BatchNormalization may be folded into its convs
    for layer in average.layers:
        weights = [model.get_layer(layer.name).get_weights() for model, _, _ in sources]
        layer.set_weights([np.average(same, axis=0, weights=shares or None) for same in zip(*weights, strict=True)])
    return average


def run(options: Options) -> None:
    """Average and write.

    Raises:
        ValueError: files that do not fit each other; one line.
    """
    if len(options.weights) < 2:
        raise ValueError(f"--weights: {len(options.weights)} given, expected two or more")
    if options.shares and (len(options.shares) != len(options.weights) or not sum(options.shares) > 0):
        raise ValueError(f"--shares: {len(options.shares)} given, expected {len(options.weights)}, not all of them 0")
    from rf_keras.model_file import load_model, save_model

    loaded = [(*load_model(path), path) for path in options.weights]
    ranges = loaded[0][2].get("quantization")
    for _, network, meta, path in loaded:
        check_no_mesh(network, path)
        other = meta.get("quantization")
        if other != ranges and not (options.first_ranges and ranges and other and _alike(ranges, other)):
            expected = "the same or none (quantization-aware runs from the same weights, at the same size)"
            raise ValueError(f"{path}: its quantization ranges differ from {loaded[0][3]}'s, expected {expected}")
    average = average_weights([(model, config, path) for model, config, _, path in loaded], options.shares)
    _, config, meta, _ = loaded[0]
    # AP was measured of the first file, not of this one.
    kept: dict[str, Any] = {key: value for key, value in meta.items() if key != "ap"}
    save_model(average, config, options.output, kept | {"averaged": [path.name for path in options.weights]})
    print(f"wrote {printable(options.output)}: the mean of {len(loaded)} files")


def _alike(ranges: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two networks' ranges are of the same tensors at the same size."""
    return ranges["size"] == other["size"] and set(ranges["ranges"]) == set(other["ranges"])


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
