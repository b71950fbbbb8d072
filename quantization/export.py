"""Keras model → TFLite bytes with named outputs, and what is inside such a file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from quantization.fold import signature_names
from quantization.rewrite import builtin_of, rewrite
from quantization.simulate import LEAKY_EXPORT_SLOPE
from rf_keras.config import ModelConfig

KINDS = ("fp32", "fp16", "dynamic", "int8")


@contextmanager
def _export_slope(model: keras.Model) -> Iterator[None]:
    """`LEAKY_EXPORT_SLOPE` in the LeakyReLUs of a simulated model, which are wrapped, while it is traced."""
    leaky = [layer.layer for layer in model.layers if isinstance(getattr(layer, "layer", None), keras.layers.LeakyReLU)]
    own = [layer.alpha for layer in leaky]
    try:
        for layer in leaky:
            layer.alpha = np.float32(LEAKY_EXPORT_SLOPE)
        yield
    finally:
        for layer, alpha in zip(leaky, own, strict=True):
            layer.alpha = alpha


def to_tflite(model: keras.Model, config: ModelConfig, kind: str, *, float_output: bool = False) -> bytes:
    """Convert a model of fixed input size. The file runs at others too, after the interpreter's `resize_tensor_input`.

    Args:
        model: folded for fp32, fp16 and dynamic; made by `simulate.simulate` for int8 (its fake-quants carry the
        ranges). config: with `class_logits` 1.
        kind: one of `KINDS`.
        float_output: int8 only: outputs stay float32 (heads in float).

    Returns:
        The flatbuffer, without metadata: one input `image` [1, H, W, 3], outputs `score_8` … `landmark_32` in its
        signature, all float32, or all int8 for kind int8. `rewrite.rewrite` has freed it of its size.
    """
    height, width = model.input.shape[1:3]
    names = signature_names(config)
    inputs = [tf.TensorSpec((1, height, width, 3), tf.float32, name="image")]

    # A concrete function with batch 1: an open batch adds SHAPE and PACK ops to the graph.
    @tf.function(input_signature=inputs, autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, model(image, training=False), strict=True))

    # Saving the Keras model itself would trace every layer once more: minutes instead of seconds.
    module = tf.Module()
    module.variables_in_use = model.variables
    with tempfile.TemporaryDirectory() as folder, _export_slope(model):
        tf.saved_model.save(module, folder, signatures={"serving_default": serve.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        if kind != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.float32 if float_output else tf.int8
        content = bytes(converter.convert())
    return rewrite(content)


@dataclass(frozen=True)
class Tensor:
    """One tensor of a .tflite file; scales are per channel where there are several."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scales: np.ndarray
    zero_points: np.ndarray
    constant: np.ndarray | None


@dataclass(frozen=True)
class Operation:
    """One op: its builtin name (DELEGATE excluded) and the indices of its input and output tensors."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Tensors and ops of a .tflite file, in execution order."""

    tensors: list[Tensor]
    operations: list[Operation]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def op_counts(self) -> dict[str, int]:
        """Ops by name, most frequent first."""
        return dict(Counter(operation.name for operation in self.operations).most_common())

    def float_tensors(self) -> list[str]:
        """Names of the float tensors that ops read or write."""
        used = {index for op in self.operations for index in (*op.inputs, *op.outputs)}
        return [self.tensors[index].name for index in sorted(used) if self.tensors[index].dtype.kind == "f"]


def read_graph(content: bytes) -> Graph:
    """Parse a .tflite flatbuffer (metadata appended or not) with TensorFlow's own schema."""
    from tensorflow.lite.python import schema_py_generated as schema

    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    numpy_names = {"FLOAT32": "float32", "FLOAT16": "float16", "INT8": "int8", "INT16": "int16", "INT32": "int32"}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    subgraph = model.subgraphs[0]

    def tensor(item: Any) -> Tensor:
        dtype = np.dtype(numpy_names.get(types[item.type], "uint8"))
        shape = tuple(int(side) for side in item.shape) if item.shape is not None else ()
        data = model.buffers[item.buffer].data
        constant = None if data is None or not len(data) else np.frombuffer(bytes(data), dtype).reshape(shape)
        quantization = item.quantization
        scales = quantization.scale if quantization is not None and quantization.scale is not None else []
        zeros = quantization.zeroPoint if quantization is not None and quantization.zeroPoint is not None else []
        return Tensor(item.name.decode(), shape, dtype, np.asarray(scales, np.float32), np.asarray(zeros), constant)

    def operation(item: Any) -> Operation:
        code = builtin_of(model.operatorCodes[item.opcodeIndex])
        inputs = tuple(int(index) for index in item.inputs if index >= 0)
        return Operation(codes[code], inputs, tuple(int(index) for index in item.outputs))

    return Graph(
        [tensor(item) for item in subgraph.tensors],
        [operation(item) for item in subgraph.operators],
        tuple(int(index) for index in subgraph.inputs),
        tuple(int(index) for index in subgraph.outputs),
    )
