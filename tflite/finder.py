"""The function picture → faces that the detect command's flags ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tflite.detect_options import DetectOptions
from tflite.detector import FaceDetector
from tflite.outputs import UsageError
from tflite.postprocess import Detections
from tflite.tiling import detect_tiled
from tflite.turns import detect_any_rotation

Find = Callable[[np.ndarray], Detections]


def make_finder(detector: FaceDetector, options: DetectOptions) -> Find:
    """Detect whole, on tiles, on four turns, as the flags say; then leave out the small and the surplus."""
    thresholds = options.score_threshold, options.iou_threshold

    def look(image: np.ndarray) -> Detections:
        if options.tile is not None:
            return detect_tiled(detector, image, options.tile, *thresholds)
        return detector.detect(image, *thresholds)

    def find(image: np.ndarray) -> Detections:
        found = detect_any_rotation(look, image) if options.any_rotation else look(image)
        if options.min_size is not None:
            found = found[(found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1, initial=np.inf) >= options.min_size]
        return found if options.max_faces is None else found[: options.max_faces]

    return find


def load_detector(options: DetectOptions, num_threads: int | None) -> FaceDetector:
    """The detector the flags ask for.

    Raises:
        SpecError, ModelError: the model cannot be used.
        UsageError: --mesh or --pose, and the model has no mesh.
    """
    detector = FaceDetector(options.model, num_threads, options.input_size, options.delegate)
    if (options.mesh or options.pose) and detector.basis is None:
        raise UsageError(
            f"{detector.name}: has no mesh, expected a model with one for --{'mesh' if options.mesh else 'pose'}"
        )
    cv2.setNumThreads(detector.num_threads)
    return detector


@dataclass(frozen=True)
class WorkerFinder:
    """`make_finder` with a detector of one thread, made in the process that calls it."""

    options: DetectOptions

    def __call__(self) -> Callable[[Any], Detections]:
        return make_finder(load_detector(self.options, 1), self.options)
