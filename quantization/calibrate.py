"""Activation ranges from images: what each int8 tensor of the network must hold.

Observers per tensor: `minmax` (over all images), `percentile` (mean over images of each one's 0.1 and 99.995
percentiles), `mse` (least squared error, after the activation, by search over a histogram). The nine outputs are
treated by use: only scores and box codes of anchors that can become a face deserve steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from quantization.simulate import INPUT, LEAKY_STEPS, LEAKY_UNIT, Ranges, input_range, range_keys
from rf_keras.backbones import LEAKY_SLOPE
from rf_keras.config import ModelConfig
from tflite.images import ImageError, expand_inputs, read_image
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

METHODS = ("percentile", "minmax", "mse")
DEFAULT_IMAGES = 128
FEWEST_IMAGES = 8  # below: an error; a range from a handful of images is a guess
FEW_IMAGES = 50  # below: a warning
BINS = 2048
DEFAULT_PERCENTILE = 99.995
# The lower tail may lose this many times the values of the upper one: what lies there is mostly what an activation
# will make small, while the largest values are faces.
LOWER_TAIL = 20
LOWEST_PERCENTILE = 97.5  # both tails together may take half of the values
# logit(0.0025): AP is measured from score 0.02 up, so steps below are lost on anchors that are never looked at.
SCORE_FLOOR = -6.0
CANDIDATE_LOGIT = -3.9  # logit(0.02): anchors whose box and landmark codes count
FEWEST_CANDIDATES = 200  # with fewer, box and landmark ranges come from all anchors


class CalibrationError(ValueError):
    """The images cannot be used; the message is one line that names folder, finding and expectation."""


def find_images(data_dirs: Sequence[str | Path], count: int) -> list[Path]:
    """`count` images spread evenly over the sorted files of each folder.

    Raises:
        CalibrationError: a folder without images, or fewer than `FEWEST_IMAGES` in all.
    """
    files, errors = expand_inputs([str(folder) for folder in data_dirs])
    if errors:
        raise CalibrationError(errors[0])
    paths = [path for path, _ in files]
    if len(paths) < FEWEST_IMAGES:
        where = ", ".join(map(str, data_dirs))
        raise CalibrationError(f"{where}: {len(paths)} images, calibration needs at least {FEWEST_IMAGES}")
    picked = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[index] for index in picked]


def load_images(
    paths: Sequence[Path], height: int, width: int, fewest: int = FEWEST_IMAGES, *, antialias: bool = False
) -> np.ndarray:
    """Letterboxed pictures, uint8 BGR [N, height, width, 3]; unreadable ones are left out with a warning.

    `antialias`: as `tflite.preprocess.letterbox` has it; what the network's config says.

    Raises:
        CalibrationError: fewer than `fewest` can be read or differ from each other.
    """
    images = []
    for path in paths:
        try:
            images.append(letterbox(read_image(path), height, width, ModelSpec().mean, antialias=antialias)[0])
        except ImageError as error:
            tf.get_logger().warning("left out of calibration: %s", error)
    if len(images) < fewest:
        raise CalibrationError(f"{paths[0].parent}: {len(images)} readable images, expected at least {fewest}")
    stack = np.stack(images)
    if differing_images(stack) < fewest:
        raise CalibrationError(
            f"{paths[0].parent}: only {differing_images(stack)} of {len(stack)} images differ from each other, "
            f"expected {fewest} different ones"
        )
    return stack


def differing_images(images: np.ndarray) -> int:
    """How many of the images [N, H, W, 3] differ from all before them, by 8×8 thumbnails (2 grey levels on average)."""
    count, height, width, _ = images.shape
    rows, columns = height // 8 * 8, width // 8 * 8
    blocks = images[:, :rows, :columns].reshape(count, 8, rows // 8, 8, columns // 8, 3)
    thumbnails = blocks.mean(axis=(2, 4)).reshape(count, -1)  # [N, 192]
    kept: list[np.ndarray] = []
    for thumbnail in thumbnails:
        if all(np.abs(thumbnail - other).mean() > 2 for other in kept):
            kept.append(thumbnail)
    return len(kept)


class Probe:
    """Runs a folded model and hands out every tensor that gets a range, one image at a time."""

    def __init__(self, model: keras.Model) -> None:
        self.keys = range_keys(model)
        self.layers = [name for name in self.keys if name != INPUT]
        network = keras.Model(model.input, [model.get_layer(name).output for name in self.layers])
        mean = tf.constant(ModelSpec().mean)
        self._run = tf.function(
            lambda image: network(tf.cast(image, tf.float32) - mean, training=False), autograph=False
        )

    def __call__(self, images: np.ndarray, label: str) -> Iterator[dict[str, np.ndarray]]:
        """Per image: layer name → float32 [h, w, C]."""
        for image in tqdm(images, desc=label, unit="image", leave=False):
            yield {name: value.numpy()[0] for name, value in zip(self.layers, self._run(image[None]), strict=True)}


def leaky_inputs(model: keras.Model) -> set[str]:
    """Layers whose only reader is a LeakyReLU: negative values there count for a tenth."""
    found = set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.LeakyReLU):
            found.add(layer.input._keras_history.layer.name)
    return found


def calibrate(
    model: keras.Model,
    config: ModelConfig,
    images: np.ndarray,
    method: str = "percentile",
    percentile: float = DEFAULT_PERCENTILE,
    *,
    by_use: bool = True,
) -> Ranges:
    """Ranges of all int8 tensors of a folded model.

    Args:
        model: folded.
        config: its configuration.
        images: uint8 BGR [N, H, W, 3], letterboxed.
        method: one of `METHODS`.
        percentile: upper one for `percentile`, 97.5-100; the lower cuts off `LOWER_TAIL` times as much.
        by_use: outputs get the range that candidates need (`head_ranges`), not their own; never with minmax.

    Returns:
        range name → (low, high) with low ≤ 0 ≤ high; `image` covers every pixel (`simulate.input_range`).
    """
    probe = Probe(model)
    tails = (0.0, 100.0) if method == "minmax" else (LOWER_TAIL * (100 - percentile), percentile)
    extremes: dict[str, list[np.ndarray]] = {name: [] for name in probe.layers}
    heads = Candidates(config)
    for outputs in probe(images, "calibrate"):
        for name, value in outputs.items():
            extremes[name].append(np.array([value.min(), *np.percentile(value, tails), value.max()]))
        heads.add(outputs)
    widest = {name: (min(v[0] for v in seen), max(v[3] for v in seen)) for name, seen in extremes.items()}
    if method == "minmax":
        found = widest
    elif method == "percentile":
        found = {
            name: (np.mean([v[1] for v in seen]), np.mean([v[2] for v in seen])) for name, seen in extremes.items()
        }
    else:
        found = _least_error(probe, images, widest, leaky_inputs(model))
    if by_use and method != "minmax":
        found |= heads.ranges(found)
    ranges: Ranges = {INPUT: input_range(ModelSpec().mean)}
    for name, key in probe.keys.items():
        if name != INPUT:
            low, high = ranges.get(key, (0.0, 0.0))
            ranges[key] = (min(low, float(found[name][0])), max(high, float(found[name][1])))
    return align_leaky(model, ranges)


class Candidates:
    """Collects what the nine outputs hold at anchors that score above 0.02."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.values: dict[str, list[np.ndarray]] = {}

    def add(self, outputs: dict[str, np.ndarray]) -> None:
        """Add one image's outputs, layer name → [h, w, C]."""
        anchors = self.config.anchors_per_cell
        for stride in self.config.strides:
            scores = outputs[f"class_{stride}"]
            self.values.setdefault(f"class_{stride}", []).append(scores.max(initial=0.0, keepdims=True).ravel())
            for head in ("box", "landmark"):
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


