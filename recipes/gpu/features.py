"""A teacher's features as targets of the GPU training: the maps that its scores are made of, heads that predict them,
and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.config import ModelConfig
from rf_keras.distillation.losses import TEACHER_FLOOR
from rf_keras.distillation.teacher import any_size

layers = keras.layers


class FeatureSums(NamedTuple):
    """Float32 scalars, summed over a (replica's part of a) batch: errors over all images, errors over faces, and what
    those would be for a network that knows nothing."""

    images: tf.Tensor
    faces: tf.Tensor
    faces_unknown: tf.Tensor


def feature_sums(
    predicted: tf.Tensor, features: tf.Tensor, teacher_outputs: tf.Tensor, cells: Sequence[int], anchors_per_cell: int
) -> FeatureSums:
    """How badly a network's features predict a teacher's.

    Args:
        predicted: float32 [B, N, C], from the network's features.
        features: float32 [B, N, C], the teacher's, of any scale: each channel of each level is brought to mean 0 and
            variance 1 over this replica's part of the batch (as in PKD, Cao et al. 2022). Faces are far from that mean.
        teacher_outputs: float32 [B, N · anchors_per_cell, 15], the teacher's answers: their scores say where faces are.
        cells: of each level; their sum is N.

    Returns:
        Squared errors, averaged over channels: averaged over each image's cells, and weighted by the scores of at least
        `TEACHER_FLOOR` of each cell's anchors; and the latter with 0 predicted. To be divided by the images and by each
        other: both quotients are then 1 where nothing is known.
    """
    levels = tf.split(features, list(cells), axis=1)
    moments = [(level, *tf.nn.moments(level, axes=[0, 1], keepdims=True)) for level in levels]
    wanted = tf.concat([(level - mean) * tf.math.rsqrt(variance + 1e-6) for level, mean, variance in moments], axis=1)
    error = tf.reduce_mean(tf.square(predicted - wanted), axis=-1)  # [B, N]
    unknown = tf.reduce_mean(tf.square(wanted), axis=-1)
    score = tf.reshape(teacher_outputs[..., 0], [-1, sum(cells), anchors_per_cell])
    weight = tf.reduce_sum(tf.where(score >= TEACHER_FLOOR, score, 0.0), axis=-1)
    images = tf.reduce_sum(tf.reduce_mean(error, axis=1))
    return FeatureSums(images, tf.reduce_sum(weight * error), tf.reduce_sum(weight * unknown))


def add_feature_heads(model: keras.Model, config: ModelConfig, channels: int) -> keras.Model:
    """`model` with a tenth output that predicts a teacher's features; for training only.

    Returns:
        A model that shares `model`'s layers. Its last output is [B, N, C], a 1×1 conv of each level's context features,
        cells in the order of the anchors. The convs start at 0, so that they first learn from the features, which
        then learn from them.
    """
    heads = []
    for stride in config.strides:
        head = layers.Conv2D(channels, 1, kernel_initializer="zeros", name=f"feature_{stride}")
        heads.append(layers.Reshape((-1, channels))(head(model.get_layer(f"ssh_{stride}_concat").output)))
    return keras.Model(model.input, [*model.outputs, layers.Concatenate(axis=1, name="features")(heads)])


def teacher_features(path: str, images: np.ndarray) -> np.ndarray:
    """The maps from which an SCRFD network's scores are computed.

    Args:
        path: ONNX file of the teacher (`rf_keras.distillation.teacher.Scrfd`).
        images: uint8 [B, S, S, 3], BGR, S a multiple of 32.

    Returns:
        float32 [B, N, C], N cells in the order of the anchors: finest level first.
    """
    import onnx
    import onnxruntime

    network = any_size(onnx.load(path))
    names = list(_score_sources(network).values())
    for name in names:
        network.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for image in images:
        pixels = (image[..., ::-1].astype(np.float32) - 127.5) / 128
        maps = session.run(names, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})
        finest_first = sorted(maps, key=lambda one: -one.shape[-1])
        found.append(np.concatenate([one[0].reshape(one.shape[1], -1).T for one in finest_first]))
    return np.stack(found)


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
