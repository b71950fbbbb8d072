"""Activation ranges from images: what each int8 tensor of the network must hold.

Observers per tensor: `minmax` (over all images) and `percentile` (mean over images of each one's 0.1 and 99.995
percentiles). The outputs are treated by use: only scores and box codes of anchors that can become a face deserve
steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from quantization.config import DEFAULT_PERCENTILE, LOWER_TAIL
from quantization.graph import INPUT, FoldedNetwork, Ranges
from quantization.leaky import align_leaky
from quantization.simulate import input_range
from rf_keras.config import ModelConfig
from rf_keras.model import MESH
from tflite.spec import ModelSpec

# logit(0.0025): AP is measured from score 0.02 up, so steps below are lost on anchors that are never looked at.
SCORE_FLOOR = -6.0
CANDIDATE_LOGIT = -3.9  # logit(0.02): anchors whose box and landmark codes count
FEWEST_CANDIDATES = 200  # with fewer, box and landmark ranges come from all anchors


class Probe:
    """Runs a network and hands out every tensor that gets a range, one image at a time."""

    def __init__(self, network: FoldedNetwork) -> None:
        self.layers = [name for name in network.keys if name != INPUT]
        model = network.model
        inner = keras.Model(model.input, [model.get_layer(name).output for name in self.layers])
        mean = tf.constant(ModelSpec().mean)
        self._run = tf.function(lambda image: inner(tf.cast(image, tf.float32) - mean, training=False), autograph=False)

    def __call__(self, images: np.ndarray, label: str) -> Iterator[dict[str, np.ndarray]]:
        """Per image: layer name → float32 [h, w, C]."""
        for image in tqdm(images, desc=label, unit="image", leave=False, disable=None):
            yield {name: value.numpy()[0] for name, value in zip(self.layers, self._run(image[None]), strict=True)}


def calibrate(
    network: FoldedNetwork,
    images: np.ndarray,
    method: str = "percentile",
    percentile: float = DEFAULT_PERCENTILE,
    *,
    by_use: bool = True,
) -> Ranges:
    """Ranges of all int8 tensors of a network.

    Args:
        network: folded.
        images: uint8 BGR [N, H, W, 3], letterboxed.
        method: one of `METHODS`.
        percentile: upper one for `percentile`, 97.5-100; the lower cuts off `LOWER_TAIL` times as much.
        by_use: outputs get the range that candidates need (`HeadRanges`), not their own; never with minmax.

    Returns:
        range name → (low, high) with low ≤ 0 ≤ high; `image` covers every pixel (`simulate.input_range`).
    """
    probe = Probe(network)
    tails = (0.0, 100.0) if method == "minmax" else (LOWER_TAIL * (100 - percentile), percentile)
    extremes: dict[str, list[np.ndarray]] = {name: [] for name in probe.layers}
    heads = HeadRanges(network.config)
    for outputs in probe(images, "calibrate"):
        for name, value in outputs.items():
            extremes[name].append(np.array([value.min(), *np.percentile(value, tails), value.max()]))
        heads.add(outputs)
    if method == "minmax":
        found = {name: (min(v[0] for v in seen), max(v[3] for v in seen)) for name, seen in extremes.items()}
    else:
        found = {
            name: (np.mean([v[1] for v in seen]), np.mean([v[2] for v in seen])) for name, seen in extremes.items()
        }
    if by_use and method != "minmax":
        found |= heads.ranges(found)
    ranges: Ranges = {INPUT: input_range()}
    for name, key in network.keys.items():
        if name != INPUT:
            low, high = ranges.get(key, (0.0, 0.0))
            ranges[key] = (min(low, float(found[name][0])), max(high, float(found[name][1])))
    return align_leaky(network, ranges)


class HeadRanges:
    """Ranges of the outputs by what they hold at anchors that score above 0.02."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.codes = ("box", "landmark", MESH) if config.mesh else ("box", "landmark")
        self.values: dict[str, list[np.ndarray]] = {}

    def add(self, outputs: dict[str, np.ndarray]) -> None:
        """Add one image's outputs, layer name → [h, w, C]."""
        anchors = self.config.anchors_per_cell
        for stride in self.config.strides:
            scores = outputs[f"class_{stride}"]
            self.values.setdefault(f"class_{stride}", []).append(scores.max(initial=0.0, keepdims=True).ravel())
            for head in self.codes:
                name = f"{head}_{stride}"
                codes = outputs[name].reshape(*scores.shape[:2], anchors, -1)
                self.values.setdefault(name, []).append(codes[scores > CANDIDATE_LOGIT].ravel())

    def ranges(self, fallback: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Scores: from `SCORE_FLOOR`, or the observed low if that is higher, to the largest seen. Codes: the 0.05 and
        99.95 percentiles over candidates; the fallback where there are too few."""
        found = {}
        for name, parts in self.values.items():
            values = np.concatenate(parts)
            if name.startswith("class_"):
                found[name] = (max(SCORE_FLOOR, fallback[name][0]), float(values.max(initial=0.0)))
            elif len(values) >= FEWEST_CANDIDATES:
                low, high = np.percentile(values, (0.05, 99.95))
                found[name] = (float(low), float(high))
        return found
