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

VALUES_PER_ANCHOR = {"score": 1, "box": 4, "landmark": 10}

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


def dequantize(values: np.ndarray, scale: float | np.ndarray, zero_point: int | np.ndarray) -> np.ndarray:
    """(q − zero point)·scale in float32; scale and zero point are numbers or broadcast to the values."""
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


def _params(values: np.ndarray, name: str, quantization: Quantization | None) -> tuple[float, int] | None:
    """Scale and zero point of an integer output, None of a float one."""
    return quantization[name] if quantization and values.dtype.kind in "iu" else None


def _survivors(scores: np.ndarray, threshold: float, quantization: tuple[float, int] | None) -> np.ndarray:
    """Indices of the scores at or above the threshold; compared as stored, not dequantised.

    Where no value passes, the smallest that would is beyond the integers' range; NumPy compares with it all the same.
    """
    if quantization is None:
        return (scores >= logit(threshold)).nonzero()[0]
    return (scores >= min_quantized_score(threshold, *quantization, scores.dtype)).nonzero()[0]


def _gather(
    tensors: list[np.ndarray], indices: list[np.ndarray], quantization: list[tuple[float, int] | None]
) -> np.ndarray:
    """float32 [N, k]: of each level's tensor [A, k] the rows of its indices, dequantised.

    All levels in one go: for the few rows that are left, each NumPy call costs more than its arithmetic.
    """
    parts = [tensor.take(index, axis=0) for tensor, index in zip(tensors, indices, strict=True)]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not any(quantization):
        return rows.astype(np.float32, copy=False)
    params = np.array([level or (1, 0) for level in quantization], np.float32)  # a float level stays as it is
    if len(parts) > 1:
        params = params.repeat([len(index) for index in indices], axis=0)  # [N, 2]
    return dequantize(rows, params[:, :1], params[:, 1:])


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
        The candidates. Those whose box or landmarks are not finite are left out: float tensors can
        hold some, and a scale near float32's largest can make some.
    """
    tensors: dict[str, list[np.ndarray]] = {kind: [] for kind in VALUES_PER_ANCHOR}
    scales: dict[str, list[tuple[float, int] | None]] = {kind: [] for kind in VALUES_PER_ANCHOR}
    indices, firsts, first = [], [], 0
    for stride in spec.strides:
        name = f"score_{stride}"
        scores = outputs[name].reshape(-1)
        index = _survivors(scores, score_threshold, _params(scores, name, quantization))
        if len(index):
            indices.append(index)
            firsts.append(first)
            for kind, width in VALUES_PER_ANCHOR.items():
                values = outputs[f"{kind}_{stride}"].reshape(-1, width)
                tensors[kind].append(values)
                scales[kind].append(_params(values, f"{kind}_{stride}", quantization))
        first += scores.size
    if not indices:
        return Candidates(
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty((0, 5, 2), np.float32),
            np.empty(0, np.int64),
        )
    logits = _gather(tensors["score"], indices, scales["score"])[:, 0]
    if len(logits) > spec.max_candidates:
        indices, logits = _strongest(indices, logits, spec.max_candidates)

    number = np.concatenate([index + first for index, first in zip(indices, firsts, strict=True)])
    near = anchors.take(number, axis=0)
    boxes = decode_boxes(_gather(tensors["box"], indices, scales["box"]), near, spec.variances)
    landmarks = decode_landmarks(_gather(tensors["landmark"], indices, scales["landmark"]), near, spec.variances)
    if np.isfinite(boxes).all() and np.isfinite(landmarks).all():
        return Candidates(boxes, logits, landmarks, number)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(landmarks).all(axis=(1, 2))
    return Candidates(boxes[finite], logits[finite], landmarks[finite], number[finite])


def _strongest(indices: list[np.ndarray], logits: np.ndarray, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The `count` highest logits over all levels, back in anchor order; the indices per level."""
    keep = np.zeros(len(logits), bool)
    keep[np.argsort(-logits, kind="stable")[:count]] = True
    masks = np.split(keep, np.cumsum([len(level) for level in indices])[:-1])
    return [index[mask] for index, mask in zip(indices, masks, strict=True)], logits[keep]
