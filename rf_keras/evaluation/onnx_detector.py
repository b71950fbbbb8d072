"""An .onnx file of `convert.py --onnx` as a detector: the device's letterbox, decode and NMS around ONNX Runtime."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from rf_keras.input_size import InputSize
from tflite.anchors import make_anchors
from tflite.detector import default_threads
from tflite.onnx_runtimes import candidates, onnx_session, onnx_spec
from tflite.postprocess import Detections, detections_from_candidates
from tflite.shapes import auto_shape


class OnnxDetector:
    """Runs an .onnx file on images of any size.

    Args:
        path: the file.
        size: of the network's input; None means the file's own.

    Attributes:
        spec: the file's metadata.
        size: as used.
        runtime: name and version.

    Raises:
        ModelError: ONNX Runtime is not installed or cannot load the file; SpecError: no valid metadata in it.
    """

    def __init__(self, path: Path, size: InputSize | None) -> None:
        self._session, self.runtime = onnx_session(path, default_threads())
        self._names = [output.name for output in self._session.get_outputs()]
        self.spec = onnx_spec(self._session, path)
        self._own = self.spec.input_height, self.spec.input_width
        self.size = size or InputSize(fixed=self._own)
        self._anchors = lru_cache(maxsize=64)(make_anchors)

    def _run(self, blob: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._session.run(self._names, {"image": blob}), strict=True))

    def detect(self, image: np.ndarray, score_threshold: float, iou_threshold: float) -> Detections:
        """Faces in a uint8 BGR image [H, W, 3], in its pixels."""
        spec = self.spec
        size = self.size
        if size.auto:
            size = InputSize(fixed=auto_shape(image.shape[0], image.shape[1], *self._own))
        pixels, scale = size.apply(image, spec.mean, spec.antialias)
        anchors = self._anchors(*pixels.shape[:2], spec.strides, spec.anchor_sizes)
        found = candidates(self._run, cv2.dnn.blobFromImage(pixels, mean=spec.mean), anchors, spec, score_threshold)
        return detections_from_candidates(found, spec, image.shape[:2], scale, iou_threshold)
