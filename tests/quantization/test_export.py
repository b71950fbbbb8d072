from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from quantization.export import to_tflite
from quantization.graph import FoldedNetwork, Ranges, signature_names
from quantization.rewrite import Editor
from quantization.simulate import simulate
from quantization.tflite_graph import Graph, Operation, Tensor, read_graph
from quantization.verify import (
    ExportError,
    FileRunner,
    channel_peaks,
    compare_with_float,
    graph_problems,
    kernels,
    layer_name,
    lsb_difference,
)
from rf_keras.backbones import LEAKY_SLOPE
from tflite.spec import ModelSpec

from .conftest import SIZE

MEAN = ModelSpec().mean


def test_signature(int8_file: bytes, folded: FoldedNetwork) -> None:
    outputs = FileRunner(int8_file, MEAN).outputs
    assert set(outputs) == set(signature_names(folded.config))
    for stride in (8, 16, 32):
        for head, values in (("score", 1), ("box", 4), ("landmark", 10)):
            details = outputs[f"{head}_{stride}"]
            assert list(details["shape_signature"]) == [1, SIZE // stride, SIZE // stride, 2 * values]
            assert details["dtype"] == np.int8


def test_float_tensors_that_ops_touch_are_named() -> None:
    none = np.zeros(0)
    kinds = {"int8": "int8", "half": "float16", "single": "float32", "unused": "float32"}
    tensors = [Tensor(name, (1,), np.dtype(kind), none, none, None) for name, kind in kinds.items()]
    graph = Graph(tensors, [Operation("CAST", (0,), (1,)), Operation("CAST", (1,), (2,))], (0,), (2,))
    assert graph.float_tensors() == ["half", "single"]


def test_int8_all_through_and_only_the_ops_of_the_network(int8_file: bytes) -> None:
    graph = read_graph(int8_file)
    assert graph.float_tensors() == []
    assert set(graph.op_counts()) == {
        *("CONV_2D", "DEPTHWISE_CONV_2D", "LEAKY_RELU", "PAD", "CONCATENATION", "RESHAPE", "ADD"),
        *("SHAPE", "STRIDED_SLICE", "DEPTH_TO_SPACE"),
    }
    assert graph_problems(int8_file, MEAN) == []


def test_every_kernel_uses_its_range_in_every_channel(int8_file: bytes) -> None:
    found = kernels(read_graph(int8_file))
    depthwise = [kernel for name, kernel in found if name.endswith("_dw_conv")]
    assert len(depthwise) == 13
    for name, kernel in found:
        assert channel_peaks(kernel).min() == 127, name


def test_slope_is_another_in_the_file_alone(int8_file: bytes, simulated: keras.Model) -> None:
    """`int8_file` is made of `simulated`, which goes on with its own."""
    leaky = [
        layer.layer for layer in simulated.layers if isinstance(getattr(layer, "layer", None), keras.layers.LeakyReLU)
    ]
    assert len(leaky) == read_graph(int8_file).op_counts()["LEAKY_RELU"]
    assert {float(layer.alpha) for layer in leaky} == {float(np.float32(LEAKY_SLOPE))}
    editor = Editor(int8_file)
    found = [
        operation.builtinOptions.alpha
        for operation in editor.graph.operators
        if editor.builtin(operation) == editor.schema.BuiltinOperator.LEAKY_RELU
    ]
    assert found == pytest.approx([0.1 * 42.748 / 43] * len(leaky), rel=1e-6)


def test_file_equals_simulation(
    int8_file: bytes, simulated: keras.Model, folded: FoldedNetwork, images: np.ndarray
) -> None:
    assert lsb_difference(int8_file, simulated, folded.config, images, MEAN) <= 2


def test_float_file_equals_the_model(folded: FoldedNetwork, images: np.ndarray) -> None:
    content = to_tflite(folded.model, folded.config, "fp32")
    differences = compare_with_float(content, folded, images[:3], MEAN)
    assert all(d.largest < 1e-3 and d.saturated == 0 for d in differences.values())


def test_half_precision_is_of_the_weights(folded: FoldedNetwork) -> None:
    """Each kernel is stored in two bytes and made float before it is used; inputs and outputs are float32."""
    graph = read_graph(to_tflite(folded.model, folded.config, "fp16"))
    stored = {tensor.dtype.name for tensor in graph.tensors if tensor.constant is not None and len(tensor.shape) == 4}
    assert stored == {"float16"}
    assert {graph.tensors[index].dtype.name for index in (*graph.inputs, *graph.outputs)} == {"float32"}


def test_dead_channels_and_uncovered_input_are_found(folded: FoldedNetwork, ranges: Ranges) -> None:
    network = folded.copy()
    conv = network.model.get_layer("stage1_2_dw_conv")
    kernel, bias = conv.get_weights()
    kernel[:, :, 1] = 0
    conv.set_weights([kernel, bias])
    content = to_tflite(simulate(network, ranges, height=SIZE, width=SIZE), folded.config, "int8")
    assert [line.split(" (")[0] for line in graph_problems(content, MEAN)] == ["stage1_2_dw_conv: dead channels [1]"]
    with pytest.raises(ExportError, match="pixels 0 to 255 become"):
        graph_problems(content, (0.0, 0.0, 0.0))


def test_layer_names() -> None:
    assert layer_name("retinaface/quant_stem_conv/BiasAdd;retinaface/quant_stem_conv/Conv2D") == "stem_conv"
    assert layer_name("retinaface/quant_ssh_8_3_act/Relu;more") == "ssh_8_3_act"
