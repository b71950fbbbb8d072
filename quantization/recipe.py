"""The int8 recipe, which every command takes from here: equalize → calibrate → correct biases → simulate → export →
attach the description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras as keras

from quantization.bias import correct_biases
from quantization.calibrate import calibrate
from quantization.config import Recipe
from quantization.equalize import equalize_on
from quantization.export import to_tflite
from quantization.graph import FoldedNetwork, Ranges
from quantization.leaky import align_leaky
from quantization.simulate import simulate
from quantization.standard_metadata import add_standard_metadata
from tflite.spec import ModelSpec, attach_spec


@dataclass(frozen=True, eq=False)
class Int8Network:
    """A network and what int8 needs to know about it.

    Attributes:
        network: folded, with the weights that are rounded.
        reference: the float network it stands for: the same without bias correction.
        ranges: of its int8 tensors.
        depthwise_per_tensor: as in `config.Recipe`.
    """

    network: FoldedNetwork
    reference: FoldedNetwork
    ranges: Ranges
    depthwise_per_tensor: bool = False


def quantize(network: FoldedNetwork, images: np.ndarray, recipe: Recipe) -> Int8Network:
    """Equalize, calibrate, correct biases.

    Args:
        network: folded; stays as it is.
        images: uint8 BGR [N, H, W, 3], letterboxed, of the network's input size if that is fixed.
        recipe: which of it, and how.
    """
    if recipe.equalize:
        network = equalize_on(network, images, recipe.method, recipe.percentile)
    ranges = calibrate(network, images, recipe.method, recipe.percentile, by_use=recipe.by_use)
    per_tensor = recipe.depthwise_per_tensor
    if not recipe.bias_correction:
        return Int8Network(network, network, ranges, per_tensor)
    corrected = correct_biases(network, ranges, images, depthwise_per_tensor=per_tensor)
    return Int8Network(corrected, network, ranges, per_tensor)


def with_stored_ranges(network: FoldedNetwork, meta: dict[str, Any]) -> Int8Network | None:
    """The network with the ranges that quantization-aware training left in a weights file, None for float weights.

    Args:
        network: folded.
        meta: what `model_file.load_model` gives.

    Raises:
        ValueError: a range that the network needs is missing, or lies upside down.
    """
    stored = meta.get("quantization")
    if not stored:
        return None
    ranges = {name: (float(low), float(high)) for name, (low, high) in stored["ranges"].items()}
    for name in network.keys.values():
        low, high = ranges.get(name, (1.0, 0.0))
        if low > high:
            raise ValueError(f"quantization range of {name} is {ranges.get(name)}, expected two rising numbers")
    return Int8Network(network, network, align_leaky(network, ranges))  # a run may be older than that alignment


def export_int8(int8: Int8Network, spec: ModelSpec, licence: str = "") -> tuple[bytes, keras.Model]:
    """Simulate, export, describe, attach.

    Args:
        int8: from `quantize` or `with_stored_ranges`.
        spec: what the file says of itself; its input size is the file's.
        licence: of the weights, as far as known.

    Returns:
        The .tflite file, and the simulated model it was made from.
    """
    height, width = spec.input_height, spec.input_width
    simulated = simulate(
        int8.network, int8.ranges, height=height, width=width, depthwise_per_tensor=int8.depthwise_per_tensor
    )
    content = add_standard_metadata(to_tflite(simulated, int8.network.config, "int8"), spec, licence)
    return attach_spec(content, spec), simulated
