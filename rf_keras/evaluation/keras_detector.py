"""A float Keras model as a detector: the device's letterbox, decode and NMS around one tf.function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.config import ModelConfig
from rf_keras.input_size import LARGEST_SIDE, MULTIPLE, fixed_sides
from rf_keras.model import face_logit, output_names
from tflite.decode import Candidates, decode_outputs
from tflite.postprocess import Detections, detections_from_candidates
from tflite.preprocess import letterbox
from tflite.shapes import AUTO, auto_shape
from tflite.spec import ModelSpec

DEFAULT_SIZE = 640  # pixels


@dataclass(frozen=True)
class InputSize:
    """How an image becomes a network input.

    Attributes:
        fixed: letterbox into this height and width in pixels (the devices' contract); None for the others.
        short, long: scale so that the short side is `short` pixels, or less if the long side would exceed `long`; None
            keeps the original size. Either is padded with the mean to multiples of 32.
        auto: letterbox at the scale of a square of `DEFAULT_SIZE`, into the part of it that the picture takes
            (`tflite.shapes.auto_shape`).
    """

    fixed: tuple[int, int] | None = None
    short: int | None = None
    long: int | None = None
    auto: bool = False

    @classmethod
    def square(cls, side: int) -> InputSize:
        """Letterbox into a square."""
        return cls(fixed=(side, side))

    def __str__(self) -> str:
        if self.fixed is not None:
            height, width = self.fixed
            return str(height) if height == width else f"{height}x{width}"
        if self.auto:
            return AUTO
        return "original" if self.short is None else f"{self.short},{self.long}"

    def apply(self, image: np.ndarray, mean: tuple[float, ...], antialias: bool = False) -> tuple[np.ndarray, float]:
        """uint8 BGR [h, w, 3] → uint8 [H, W, 3] and scale (input = scale · image); `antialias`: as `letterbox`'s."""
        if self.fixed is not None:
            return letterbox(image, *self.fixed, mean, antialias=antialias)
        if self.auto:
            height, width = auto_shape(image.shape[0], image.shape[1], DEFAULT_SIZE, DEFAULT_SIZE)
            return letterbox(image, height, width, mean, antialias=antialias)
        scale = 1.0
        height, width = image.shape[:2]
        if self.short is not None and self.long is not None:
            scale = min(self.short / min(height, width), self.long / max(height, width))
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            height, width = image.shape[:2]
        fill = tuple(round(value) for value in mean)
        padded = cv2.copyMakeBorder(image, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_CONSTANT, value=fill)
        return padded, scale


def parse_size(text: str) -> InputSize:
    """Read `640`, `480x640`, `auto`, `original` or `1600,2150`.

    Raises:
        ValueError: anything else.
    """
    if text in ("original", AUTO):
        return InputSize(auto=text == AUTO)
    if "," in text:
        numbers = [int(part) for part in text.split(",") if part.isascii() and part.isdigit()]
        if len(numbers) == 2 and text.count(",") == 1 and 0 < numbers[0] <= numbers[1] <= LARGEST_SIDE:
            return InputSize(short=numbers[0], long=numbers[1])
    elif sides := fixed_sides(text):
        return InputSize(fixed=sides)
    raise ValueError(
        f"size is {text!r}, expected a multiple of {MULTIPLE} (letterbox), HEIGHTxWIDTH of such, 'auto', 'original', "
        "or SHORT,LONG like 1600,2150"
    )


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
