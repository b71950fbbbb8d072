"""A network beside the one it was made from, on photos that it was not trained on: AP, landmarks, close-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rf_keras.evaluation import closeups
from rf_keras.evaluation.ground_truth import truth_of_samples
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.evaluation.scoring import AP_SCORE_THRESHOLD, Detect, evaluate
from rf_keras.evaluation.wider_ap import first_on_face
from rf_keras.labels import UNKNOWN, Sample
from rf_keras.selection import evenly_spaced
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.spec import ModelSpec

CLOSEUP_PHOTOS = 24  # with large faces, at most: each of their faces is looked for in five crops
MARGINS = {"½": "0.5", "¼": "0.25", "0": "0"}  # shown: of the box's sides, as `closeups` names them
FEW_PHOTOS = 50  # below: a note


def detecting(detector: KerasDetector, threshold: float) -> Detect:
    """The detector at a score threshold."""

    def detect(image: np.ndarray) -> Detections:
        return detector.detect(image, threshold, ModelSpec.iou_threshold)

    return detect


def has_points(samples: Sequence[Sample]) -> bool:
    """Whether any face has labelled landmarks."""
    return any(bool((sample.landmarks != UNKNOWN).any()) for sample in samples)


def with_answered_points(detector: KerasDetector, samples: Sequence[Sample], threshold: float) -> list[Sample]:
    """The samples, their faces without landmarks with those that the detector answers.

    Args:
        detector: asked about each image.
        samples: labelled images.
        threshold: of the score; faces that are not found from there on stay without.
    """
    filled = []
    results = evaluate(detecting(detector, threshold), truth_of_samples(samples), progress=False).images
    for sample, result in zip(samples, results, strict=True):
        first = first_on_face(result.matches)
        face, found = result.matches.face[first], result.matches.order[first]
        unknown = (sample.landmarks[face] == UNKNOWN).all(axis=(1, 2))
        landmarks = sample.landmarks.copy()
        landmarks[face[unknown]] = result.found.landmarks[found[unknown]]
        filled.append(replace(sample, landmarks=landmarks))
    return filled


def answered(detector: KerasDetector, samples: Sequence[Sample], threshold: float) -> list[Sample]:
    """The images, labelled by what the detector finds from `threshold` on: for photos without labels."""
    labelled = []
    for sample in samples:
        found = detecting(detector, threshold)(read_image(sample.image))
        labelled.append(replace(sample, boxes=found.boxes, landmarks=found.landmarks.reshape(-1, 5, 2)))
    return labelled


def measure(detector: KerasDetector, samples: Sequence[Sample], threshold: float) -> dict[str, Any]:
    """Figures of one network.

    Args:
        detector: the network at its input size.
        samples: labelled images.
        threshold: of the score in use, at which close-ups are found.

    Returns:
        JSON-ready: `ap` (percent, over all faces), `nme` (share of the face size, None without landmarks), `images`,
        `faces`, `large_faces` and `closeups`: margin → percent found (None without a large face).
    """
    truths = truth_of_samples(samples)
    metrics = evaluate(detecting(detector, AP_SCORE_THRESHOLD), truths, progress=False).metrics
    large = evenly_spaced([truth for truth, _ in closeups.large_faces(truths)], CLOSEUP_PHOTOS)
    views = closeups.measure(detecting(detector, threshold), large, closeups=True, turned=False, progress=False)[0]
    found = {"ap": metrics["all"], "nme": metrics["nme"], "images": metrics["images"], "faces": metrics["faces"]}
    rows = {margin: views["closeups"][margin]["found"] for margin in MARGINS.values()}
    return found | {"large_faces": views["faces"], "closeups": rows}


def table(rows: Mapping[str, Mapping[str, Any]], reference: str = "") -> str:
    """Figures side by side, as lines of text.

    Args:
        rows: name → figures (`measure`), the network that the others were made from first.
        reference: whose answers stand for labels of landmarks; empty: labels have them.
    """
    first = next(iter(rows.values()))
    large = first["large_faces"]
    shown = f"{large} of them at least {closeups.LEAST_SIDE} px" if large else "none of them large enough for close-ups"

    def line(title: str, values: Sequence[float | None], digits: int) -> str:
        return f"    {title:<44}" + "".join("       –" if v is None else f"{v:8.{digits}f}" for v in values)

    points = "landmark NME, % of the face size" + (f", from {reference}" if reference else "")
    lines = [f"on {first['images']} photos that were not trained on ({first['faces']} faces, {shown}):"]
    lines.append(f"    {'':<44}" + "".join(f"{name:>8}" for name in rows))
    lines.append(line("AP, %", [row["ap"] for row in rows.values()], 1))
    lines.append(line(points, [None if row["nme"] is None else 100 * row["nme"] for row in rows.values()], 2))
    if large:
        for margin, key in MARGINS.items():
            found = [row["closeups"][key] for row in rows.values()]
            lines.append(line(f"close-ups found, {margin} of the box around it, %", found, 1))
    if first["images"] < FEW_PHOTOS:
        lines.append(f"    ({first['images']} photos are few: differences of a point or two say little)")
    return "\n".join(lines)
