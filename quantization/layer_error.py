"""Where an int8 file loses signal: each tensor of the file against the same tensor of the float network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tf_keras as keras

from quantization.tflite_graph import read_graph
from quantization.verify import layer_name
from tflite.preprocess import input_table
from tflite.spec import read_spec

QUIET = 1e-12


@dataclass(frozen=True)
class LayerError:
    """SQNR in dB, 10·log10(signal energy / error energy), of one layer's output over some images; low is bad."""

    layer: str
    op: str
    sqnr: float


def layer_errors(content: bytes, model: keras.Model, images: np.ndarray) -> list[LayerError]:
    """SQNR of every int8 tensor that the float network has too, worst first.

    Args:
        content: int8 .tflite file with metadata, made from `model` or tuned from it. (Equalized files differ from the
            float network inside by design: only their outputs and additions compare.)
        model: folded float network of the file's input size.
        images: uint8 BGR [N, H, W, 3].

    Raises:
        ValueError: the file has no int8 tensor of a layer of the model.
    """
    from ai_edge_litert.interpreter import Interpreter

    graph = read_graph(content)
    names = {layer.name for layer in model.layers}
    found: dict[str, tuple[int, str]] = {}
    for operation in graph.operations:
        index = operation.outputs[0]
        name = layer_name(graph.tensors[index].name)
        if name in names and graph.tensors[index].dtype == np.int8:
            found[name] = (index, operation.name)
    if not found:
        raise ValueError("the file has no int8 tensor that the float network has too; was it made from other weights?")
    network = keras.Model(model.input, [model.get_layer(name).output for name in found])

    # Plain kernels that keep every tensor; with the default resolver memory is reused and inner tensors are lost.
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    mean = read_spec(content).mean
    scale, zero_point = source["quantization"]
    table = input_table(mean, scale, zero_point, source["dtype"])
    signal, error = dict.fromkeys(found, 0.0), dict.fromkeys(found, 0.0)
    for image in images:
        interpreter.set_tensor(source["index"], _apply(table, image)[None])
        interpreter.invoke()
        floats = network(image[None].astype(np.float32) - np.asarray(mean, np.float32), training=False)
        for (name, (index, _)), expected in zip(found.items(), floats, strict=True):
            tensor = graph.tensors[index]
            value = (interpreter.get_tensor(index).astype(np.float32) - tensor.zero_points[0]) * tensor.scales[0]
            wanted = expected.numpy()
            signal[name] += float(np.square(wanted).sum())
            error[name] += float(np.square(value - wanted).sum())
    rows = [
        LayerError(name, op, 10 * float(np.log10(max(signal[name], QUIET) / max(error[name], QUIET))))
        for name, (_, op) in found.items()
    ]
    return sorted(rows, key=lambda row: row.sqnr)


def _apply(table: np.ndarray, image: np.ndarray) -> np.ndarray:
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
