"""Keras model → TFLite bytes with named outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from quantization.graph import signature_names
from quantization.leaky import export_slope
from quantization.rewrite import rewrite
from rf_keras.config import ModelConfig


def to_tflite(model: keras.Model, config: ModelConfig, kind: str, more: Sequence[str] = ()) -> bytes:
    """Convert a model of fixed input size. The file runs at others too, after the interpreter's `resize_tensor_input`.

    Args:
        model: folded for fp32, fp16 and dynamic; made by `simulate.simulate` for int8 (its fake-quants carry the
            ranges).
        config: with `class_logits` 1.
        kind: "fp32", "fp16", "dynamic" or "int8".
        more: names of outputs that the model has beyond the network's own.

    Returns:
        The flatbuffer, without metadata: one input `image` [1, H, W, 3], outputs `score_8` … `landmark_32` in its
        signature, all float32, or all int8 for kind int8. `rewrite.rewrite` has freed it of its size.
    """
    height, width = model.input.shape[1:3]
    names = [*signature_names(config), *more]
    inputs = [tf.TensorSpec((1, height, width, 3), tf.float32, name="image")]

    # A concrete function with batch 1: an open batch adds SHAPE and PACK ops to the graph.
    @tf.function(input_signature=inputs, autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, model(image, training=False), strict=True))

    # Saving the Keras model itself would trace every layer once more: minutes instead of seconds.
    module = tf.Module()
    module.variables_in_use = model.variables
    with tempfile.TemporaryDirectory() as folder, export_slope(model):
        tf.saved_model.save(module, folder, signatures={"serving_default": serve.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        if kind != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    return rewrite(content)
