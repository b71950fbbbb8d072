"""Scores that mean the same at every stride: Platt scaling of the score heads, one line per level.

    python -m rf_keras.scale_scores --weights W.keras --data_dir D [--data_dir D2] [--size 640] --output SCALED.keras

Each level has a score head of its own, and tuning by a teacher's quality scores leaves them on different scales: what
one level calls 0.5 is a face more often than at another. AP, NMS and a threshold compare scores across levels, so this
costs most where few detections decide, among large faces. Here a logistic regression per level says which straight
line takes its logits to the log odds of a face, and the heads' weights take that line in. The finest level stays as it
is. Quantization-aware weights are asked unrounded, and the ranges of their scores move along. Networks that learned
otherwise gained nothing: the command prints what each half of the images gains by the other's lines.

Source: J. Platt, Probabilistic outputs for support vector machines, 1999.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from tqdm import tqdm

from rf_keras.config import ModelConfig
from rf_keras.evaluation.ground_truth import Truth, truth_of_samples
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.evaluation.scoring import face_sizes
from rf_keras.evaluation.wider_ap import Matches, average_precision, first_on_face, match_detections
from rf_keras.input_size import DEFAULT_SIZE, parse_size
from rf_keras.labels import read_labels
from rf_keras.model_file import check_suffix, load_model, save_model
from tflite.command import option, start
from tflite.decode import sigmoid
from tflite.images import read_image
from tflite.messages import printable
from tflite.nms import nms
from tflite.postprocess import to_image
from tflite.spec import ModelSpec

Line = tuple[float, float]  # slope, offset: logit' = slope · logit + offset

FIT_SCORE = 0.05  # below, precision is a few percent: many detections there, and they decide nothing
FEWEST = 20  # faces, and false alarms, that a level must have for a line
LARGE = (0, 32, 64)  # √(w·h) in image pixels from which faces count in the figures shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to scale, and by which faces."""

    weights: Path = option(text="weights file (.keras), float or quantization-aware")
    data_dir: tuple[Path, ...] = option(text="folder with images/ and label.txt; repeatable")
    size: tuple[int, ...] = option(
        (),
        "multiples of 32, comma-separated: letterbox into that many pixels; several count together "
        f"(default: a quantization-aware file's own, else {DEFAULT_SIZE})",
    )
    output: Path = option(text="file to write (.keras)")
    json: Path | None = option(None, "file to write the lines and AP to")


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What the network said about one image, before suppression.

    Attributes:
        truth: the image's faces.
        boxes: float32 [N, 4], x1 y1 x2 y2 in image pixels, clipped to the image.
        logits: float32 [N].
        levels: int64 [N], index into the strides.
    """

    truth: Truth
    boxes: np.ndarray
    logits: np.ndarray
    levels: np.ndarray


def level_of(anchors: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """int64 [N]: the level, 0 the finest, of indices [N] into the anchor table of the spec's input."""
    height, width = spec.input_height, spec.input_width
    cells = [
        (height // stride) * (width // stride) * len(sizes)
        for stride, sizes in zip(spec.strides, spec.anchor_sizes, strict=True)
    ]
    return np.searchsorted(np.cumsum(cells), anchors, side="right")


def look(detector: KerasDetector, truths: Sequence[Truth], label: str) -> list[Seen]:
    """The network's candidates above `FIT_SCORE` in each image."""
    seen = []
    for truth in tqdm(truths, unit="image", desc=label, leave=False, disable=None):
        image = read_image(truth.image)
        found, spec, scale = detector.candidates(image, FIT_SCORE)
        boxes = to_image(found.boxes, image.shape[:2], scale)
        seen.append(Seen(truth, boxes, found.logits, level_of(found.anchors, spec)))
    return seen


def suppressed(seen: Seen, lines: Sequence[Line] | None = None) -> tuple[Matches, np.ndarray, np.ndarray]:
    """Detections after NMS with the lines applied: their matches, and logits and levels in the order of these."""
    logits = seen.logits
    if lines is not None:
        slope, offset = np.array(lines, np.float32).T
        logits = slope[seen.levels] * logits + offset[seen.levels]
    keep = nms(seen.boxes, logits, ModelSpec.iou_threshold)
    matches = match_detections(seen.boxes[keep], sigmoid(logits[keep]), seen.truth.boxes)
    return matches, logits[keep][matches.order], seen.levels[keep][matches.order]


def platt_line(logits: np.ndarray, hits: np.ndarray) -> Line:
    """The most likely (slope, offset) of P(face) = sigmoid(slope · logit + offset).

    Args:
        logits: [N], finite.
        hits: bool [N], whether each was a face; both kinds are there.
    """
    from scipy.optimize import minimize  # only here: training needs no SciPy

    z, y = logits.astype(np.float64), hits.astype(np.float64)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        u = line[0] * z + line[1]
        error = sigmoid(u) - y
        return float(np.mean(np.logaddexp(0, u) - y * u)), np.array((np.mean(error * z), np.mean(error)))

    slope, offset = minimize(loss, np.array((1.0, 0.0)), jac=True, method="BFGS").x
    return float(slope), float(offset)


def fit_lines(seen: Sequence[Seen], strides: Sequence[int]) -> tuple[list[Line], list[dict[str, int]]]:
    """A line per level such that scores are comparable, the finest level's being (1, 0).

    A detection after NMS is a hit if it is the best on its face; further ones on it, and those on faces that do not
    count, are left out.

    Returns:
        The lines and, per level, how many detections of either kind they rest on: {"hits": …, "false_alarms": …}.

    Raises:
        ValueError: fewer than `FEWEST` hits or false alarms at a level; or a level whose score says nothing.
    """
    logits, levels, hits = [], [], []
    for image in seen:
        matches, z, level = suppressed(image)
        on_face = matches.face >= 0
        first = first_on_face(matches)
        counted = ~on_face
        counted[first] = image.truth.valid[matches.face[first]]
        logits.append(z[counted])
        levels.append(level[counted])
        hits.append(on_face[counted])
    z, level, hit = (np.concatenate(parts) if parts else np.zeros(0) for parts in (logits, levels, hits))
    hit = hit.astype(bool)
    images = len({image.truth.image for image in seen})  # one is there as often as there are sizes
    raw, counts = [], []
    for index, stride in enumerate(strides):
        here = level == index
        faces, alarms = int(np.count_nonzero(hit[here])), int(np.count_nonzero(~hit[here]))
        if min(faces, alarms) < FEWEST:
            raise ValueError(
                f"stride {stride}: {faces} faces and {alarms} false alarms among its detections in {images} images, "
                f"expected {FEWEST} of each; give more images (--data_dir), of faces of all sizes"
            )
        line = platt_line(z[here], hit[here])
        if line[0] <= 0:
            raise ValueError(f"stride {stride}: higher scores are faces less often (slope {line[0]:.2f}), expected > 0")
        raw.append(line)
        counts.append({"hits": faces, "false_alarms": alarms})
    slope, offset = raw[0]
    return [(a / slope, (b - offset) / slope) for a, b in raw], counts


def apply_lines(model: keras.Model, config: ModelConfig, lines: Sequence[Line]) -> None:
    """Change the score heads' weights, in place, so that each level's logit becomes slope · logit + offset."""
    for stride, (slope, offset) in zip(config.strides, lines, strict=True):
        head = model.get_layer(f"class_{stride}")
        kernel, bias = head.get_weights()
        shift = np.zeros((config.anchors_per_cell, config.class_logits), bias.dtype)
        shift[:, -1] = offset  # of two logits the face's: the score is their difference
        head.set_weights([slope * kernel, slope * bias + shift.ravel()])


def scaled_ranges(ranges: dict[str, Any], strides: Sequence[int], lines: Sequence[Line]) -> dict[str, Any]:
    """Quantization ranges with those of the scores moved along; 0 stays inside."""
    moved = dict(ranges)
    for stride, (slope, offset) in zip(strides, lines, strict=True):
        low, high = ranges[f"class_{stride}"]
        moved[f"class_{stride}"] = [min(slope * low + offset, 0.0), max(slope * high + offset, 0.0)]
    return moved


def ap_of(seen: Sequence[Seen], lines: Sequence[Line] | None = None) -> dict[str, float]:
    """AP in percent by smallest face that counts (√(w·h), image pixels), of detections above `FIT_SCORE`."""
    matches = [suppressed(image, lines)[0] for image in seen]
    found = {}
    for smallest in LARGE:
        counted = [image.truth.valid & (face_sizes(image.truth.boxes) >= smallest) for image in seen]
        found[f"{smallest}+"] = round(100 * average_precision(matches, counted).ap, 2)
    return found


def checked(seen: Sequence[Seen], strides: Sequence[int], images: int) -> dict[str, dict[str, float]] | None:
    """AP before and after, each half of the images with lines of the other half, averaged.

    Args:
        seen: those of all images at one size, then at the next.
        strides: of the levels.
        images: how many there are.

    Returns:
        {"before": `ap_of`, "after": `ap_of`}; None where a half has too few detections to fit.
    """
    halves: tuple[list[Seen], list[Seen]] = ([], [])
    for index, image in enumerate(seen):
        halves[index % images % 2].append(image)
    try:
        lines = [fit_lines(half, strides)[0] for half in halves]
    except ValueError:
        return None
    before = [ap_of(half) for half in halves]
    after = [ap_of(half, of_other) for half, of_other in zip(halves, lines[::-1], strict=True)]
    return {
        name: {key: round(float(np.mean([one[key] for one in both])), 2) for key in both[0]}
        for name, both in (("before", before), ("after", after))
    }


def run(options: Options) -> dict[str, Any]:
    """Fit, write, print the figures and return them.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    check_suffix(options.output)
    model, config, meta = load_model(options.weights)
    truths = truth_of_samples([sample for folder in options.data_dir for sample in read_labels(folder)])
    sizes = list(options.size) or [(meta.get("quantization") or {}).get("size", [DEFAULT_SIZE])[0]]
    seen = []
    for size in sizes:
        seen += look(KerasDetector(model, config, parse_size(str(size))), truths, f"{size} px")
    lines, counts = fit_lines(seen, config.strides)
    report: dict[str, Any] = {
        "weights": str(options.weights),
        "sizes": sizes,
        "images": len(truths),
        "levels": [
            {"stride": stride, "slope": round(a, 4), "offset": round(b, 4)} | count
            for stride, (a, b), count in zip(config.strides, lines, counts, strict=True)
        ],
        "ap_other_half": checked(seen, config.strides, len(truths)),
    }
    apply_lines(model, config, lines)
    if "quantization" in meta:
        quantization = meta["quantization"]
        ranges = scaled_ranges(quantization["ranges"], config.strides, lines)
        meta = meta | {"quantization": quantization | {"ranges": ranges}}
    # AP was measured of the file as it was.
    kept = {key: value for key, value in meta.items() if key != "ap"}
    save_model(model, config, options.output, kept | {"score_scaling": {"sizes": sizes, "levels": report["levels"]}})
    for level in report["levels"]:
        print(
            f"stride {level['stride']:2}: logit · {level['slope']:.3f} {level['offset']:+.3f}"
            f"   ({level['hits']:,} faces, {level['false_alarms']:,} false alarms above {FIT_SCORE})"
        )
    figures = report["ap_other_half"]
    if figures is None:
        print(f"too few detections to fit halves of the {len(truths)} images: whether AP gains was not checked")
    else:
        for key, before in figures["before"].items():
            print(f"AP of faces {key} px, each half by the other's lines: {before} → {figures['after'][key]}")
    print(f"wrote {printable(options.output)}")
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
