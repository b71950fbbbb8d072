"""Run a detector over labelled images and score it: AP and landmark error. Rules: `wider_ap`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from rf_keras.config import ModelConfig, default_threshold
from rf_keras.evaluation.ground_truth import Truth, truth_of_samples
from rf_keras.evaluation.wider_ap import (
    SUBSETS,
    Curve,
    Matches,
    OperatingPoint,
    average_precision,
    best_f1,
    first_on_face,
    match_detections,
    operating_points,
)
from rf_keras.input_size import DEFAULT_SIZE, InputSize, parse_size
from rf_keras.labels import MAX_MISSING, LabelError, Sample
from rf_keras.labels.pictures import allowed
from tflite.detector import FaceDetector
from tflite.images import ImageError, read_image
from tflite.postprocess import Detections
from tflite.shapes import AUTO
from tflite.spec import ModelSpec

if TYPE_CHECKING:
    import tf_keras as keras

    from rf_keras.evaluation.keras_detector import KerasDetector
    from rf_keras.evaluation.onnx_detector import OnnxDetector

AP_SCORE_THRESHOLD = 0.02  # low, so that the curve reaches high recall
SHOWN_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
SIZE_EDGES = (0, 16, 32, 64, 128, np.inf)  # √(w·h) of the true box, pixels of the image

Detect = Callable[[np.ndarray], Detections]


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What was found in one image, and which face each detection belongs to; `size` is its width and height."""

    truth: Truth
    found: Detections
    matches: Matches
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of a data set: `metrics` is what the JSON holds, `curves` are those of the AP figures in it."""

    metrics: dict[str, Any]
    curves: dict[str, Curve]
    images: list[ImageResult]


def face_sizes(boxes: np.ndarray) -> np.ndarray:
    """√(w·h) in pixels of boxes [N, 4] x1 y1 x2 y2, at least 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.sqrt(sides[:, 0] * sides[:, 1])


def evaluate(
    detect: Detect, truths: Sequence[Truth], progress: bool = True, max_missing: float = MAX_MISSING
) -> Evaluation:
    """Run a detector over images and score it.

    Args:
        detect: uint8 BGR image → detections in its pixels, with a low score threshold.
        truths: the images and their faces.
        progress: show a progress bar.
        max_missing: largest share of images that may turn out to be unreadable, one at least unless it is 0.

    Returns:
        `metrics` with easy, medium, hard (percent; None without .mat files), all (percent, over valid faces), nme (of
        the face size, over matched faces with known landmarks; None if there are none), images, faces, left_out (the
        images that could not be read), f1 (`OperatingPoint` of the highest F1, as a dict, and those of
        `SHOWN_THRESHOLDS`), and by_size: range of √(w·h) in image pixels → its ap (percent) and faces. There, unmatched
        detections of other sizes are ignored, as are detections on faces of other sizes.

    Raises:
        LabelError: more images than that cannot be read, or none can.
    """
    results, errors = [], []
    for truth in tqdm(truths, unit="image", desc="evaluate", disable=None if progress else True, leave=False):
        try:
            image = read_image(truth.image)
        except ImageError as error:
            errors.append((truth.image, str(error)))
            continue
        found = detect(image)
        faces = match_detections(found.boxes, found.scores, truth.boxes)
        results.append(ImageResult(truth, found, faces, (image.shape[1], image.shape[0])))
    if errors:
        text = f"{len(errors)} of {len(truths)} images cannot be read, the first {errors[0][1]}"
        if len(errors) > allowed(max_missing, len(truths)) or not results:
            raise LabelError(f"{text}; expected at most {max_missing:.0%}")
        logging.getLogger(__name__).warning("%s; the figures are of the others", text)
        truths = [result.truth for result in results]
    matches = [r.matches for r in results]
    curves = {"all": average_precision(matches, [t.valid for t in truths])}
    subsets = SUBSETS if truths and truths[0].counted else ()
    for subset in subsets:
        curves[subset] = average_precision(matches, [t.counted[subset] for t in truths])
    metrics: dict[str, Any] = dict.fromkeys(SUBSETS)
    metrics |= {name: 100 * curves[name].ap for name in (*subsets, "all")}
    metrics |= {
        "nme": landmark_error(results),
        "images": len(truths),
        "faces": int(sum(np.count_nonzero(t.valid) for t in truths)),
        "left_out": [str(path) for path, _ in errors],
        "f1": _f1(results),
        "by_size": _by_size(results),
    }
    return Evaluation(metrics, curves, results)


def points_at(results: Sequence[ImageResult], thresholds: Sequence[float]) -> list[OperatingPoint]:
    """Precision, recall and F1 over valid faces, at each score threshold."""
    return operating_points([r.matches for r in results], [r.truth.valid for r in results], thresholds)


def _f1(results: Sequence[ImageResult]) -> dict[str, Any]:
    best = best_f1([r.matches for r in results], [r.truth.valid for r in results])
    shown = [point._asdict() for point in points_at(results, SHOWN_THRESHOLDS)]
    return {"best": None if best is None else best._asdict(), "thresholds": shown}