def _least_error(
    probe: Probe, images: np.ndarray, widest: dict[str, tuple[float, float]], leaky: set[str]
) -> dict[str, tuple[float, float]]:
    """Ranges of least squared error, by a second pass that fills a histogram per tensor."""
    counts = {name: np.zeros(BINS, np.int64) for name in probe.layers}
    for outputs in probe(images, "histograms"):
        for name, value in outputs.items():
            low, high = widest[name]
            sample = value.ravel()[:: max(1, value.size // 100_000)]
            bins = ((sample - low) * (BINS / max(high - low, 1e-9))).astype(np.int32)
            counts[name] += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
    return {name: best_range(counts[name], *widest[name], name in leaky) for name in probe.layers}


def best_range(counts: np.ndarray, low: float, high: float, leaky: bool = False) -> tuple[float, float]:
    """The int8 range of least expected squared error for a histogram over [low, high].

    Args:
        counts: [bins], equally wide.
        low, high: the histogram's edges.
        leaky: measure the error after LeakyReLU.

    Returns:
        (low, high), each a share (1/16 … 1) of the given, 0 included.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2

    def after(x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, LEAKY_SLOPE * x, x) if leaky else x

    shares = np.linspace(1 / 16, 1, 31)
    lows = min(low, 0.0) * (shares if low < 0 else np.ones(1))
    highs = max(high, 0.0) * (shares if high > 0 else np.ones(1))
    best, best_error = (min(low, 0.0), max(high, 0.0)), np.inf
    for a in lows:
        for b in highs:
            scale = max(b - a, 1e-9) / 255
            zero = np.round(-a / scale)
            rounded = (np.clip(np.round(centres / scale) + zero, 0, 255) - zero) * scale
            error = float(np.dot(counts, np.square(after(rounded) - after(centres))))
            if error < best_error:
                best, best_error = (float(a), float(b)), error
    return best


def align_leaky(model: keras.Model, ranges: Ranges) -> Ranges:
    """Widen ranges around each LeakyReLU so that all interpreters compute it alike, to the last bit.

    XNNPACK's int8 LeakyReLU multiplies by round(256 · s_in / s_out), and by a tenth of that, rounded as well. With a
    ratio of 10·n / 256 neither is rounded; otherwise both slopes are off by up to a few tenths of a percent per layer,
    which adds up over 38 of them, and no simulation sees it. TensorFlow Lite's own kernel (tflite-runtime 2.14) rounds
    a negative value twice, which differs for 1 in 8 to 16 of them; for `LEAKY_STEPS` alone there is a slope
    (`simulate.LEAKY_EXPORT_SLOPE`) with which it differs for none. So the conv's range is widened where the ratio is
    below that, the LeakyReLU's where it is above.
    """
    aligned = dict(ranges)
    keys = range_keys(model)
    # The small excess decides halves of positive values the way XNNPACK rounds them: up.
    wanted = (LEAKY_STEPS + 1e-4) / LEAKY_SLOPE / LEAKY_UNIT
    for layer in model.layers:
        if isinstance(layer, keras.layers.LeakyReLU):
            before, after = keys[layer.input._keras_history.layer.name], keys[layer.name]
            low, high = aligned[before]
            out_low, out_high = aligned[after]
            if high - low <= 0 or out_high - out_low <= 0:
                continue
            factor = wanted * (out_high - out_low) / (high - low)
            if factor >= 1:
                aligned[before] = (low * factor, high * factor)
            else:
                aligned[after] = (out_low / factor, out_high / factor)
    return aligned
