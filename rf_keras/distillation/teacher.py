"""Another detector as the source of training targets: SCRFD networks in ONNX, which have the reference's anchors, or
a weights file of our own.

    python -m rf_keras.train --teacher scrfd.onnx …
    python -m rf_keras.train --teacher W.keras --init W.keras …     learn something new and keep the rest

SCRFD (Guo et al. 2021) puts two anchors of 2 and 4 strides' side on each cell of strides 8, 16 and 32, as the reference
RetinaFace does, so each of its outputs belongs to one anchor of ours. It is asked about the augmented images.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rf_keras.augment import MIRRORED_LANDMARKS
from rf_keras.box_coding import decode_boxes, decode_landmarks
from rf_keras.config import ModelConfig
from rf_keras.distillation.config import Distillation
from rf_keras.model import flatten_outputs
from rf_keras.model_file import load_model
from tflite.spec import ModelSpec

REFERENCE = ModelConfig()  # whose strides and anchors SCRFD has
CODES = (1, 4, 10)  # per anchor: score; distances to left, top, right, bottom; five points
FIELDS = sum(CODES)
PROBE_SIDE = 64  # pixels


def check_teachable(model: ModelConfig) -> None:
    """Refuse a network whose anchors are not the teacher's.

    Raises:
        ValueError: other strides or anchor sizes.
    """
    if (model.strides, model.anchor_sizes) != (REFERENCE.strides, REFERENCE.anchor_sizes):
        wanted = "/".join(",".join(f"{size:g}" for size in level) for level in REFERENCE.anchor_sizes)
        raise ValueError(
            f"--teacher: the network has anchors {model.anchor_sizes} at strides {model.strides}, expected a teacher's "
            f"at strides {REFERENCE.strides}: give --anchor_sizes {wanted}"
        )


class Scrfd:
    """An SCRFD network with five points per face, as InsightFace exports it; runs on one image at a time.

    Args:
        path: ONNX file: one input [1, 3, H, W], RGB scaled to (x − 127.5) / 128; nine outputs, score, distances and
            points (in strides from the cell's top left corner, scores after the sigmoid) of three levels. Files
            made for one input size work for all.
        threads: of ONNX Runtime; 0: half of the processors, as the student needs the others.
        mirror: ask about each image's mirror image, too, and give the mean (`mean_answers`).

    Raises:
        ValueError: ONNX Runtime is missing, or the file is no such network.
    """

    def __init__(self, path: str | Path, threads: int = 0, mirror: bool = False) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ValueError(f"{path}: a teacher needs onnx and onnxruntime: pip install '.[pretrained]'") from error
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file, expected an SCRFD network in ONNX")
        try:
            network = any_size(onnx.load(str(path)))
            names = [value.name for value in network.graph.output]
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or max(1, (os.cpu_count() or 1) // 2)
            options.log_severity_level = 4  # what goes wrong is raised
            self._session = onnxruntime.InferenceSession(
                network.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            self._input = self._session.get_inputs()[0].name
            probe = np.zeros((1, 3, PROBE_SIDE, PROBE_SIDE), np.float32)
            outputs = self._session.run(names, {self._input: probe})
        except Exception as error:  # protobuf's and ONNX Runtime's errors have no common class
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"{path}: not a network that ONNX Runtime can run ({reason}), expected SCRFD") from error
        found = sorted(np.shape(output) for output in outputs)
        keys = [(out.size // out.shape[-1], out.shape[-1]) for out in outputs]
        wanted = [(count, code) for code in CODES for count in _rows(PROBE_SIDE)]
        if sorted(keys) != sorted(wanted):
            raise ValueError(f"{path}: outputs of shapes {found} at 64×64, expected {wanted}: SCRFD with five points")
        self._names = [names[keys.index(key)] for key in wanted]
        self._mirror = mirror

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The teacher's answer for each anchor.

        Args:
            images: uint8 [B, S, S, 3], BGR, S a multiple of 32.

        Returns:
            float32 [B, A, 15] in the order of `ModelConfig.anchors`: score (0 to 1), x1, y1, x2, y2, five times x, y,
            in pixels.
        """
        side = images.shape[1]
        anchors = REFERENCE.anchors(side, side)
        answers = np.empty((len(images), len(anchors), FIELDS), np.float32)
        turned = np.empty_like(answers[0])
        for image, rows in zip(images, answers, strict=True):
            self._ask(image, anchors, rows)
            if self._mirror:
                self._ask(image[:, ::-1], anchors, turned)
                rows[:] = mean_answers(rows, mirrored_answers(turned, side))
        return answers

    def _ask(self, image: np.ndarray, anchors: np.ndarray, rows: np.ndarray) -> None:
        """Fill `rows` [A, 15] with the answers about one image."""
        scale = np.repeat(REFERENCE.strides, _rows(image.shape[0]))[:, None].astype(np.float32)
        # SCRFD's distances count from the cell's corner; our anchors lie in its middle.
        corner = anchors[:, :2] - scale / 2
        pixels = (image[..., ::-1].astype(np.float32) - 127.5) / 128
        outputs = self._session.run(self._names, {self._input: pixels.transpose(2, 0, 1)[None]})
        ordered = [output.reshape(-1, output.shape[-1]) for output in outputs]
        score, distance, points = (np.concatenate(ordered[3 * kind : 3 * kind + 3]) for kind in range(3))
        rows[:, :1] = score
        rows[:, 1:3] = corner - distance[:, :2] * scale
        rows[:, 3:5] = corner + distance[:, 2:] * scale
        rows[:, 5:] = np.tile(corner, 5) + points * scale

    def answers(self, images: tf.Tensor) -> tf.Tensor:
        """`__call__` on a batch of a tf.data pipeline."""
        found = tf.numpy_function(self, [images], tf.float32, stateful=False)
        found.set_shape([None, None, FIELDS])
        return found


class NetworkTeacher:
    """A network of our own that answers as `Scrfd` does, for a student that is not to forget what it knows.

    Args:
        path: weights file (.keras) with the reference's strides and anchor sizes.

    Raises:
        ValueError: no such file, or other anchors.
    """

    def __init__(self, path: str | Path) -> None:
        self._model, self._config, _ = load_model(path)
        self._model.trainable = False
        if (self._config.strides, self._config.anchor_sizes) != (REFERENCE.strides, REFERENCE.anchor_sizes):
            raise ValueError(
                f"{path}: has anchors {self._config.anchor_sizes} at strides {self._config.strides}, expected a "
                f"teacher's: {REFERENCE.anchor_sizes} at strides {REFERENCE.strides}"
            )

    def _anchors(self, side: np.ndarray) -> np.ndarray:
        return self._config.anchors(int(side), int(side))

    def answers(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, S, S, 3], BGR → float32 [B, A, 15] as `Scrfd.__call__` gives it."""
        # Batches of several sizes have no static side.
        anchors = tf.numpy_function(self._anchors, [tf.shape(images)[1]], tf.float32, stateful=False)
        anchors.set_shape([None, 3])
        pixels = tf.cast(images, tf.float32) - tf.constant(ModelSpec.mean, tf.float32)
        logits, deltas, points = flatten_outputs(self._model(pixels, training=False), self._config)
        boxes = decode_boxes(deltas, anchors, self._config.variances)
        marks = decode_landmarks(points, anchors, self._config.variances)
        score = tf.sigmoid(logits[..., 1:] - logits[..., :1])
        return tf.concat([score, boxes, marks], axis=-1)


def open_teacher(distillation: Distillation) -> Scrfd | NetworkTeacher:
    """The teacher of a run: a `NetworkTeacher` for a .keras file, else `Scrfd`.

    Raises:
        ValueError: as either, or mirror images for a network of our own.
    """
    path = distillation.teacher
    if Path(path).suffix != ".keras":
        return Scrfd(path, mirror=distillation.teacher_mirror)
    if distillation.teacher_mirror:
        raise ValueError(f"{path}: a weights file as a teacher gives no answers about mirror images")
    return NetworkTeacher(path)


def mirrored_answers(answers: np.ndarray, side: int) -> np.ndarray:
    """Answers about a mirror image → about the image itself, with left and right exchanged in boxes and points.

    Args:
        answers: float32 [A, 15], as one row of `Scrfd.__call__`'s.
        side: of the image, pixels.

    Returns:
        float32 [A, 15]. SCRFD counts from the corner of its cells, so cell j of a row of w is cell w − j of the mirror
        image; the first of each row has no counterpart, and a score of −1.
    """
    points = [5 + 2 * point + axis for point in MIRRORED_LANDMARKS for axis in (0, 1)]
    answers = answers[:, [0, 3, 2, 1, 4, *points]]
    answers[:, 1::2] = side - answers[:, 1::2]
    levels = []
    for level, stride in zip(np.split(answers, np.cumsum(_rows(side))[:-1]), REFERENCE.strides, strict=True):
        cells = side // stride
        turned = np.roll(level.reshape(cells, cells, -1, FIELDS)[:, ::-1], 1, axis=1)
        turned[:, 0, :, 0] = -1
        levels.append(turned.reshape(-1, FIELDS))
    return np.concatenate(levels)


def mean_answers(answers: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """The mean of [A, 15] and what `mirrored_answers` gives, boxes and points weighted by the scores."""
    known = turned[:, :1] >= 0
    weight = answers[:, :1] + 1e-4, np.where(known, turned[:, :1] + 1e-4, 0)
    codes = (answers[:, 1:] * weight[0] + turned[:, 1:] * weight[1]) / (weight[0] + weight[1])
    score = np.where(known, (answers[:, :1] + turned[:, :1]) / 2, answers[:, :1])
    return np.concatenate([score, codes], axis=1).astype(np.float32)


def _rows(side: int) -> list[int]:
    """Anchors of each level in a square image."""
    return [REFERENCE.anchors_per_cell * (side // stride) ** 2 for stride in REFERENCE.strides]


def any_size(network: Any) -> Any:
    """The ONNX model without the sizes that PyTorch's exporter wrote into it: its upsampling doubles whatever comes."""
    import onnx

    for value in (*network.graph.input, *network.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if value.name != network.graph.input[0].name or axis > 1:
                dimension.dim_param = f"{value.name}_{axis}"
    del network.graph.value_info[:]
    doubling = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "doubling")
    network.graph.initializer.append(doubling)
    for node in network.graph.node:
        if node.op_type == "Resize" and len(node.input) == 4:  # X, roi, scales, sizes
            del node.input[2:]
            node.input.append(doubling.name)
    return network