def _by_size(results: Sequence[ImageResult]) -> dict[str, dict[str, Any]]:
    table = {}
    for low, high in itertools.pairwise(SIZE_EDGES):
        counted, left_out = [], []
        for r in results:
            true, found = face_sizes(r.truth.boxes), face_sizes(r.found.boxes)[r.matches.order]
            counted.append(r.truth.valid & (true >= low) & (true < high))
            left_out.append((r.matches.face < 0) & ~((found >= low) & (found < high)))
        faces = int(sum(np.count_nonzero(c) for c in counted))
        ap = 100 * average_precision([r.matches for r in results], counted, left_out).ap if faces else None
        table[f"{low}-{high}" if np.isfinite(high) else f"{low}+"] = {"ap": ap, "faces": faces}
    return table


def landmark_error(results: Sequence[ImageResult]) -> float | None:
    """Mean over matched faces with known landmarks of (mean distance of the five points) / √(w·h)."""
    errors = []
    for r in results:
        first = first_on_face(r.matches)
        face, found = r.matches.face[first], r.matches.order[first]
        true = r.truth.landmarks[face]  # [M, 5, 2]
        known = r.truth.valid[face] & (true != -1).any(axis=(1, 2))
        distance = np.linalg.norm(r.found.landmarks[found] - true, axis=-1).mean(axis=-1)
        errors.append((distance / np.maximum(face_sizes(r.truth.boxes[face]), 1e-6))[known])
    every = np.concatenate(errors) if errors else np.zeros(0)
    return float(every.mean()) if len(every) else None


def evaluate_keras(
    model: keras.Model,
    config: ModelConfig,
    samples: Sequence[Sample],
    size: InputSize,
    detector: KerasDetector | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Metrics of a float model on labelled samples, at one input size; what training validates with.

    Args:
        model, config: the network.
        samples: labelled images.
        size: of the input.
        detector: a `KerasDetector` of this model and size to use again; it saves tracing the graph each time.
        progress: show a progress bar.
    """
    if detector is None:
        from rf_keras.evaluation.keras_detector import KerasDetector

        detector = KerasDetector(model, config, size)
    return evaluate(_for_ap(detector), truth_of_samples(samples), progress).metrics


def _for_ap(detector: KerasDetector | OnnxDetector | FaceDetector) -> Detect:
    return lambda image: detector.detect(image, AP_SCORE_THRESHOLD, ModelSpec.iou_threshold)


@dataclass(frozen=True)
class Opened:
    """A model ready to be evaluated.

    Attributes:
        for_ap: detects with a threshold low enough for AP.
        in_use: detects as the model's users do, at its own thresholds.
        threshold: of the score in use.
        size: of the input, as `parse_size` takes it.
        interpreter: what runs it.
    """

    for_ap: Detect
    in_use: Detect
    threshold: float
    size: str
    interpreter: str


def _open_device(model: str | Path, size: InputSize | None) -> Opened:
    if size is not None and not size.auto and size.fixed is None:
        raise ValueError(f"{model}: --size is {size}, expected auto, or a fixed size for a .tflite file")
    device = FaceDetector(model, input_size=None if size is None else size.fixed or AUTO)
    own = InputSize(fixed=(device.spec.input_height, device.spec.input_width))
    threshold, used = device.spec.score_threshold, str(size or own)
    return Opened(_for_ap(device), device.detect, threshold, used, device.interpreter_name)


def _open_onnx(model: str | Path, size: InputSize | None) -> Opened:
    from rf_keras.evaluation.onnx_detector import OnnxDetector

    detector = OnnxDetector(Path(model), size)
    spec = detector.spec

    def in_use(image: np.ndarray) -> Detections:
        return detector.detect(image, spec.score_threshold, spec.iou_threshold)

    return Opened(_for_ap(detector), in_use, spec.score_threshold, str(detector.size), detector.runtime)


def open_detector(model: str | Path, size: str | None) -> Opened:
    """Load a weights file, a .tflite file or an .onnx file of ours for evaluation.

    Args:
        model: path; `.tflite` runs in the device runtime, `.onnx` in ONNX Runtime, everything else in Keras.
        size: as `parse_size`; None means 640, or the own one of a .tflite or .onnx file.

    Raises:
        ValueError: one line for the user: unreadable model, unknown size, or one the model cannot take.
    """
    if Path(model).suffix == ".tflite":
        return _open_device(model, None if size is None else parse_size(size))
    if Path(model).suffix == ".onnx":
        return _open_onnx(model, None if size is None else parse_size(size))
    parse_size(size if size is not None else str(DEFAULT_SIZE))  # fails before TensorFlow is imported
    # Only here: a .tflite file is evaluated without TensorFlow, on the device it is for.
    from rf_keras.model_file import load_model

    return open_network(*load_model(model), size)


def open_network(network: keras.Model, config: ModelConfig, meta: dict[str, Any], size: str | None) -> Opened:
    """`open_detector` for what `model_file.load_model` gives.

    Raises:
        ValueError: an unknown size; one line.
    """
    import tf_keras as keras

    from rf_keras.evaluation.keras_detector import KerasDetector

    wanted = parse_size(size if size is not None else str(DEFAULT_SIZE))
    name = f"tf_keras {keras.__version__} float"
    detector, threshold = KerasDetector(network, config, wanted), default_threshold(meta)

    def in_use(image: np.ndarray) -> Detections:
        return detector.detect(image, threshold, ModelSpec.iou_threshold)

    return Opened(_for_ap(detector), in_use, threshold, str(wanted), name)
