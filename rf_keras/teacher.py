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
from rf_keras.model import flatten_outputs
from rf_keras.model_file import load_model
from tflite.spec import ModelSpec

REFERENCE = ModelConfig()  # whose strides and anchors SCRFD has
CODES = (1, 4, 10)  # per anchor: score; distances to left, top, right, bottom; five points
FIELDS = sum(CODES)
PROBE_SIDE = 64  # pixels
# A teacher's scores say how well a box fits, and few pass 0.8; so do its student's. From here on a student of 47,136
# images shows about what one of the labels shows from 0.5 on (benchmarks/operating_point.py, MODEL_CARD).
TAUGHT_THRESHOLD = 0.4


def default_threshold(meta: dict[str, Any]) -> float:
    """Probability from which weights with these facts (`model_file.load_model`) count a face: by how they learned to
    score."""
    taught = (meta.get("train") or {}).get("teacher")
    return TAUGHT_THRESHOLD if taught else ModelSpec.score_threshold


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


class Teacher:
    """An SCRFD network with five points per face, as InsightFace exports it; runs on one image at a time.

    Args:
        path: ONNX file: one input [1, 3, H, W], RGB scaled to (x − 127.5) / 128; nine outputs, score, distances and
            points (in strides from the cell's top left corner, scores after the sigmoid) of three levels. Files
            made for one input size work for all.
        threads: of ONNX Runtime; 0: half of the processors, as the student needs the others.
        features: give the maps from which each level's scores are computed, too (`maps`).
        mirror: ask about each image's mirror image, too, and give the mean (`mean_answers`).

    Attributes:
        channels: of those maps; 0 without `features`.

    Raises:
        ValueError: ONNX Runtime is missing, or the file is no such network.
    """

    def __init__(self, path: str | Path, threads: int = 0, features: bool = False, mirror: bool = False) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ValueError(f"{path}: a teacher needs onnx and onnxruntime: pip install '.[pretrained]'") from error
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file, expected an SCRFD network in ONNX")
        try:
            network = _any_size(onnx.load(str(path)))
            names = [value.name for value in network.graph.output]
            sources = _score_sources(network) if features else {}
            for name in sources.values():
                network.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or max(1, (os.cpu_count() or 1) // 2)
            options.log_severity_level = 4  # what goes wrong is raised
            self._session = onnxruntime.InferenceSession(
                network.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            self._input = self._session.get_inputs()[0].name
            probe = {self._input: np.zeros((1, 3, PROBE_SIDE, PROBE_SIDE), np.float32)}
            outputs = self._session.run(names, probe)
            # Asked for no output, ONNX Runtime gives all.
            maps = self._session.run(list(sources.values()), probe) if sources else []
        except Exception as error:  # protobuf's and ONNX Runtime's errors have no common class
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"{path}: not a network that ONNX Runtime can run ({reason}), expected SCRFD") from error
        found = sorted(np.shape(output) for output in outputs)
        rows = _rows(PROBE_SIDE)
        keys = [(out.size // out.shape[-1], out.shape[-1]) for out in outputs]
        wanted = [(count, code) for code in CODES for count in rows]
        if sorted(keys) != sorted(wanted):
            raise ValueError(f"{path}: outputs of shapes {found} at 64×64, expected {wanted}: SCRFD with five points")
        self._names = [names[keys.index(key)] for key in wanted]
        shapes = {name: np.shape(one) for name, one in zip(sources, maps, strict=True)}
        levels = [shapes.get(name, ()) for name in self._names[: len(rows)]]
        expected = [(1, *levels[0][1:2], PROBE_SIDE // stride, PROBE_SIDE // stride) for stride in REFERENCE.strides]
        if features and levels != expected:
            raise ValueError(f"{path}: scores made of maps of shapes {levels} at 64×64, expected {expected}")
        self.channels = levels[0][1] if features else 0
        self._mirror = mirror
        self._sources = [sources[name] for name in self._names[: len(rows)]] if features else []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """What the teacher says of each anchor.

        Args:
            images: uint8 [B, S, S, 3], BGR, S a multiple of 32.

        Returns:
            float32 [B, A, 15] in the order of `ModelConfig.anchors`: score (0 to 1), x1, y1, x2, y2, five times x, y,
            in pixels.
        """
        return self._ask(images)[0]

    def _ask(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`__call__`, and the features: float32 [B, N, C], N cells in the order of the anchors."""
        side = images.shape[1]
        anchors = REFERENCE.anchors(side, side)
        scale = np.repeat(REFERENCE.strides, _rows(side))[:, None].astype(np.float32)
        # SCRFD's distances count from the cell's corner; our anchors lie in its middle.
        corner = anchors[:, :2] - scale / 2
        corners = np.tile(corner, 5)
        said = np.empty((len(images), len(anchors), FIELDS), np.float32)
        features = np.empty((len(images), len(anchors) // REFERENCE.anchors_per_cell, self.channels), np.float32)

        def answers(image: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
            pixels = (image[..., ::-1].astype(np.float32) - 127.5) / 128
            outputs = self._session.run(self._names + self._sources, {self._input: pixels.transpose(2, 0, 1)[None]})
            ordered = [output.reshape(-1, output.shape[-1]) for output in outputs[: len(self._names)]]
            score, distance, points = (np.concatenate(ordered[3 * kind : 3 * kind + 3]) for kind in range(3))
            rows[:, :1] = score
            rows[:, 1:3] = corner - distance[:, :2] * scale
            rows[:, 3:5] = corner + distance[:, 2:] * scale
            rows[:, 5:] = corners + points * scale
            return outputs[len(self._names) :]

        turned = np.empty_like(said[0])
        for image, rows, cells in zip(images, said, features, strict=True):
            maps = answers(image, rows)
            if maps:
                cells[:] = np.concatenate([one[0].reshape(self.channels, -1).T for one in maps])
            if self._mirror:
                answers(image[:, ::-1], turned)
                rows[:] = mean_answers(rows, mirrored_answers(turned, side))
        return said, features

    def maps(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a batch of a tf.data pipeline learns from: `teacher`, as `__call__` gives it, and with `features` also
        `teacher_features`, float32 [B, N, C]: the maps from which the scores are computed, N cells in the order of the
        anchors."""
        said, features = tf.numpy_function(self._ask, [images], (tf.float32, tf.float32), stateful=False)
        said.set_shape([None, None, FIELDS])
        features.set_shape([None, None, self.channels])
        return {"teacher": said} | ({"teacher_features": features} if self.channels else {})


class NetworkTeacher:
    """A network of our own that answers as `Teacher` does, for a student that is not to forget what it knows.

    Args:
        path: weights file (.keras) with the reference's strides and anchor sizes.

    Raises:
        ValueError: no such file, or other anchors.
    """

    channels = 0  # its features are not learned

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

    def maps(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [B, S, S, 3], BGR → `teacher`, float32 [B, A, 15] as `Teacher.__call__` gives it."""
        # Batches of several sizes have no static side.
        anchors = tf.numpy_function(self._anchors, [tf.shape(images)[1]], tf.float32, stateful=False)
        anchors.set_shape([None, 3])
        pixels = tf.cast(images, tf.float32) - tf.constant(ModelSpec.mean, tf.float32)
        logits, deltas, points = flatten_outputs(self._model(pixels, training=False), self._config)
        boxes = decode_boxes(deltas, anchors, self._config.variances)
        marks = decode_landmarks(points, anchors, self._config.variances)
        score = tf.sigmoid(logits[..., 1:] - logits[..., :1])
        return {"teacher": tf.concat([score, boxes, marks], axis=-1)}


def open_teacher(path: str | Path, features: bool = False, mirror: bool = False) -> Teacher | NetworkTeacher:
    """The teacher in a file: a `NetworkTeacher` for .keras, else a `Teacher`, with its arguments.

    Raises:
        ValueError: as either, or features or mirror images of a network of our own.
    """
    if Path(path).suffix != ".keras":
        return Teacher(path, features=features, mirror=mirror)
    if features or mirror:
        raise ValueError(f"{path}: a weights file as a teacher gives neither features nor answers about mirror images")
    return NetworkTeacher(path)


def mirrored_answers(said: np.ndarray, side: int) -> np.ndarray:
    """Answers about a mirror image → about the image itself, with left and right exchanged in boxes and points.

    Args:
        said: float32 [A, 15], as one row of `Teacher.__call__`'s.
        side: of the image, pixels.

    Returns:
        float32 [A, 15]. SCRFD counts from the corner of its cells, so cell j of a row of w is cell w − j of the mirror
        image; the first of each row has no counterpart, and a score of −1.
    """
    points = [5 + 2 * point + axis for point in MIRRORED_LANDMARKS for axis in (0, 1)]
    said = said[:, [0, 3, 2, 1, 4, *points]]
    said[:, 1::2] = side - said[:, 1::2]
    levels = []
    for level, stride in zip(np.split(said, np.cumsum(_rows(side))[:-1]), REFERENCE.strides, strict=True):
        cells = side // stride
        turned = np.roll(level.reshape(cells, cells, -1, FIELDS)[:, ::-1], 1, axis=1)
        turned[:, 0, :, 0] = -1
        levels.append(turned.reshape(-1, FIELDS))
    return np.concatenate(levels)


def mean_answers(said: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """The mean of [A, 15] and what `mirrored_answers` gives, boxes and points weighted by the scores."""
    known = turned[:, :1] >= 0
    weight = said[:, :1] + 1e-4, np.where(known, turned[:, :1] + 1e-4, 0)
    codes = (said[:, 1:] * weight[0] + turned[:, 1:] * weight[1]) / (weight[0] + weight[1])
    score = np.where(known, (said[:, :1] + turned[:, :1]) / 2, said[:, :1])
    return np.concatenate([score, codes], axis=1).astype(np.float32)


def _score_sources(network: Any) -> dict[str, str]:
    """For each output of scores the tensor that they are a conv of: back from the score to the first conv."""
    makers = {output: node for node in network.graph.node for output in node.output}
    found = {}
    for value in network.graph.output:
        name, trail = value.name, []
        while name in makers and makers[name].op_type != "Conv":
            trail.append(makers[name].op_type)
            name = makers[name].input[0]
        if "Sigmoid" in trail and name in makers:
            found[value.name] = makers[name].input[0]
    return found


def _rows(side: int) -> list[int]:
    """Anchors of each level in a square image."""
    return [REFERENCE.anchors_per_cell * (side // stride) ** 2 for stride in REFERENCE.strides]


def _any_size(network: Any) -> Any:
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
