"""A float Keras model as a detector: the device's letterbox, decode and NMS around one tf.function."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.config import ModelConfig
from rf_keras.input_size import InputSize
from rf_keras.model import face_logit, output_names
from tflite.decode import Candidates, decode_outputs
from tflite.postprocess import Detections, detections_from_candidates
from tflite.spec import ModelSpec


class KerasDetector:
    """Runs a float model on images of any size.

    Weights are read at each call: a detector built once serves a model that goes on training.
    """

    def __init__(self, model: keras.Model, config: ModelConfig, size: InputSize) -> None:
        self.size = size
        self.config = config
        names = output_names(config)
        self._mean = ModelSpec().mean

        @tf.function(input_signature=[tf.TensorSpec([1, *(size.fixed or (None, None)), 3], tf.uint8)], autograph=False)
        def infer(image: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = model(tf.cast(image, tf.float32) - tf.constant(self._mean), training=False)
            maps = {name: tf.cast(out, tf.float32) for name, out in zip(names, outputs, strict=True)}
            scores = {f"score_{s}": face_logit(maps.pop(f"class_{s}"), config) for s in config.strides}
            return scores | maps

        self._infer = infer
        self._anchors = lru_cache(maxsize=64)(config.anchors)

    def detect(self, image: np.ndarray, score_threshold: float, iou_threshold: float) -> Detections:
        """Faces in a uint8 BGR image [H, W, 3], in its pixels."""
        found, spec, scale = self.candidates(image, score_threshold)
        return detections_from_candidates(found, spec, image.shape[:2], scale, iou_threshold)

    def candidates(self, image: np.ndarray, score_threshold: float) -> tuple[Candidates, ModelSpec, float]:
        """What `detect` suppresses, in input pixels, with the input's spec and its pixels per image pixel."""
        pixels, scale = self.size.apply(image, self._mean, self.config.antialias)
        outputs = {name: value.numpy() for name, value in self._infer(pixels[None]).items()}
        height, width = pixels.shape[:2]
        spec = self.config.spec(height, width)
        anchors = self._anchors(height, width)
        return decode_outputs(outputs, anchors, spec, score_threshold), spec, scale
