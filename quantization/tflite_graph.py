"""What is inside a .tflite file: its tensors and ops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantization.rewrite import builtin_of


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
