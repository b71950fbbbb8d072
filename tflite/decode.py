"""From the nine output tensors to candidates: integer-domain threshold, then boxes and landmarks of the survivors.

The arithmetic is float32 in the order written here, so that Kotlin computes the same numbers; only `exp` runs in
float64 and is rounded, because float32 versions of it differ between libraries in the last bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tflite.spec import ModelSpec

# Largest exponent of a box size: 1000 px from a 16 px anchor. Beyond it exp overflows and the box means nothing.
MAX_LOG_SIZE = np.float32(math.log(1000 / 16))

Quantization = Mapping[str, tuple[float, int]]  # output name → (scale, zero point)


@dataclass(frozen=True)
class Candidates:
    """Anchors above the threshold, in anchor order, in input pixels.

    Attributes:
        boxes: float32 [N, 4], x1 y1 x2 y2, not clipped.
        logits: float32 [N]; probability = sigmoid(logit).
        landmarks: float32 [N, 5, 2], x y.
        anchors: int64 [N], increasing index into the anchor table.
    """

    boxes: np.ndarray
    logits: np.ndarray
    landmarks: np.ndarray
    anchors: np.ndarray


def decode_boxes(deltas: np.ndarray, anchors: np.ndarray, variances: tuple[float, ...]) -> np.ndarray:
    """Centre and size deltas to corners.

    Args:
        deltas: [N, 4] dx dy dw dh.
        anchors: [N, 3] cx cy size in pixels.
        variances: (centre, size).

    Returns:
        float32 [N, 4] x1 y1 x2 y2 in pixels: centre = anchor + d·v₀·size, side = size·exp(min(d·v₁, log(1000/16))).

    Source: the SSD box code (Liu et al. 2016, §2.2); the clamp as in torchvision's BoxCoder.
    """
    deltas = np.asarray(deltas, np.float32)
    anchors = np.asarray(anchors, np.float32)
    size = anchors[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        centre = anchors[:, :2] + deltas[:, :2] * np.float32(variances[0]) * size  # [N, 2]
        exponent = np.minimum(deltas[:, 2:] * np.float32(variances[1]), MAX_LOG_SIZE)
        half = size * np.exp(exponent, dtype=np.float64).astype(np.float32) * np.float32(0.5)
        return np.concatenate((centre - half, centre + half), axis=1)


def decode_landmarks(deltas: np.ndarray, anchors: np.ndarray, variances: tuple[float, ...]) -> np.ndarray:
    """Landmark deltas [N, 10] (x0 y0 … x4 y4) to float32 [N, 5, 2] pixels: point = anchor centre + d·v₀·size.

    `anchors` and `variances` as in `decode_boxes`.
    """
    deltas = np.asarray(deltas, np.float32).reshape(-1, 5, 2)
    anchors = np.asarray(anchors, np.float32)[:, None]  # [N, 1, 3]
    with np.errstate(over="ignore", invalid="ignore"):
        return anchors[..., :2] + deltas * np.float32(variances[0]) * anchors[..., 2:]


def logit(probability: float) -> np.float32:
    """log(p / (1 − p)) as float32, ∓inf at 0 and 1.

    Raises:
        ValueError: outside 0-1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"score threshold is {probability}, expected a probability in 0-1")
    if probability in (0, 1):
        return np.float32(-np.inf if probability == 0 else np.inf)
    return np.float32(math.log(probability / (1 - probability)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities, float32, without overflow."""
    exponential = np.exp(-np.abs(logits), dtype=np.float64)
    return (np.where(logits >= 0, 1, exponential) / (1 + exponential)).astype(np.float32)


def dequantize(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """(q − zero point)·scale in float32."""
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


@functools.lru_cache(maxsize=256)
def min_quantized_score(threshold: float, scale: float, zero_point: int, dtype: np.dtype | type) -> int:
    """The smallest integer whose dequantised logit is at least logit(threshold).

    Args:
        threshold: probability in 0-1.
        scale, zero_point: of the score tensor.
        dtype: its integer type.

    Returns:
        An integer of the type's range, or one more than its maximum if no value passes.
    """
    limits = np.iinfo(np.dtype(dtype))
    wanted = logit(threshold)
    values = np.arange(limits.min, limits.max + 1)
    return int(limits.min + np.searchsorted(dequantize(values, scale, zero_point), wanted))


def _survivors(scores: np.ndarray, threshold: float, quantization: tuple[float, int] | None) -> tuple[np.ndarray, ...]:
    """Indices and float32 logits of the scores at or above the threshold; compared as stored, not dequantised."""
    if quantization is None:
        index = np.flatnonzero(scores >= logit(threshold))
        return index, scores[index].astype(np.float32)
    least = min_quantized_score(threshold, *quantization, scores.dtype)
    if least > np.iinfo(scores.dtype).max:
        index = np.empty(0, np.int64)
    else:
        index = np.flatnonzero(scores >= least)
    return index, dequantize(scores[index], *quantization)


def decode_outputs(
    outputs: Mapping[str, np.ndarray],
    anchors: np.ndarray,
    spec: ModelSpec,
    score_threshold: float,
    quantization: Quantization | None = None,
) -> Candidates:
    """Threshold the scores, then decode what is left.

    Args:
        outputs: `score_S`, `box_S`, `landmark_S` for each stride S, shapes [1, H/S, W/S, anchors·k] with k = 1, 4, 10.
        anchors: float32 [A, 3] of `make_anchors`, for this input size.
        spec: strides, variances and `max_candidates`: beyond so many, those of the highest logit stay, of equal ones
            those with the lower anchor index.
        score_threshold: probability, 0-1.
        quantization: scale and zero point of each integer output; not needed for float tensors.

    Returns:
        The candidates. Those whose box or landmarks are not finite are left out (only a float model can make any).
    """
    indices, logits = [], []
    for stride in spec.strides:
        scores = outputs[f"score_{stride}"].reshape(-1)
        params = quantization[f"score_{stride}"] if quantization and scores.dtype.kind in "iu" else None
        index, level_logits = _survivors(scores, score_threshold, params)
        indices.append(index)
        logits.append(level_logits)
    if sum(map(len, indices)) > spec.max_candidates:
        indices, logits = _strongest(indices, logits, spec.max_candidates)

    boxes: list[np.ndarray] = []
    landmarks: list[np.ndarray] = []
    numbers = []
    first = 0
    for stride, index in zip(spec.strides, indices, strict=True):
        for name, width, rows in ((f"box_{stride}", 4, boxes), (f"landmark_{stride}", 10, landmarks)):
            values = outputs[name].reshape(-1, width).take(index, axis=0)
            rows.append(
                dequantize(values, *quantization[name]) if quantization and values.dtype.kind in "iu" else values
            )
        numbers.append(index + first)
        first += outputs[f"score_{stride}"].size
    number = np.concatenate(numbers)
    near = anchors.take(number, axis=0)
    found = Candidates(
        decode_boxes(np.concatenate(boxes), near, spec.variances),
        np.concatenate(logits),
        decode_landmarks(np.concatenate(landmarks), near, spec.variances),
        number,
    )
    finite = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.landmarks).all(axis=(1, 2))
    if finite.all():
        return found
    return Candidates(found.boxes[finite], found.logits[finite], found.landmarks[finite], found.anchors[finite])


def _strongest(
    indices: list[np.ndarray], logits: list[np.ndarray], count: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The `count` highest logits over all levels, back in anchor order, per level."""
    order = np.argsort(-np.concatenate(logits), kind="stable")[:count]
    keep = np.zeros(sum(map(len, logits)), bool)
    keep[order] = True
    masks = np.split(keep, np.cumsum([len(level) for level in logits])[:-1])
    return (
        [index[mask] for index, mask in zip(indices, masks, strict=True)],
        [level[mask] for level, mask in zip(logits, masks, strict=True)],
    )
