"""Read RetinaFace weights out of an ONNX graph by its topology; names and node order do not matter."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import tf_keras as keras

from rf_keras.backbones import LEAKY_SLOPE
from rf_keras.config import ModelConfig
from rf_keras.importing.source_weights import (
    BatchNorm,
    Conv,
    ImportWeightsError,
    SourceWeights,
    config_from_shapes,
    conv_layers,
    kernel_shape,
)
from rf_keras.model import HEADS, build_model, output_names

Node = TypeVar("Node", bound=Hashable)
LEVELS = 3


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportWeightsError(
            "reading ONNX needs the package onnx: pip install 'retinaface-keras[pretrained]'"
        ) from error
    return onnx


class OnnxGraph:
    """The convolutions of an ONNX file and which feeds which.

    Attributes:
        convs: index → weights; a conv that an export wrote twice (same input, same kernel) appears once.
        image: the graph's input.
        outputs: index → name of the conv's output tensor.
        upstream: index → indices of the nearest convs before it. Operands of a concat keep their order, those of a sum
            are sorted by kernel shape.
    """

    def __init__(self, data: bytes, name: str) -> None:
        onnx = _onnx()
        try:
            self.model = onnx.load_from_string(data)
            onnx.checker.check_model(self.model)
        except Exception as error:  # protobuf and checker errors share no base class
            raise ImportWeightsError(f"{name}: not a valid ONNX file ({str(error).splitlines()[0]})") from error
        self.name = name
        graph = self.model.graph
        self._producer = {output: node for node in graph.node for output in node.output}
        self._constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        self.image = next(item for item in graph.input if item.name not in self._constants)
        self._attributes = lambda node: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.convs: dict[int, Conv] = {}
        self.outputs: dict[int, str] = {}
        self._tensor_conv: dict[str, int] = {}
        self._read_convs(graph.node)
        shapes = {index: conv.kernel.shape for index, conv in self.convs.items()}
        self.upstream = {
            index: nearest(self._node_input[index], self._conv_at, self._before, lambda i: shapes[i])
            for index in shapes
        }

    def _constant(self, tensor: str) -> np.ndarray:
        while tensor not in self._constants:
            node = self._producer.get(tensor)
            if node is None or node.op_type not in ("Identity", "Constant"):
                raise ImportWeightsError(f"{self.name}: weights {tensor!r} are not stored in the file")
            if node.op_type == "Constant":
                return _onnx().numpy_helper.to_array(self._attributes(node)["value"])
            tensor = node.input[0]
        return self._constants[tensor]

    def _read_convs(self, nodes: Sequence[Any]) -> None:
        consumers: dict[str, list[Any]] = {}
        for node in nodes:
            for tensor in node.input:
                consumers.setdefault(tensor, []).append(node)
        self._node_input: dict[int, str] = {}
        seen: dict[tuple[str, bytes], int] = {}
        for node in nodes:
            if node.op_type != "Conv":
                continue
            kernel = np.asarray(self._constant(node.input[1]), np.float32)
            key = (node.input[0], kernel.tobytes())
            index = seen.setdefault(key, len(seen))
            self._tensor_conv[node.output[0]] = index
            if index in self.convs:
                continue
            bias = np.asarray(self._constant(node.input[2]), np.float32) if len(node.input) > 2 else None
            after = consumers.get(node.output[0], [])
            norm = self._norm(after[0]) if [n.op_type for n in after] == ["BatchNormalization"] else None
            self.convs[index] = Conv(kernel, bias, norm)
            self.outputs[index] = node.output[0]
            self._node_input[index] = node.input[0]

    def _norm(self, node: Any) -> BatchNorm:
        gamma, beta, mean, variance = (np.asarray(self._constant(tensor), np.float32) for tensor in node.input[1:5])
        return BatchNorm(gamma, beta, mean, variance, float(self._attributes(node).get("epsilon", 1e-5)))

    def _conv_at(self, tensor: str) -> int | None:
        return self._tensor_conv.get(tensor)

    def _before(self, tensor: str) -> tuple[list[str], bool]:
        """The tensors that a non-conv node computes `tensor` from, and whether it sums them."""
        node = self._producer.get(tensor)
        if node is None:  # the image
            return [], False
        operands = list(node.input) if node.op_type in ("Add", "Sum", "Concat") else [node.input[0]]
        return operands, node.op_type in ("Add", "Sum")

    def input_size(self, default: int) -> tuple[int, int]:
        """Height and width the graph takes, `default` where they are open."""
        sides = [side.dim_value or default for side in self.image.type.tensor_type.shape.dim]
        return (sides[2], sides[3]) if len(sides) == 4 else (default, default)

    def activation(self) -> str:
        """The activation by the graph's nodes. ReLU is also what follows the SSH concat, in either network."""
        slopes = {
            round(float(self._attributes(node).get("alpha", 0.01)), 4)
            for node in self.model.graph.node
            if node.op_type == "LeakyRelu"
        }
        if not slopes - {0.0}:
            return "relu"
        if slopes == {LEAKY_SLOPE}:
            return "leaky_relu"
        raise ImportWeightsError(
            f"{self.name}: LeakyRelu slopes are {sorted(slopes)}, expected {LEAKY_SLOPE} (or 0: ReLU)"
        )


def nearest(
    start: Node,
    conv_at: Callable[[Node], int | str | None],
    before: Callable[[Node], tuple[list[Node], bool]],
    shape: Callable[[Any], tuple[int, ...]],
) -> list[Any]:
    """The convs that `start` is computed from without a conv in between.

    Args:
        start: a tensor or layer.
        conv_at: the conv that makes a tensor, None if it is something else.
        before: what a tensor that no conv made is computed from, and whether it is their sum (of any order).
        shape: a conv's kernel shape.
    """
    conv = conv_at(start)
    if conv is not None:
        return [conv]
    operands, is_sum = before(start)
    found = [conv for operand in operands for conv in nearest(operand, conv_at, before, shape)]
    return sorted(found, key=shape) if is_sum else found


def _keras_upstream(model: keras.Model) -> dict[str, list[str]]:
    convs = conv_layers(model)

    def inputs(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        return [tensor._keras_history.layer for tensor in tensors]

    def before(layer: keras.layers.Layer) -> tuple[list[keras.layers.Layer], bool]:
        is_image = isinstance(layer, keras.layers.InputLayer)
        return ([], False) if is_image else (inputs(layer), isinstance(layer, keras.layers.Add))

    def conv_at(layer: keras.layers.Layer) -> str | None:
        return layer.name if layer.name in convs else None

    def shape(name: str) -> tuple[int, ...]:
        return kernel_shape(convs[name])

    return {name: nearest(inputs(layer)[0], conv_at, before, shape) for name, layer in convs.items()}


def _heads(graph: OnnxGraph) -> list[int]:
    """The nine head convs in the order of the model's outputs."""
    feeding = {index for found in graph.upstream.values() for index in found}
    by_context: dict[tuple[int, ...], list[int]] = {}
    for index in set(graph.convs) - feeding:
        by_context.setdefault(tuple(graph.upstream[index]), []).append(index)

    def ancestors(indices: Sequence[int]) -> set[int]:
        found = set(indices)
        for index in indices:
            found |= ancestors(graph.upstream[index])
        return found

    # The finest level is the end of the top-down path: most convs lie before it.
    contexts = sorted(by_context, key=lambda context: -len(ancestors(context)))
    levels = [sorted(by_context[context], key=lambda i: len(graph.convs[i].kernel)) for context in contexts]
    if len(levels) != LEVELS or any(len(level) != len(HEADS) for level in levels):
        found = [len(level) for level in levels]
        raise ImportWeightsError(f"{graph.name}: heads per level are {found}, expected {[len(HEADS)] * LEVELS}")
    return [level[head] for head in range(len(HEADS)) for level in levels]


def _config(graph: OnnxGraph, heads: Sequence[int]) -> ModelConfig:
    stems = [index for index, found in graph.upstream.items() if not found]
    if len(stems) != 1:
        raise ImportWeightsError(f"{graph.name}: {len(stems)} convolutions read the image, expected 1")
    class_head, box_head = graph.convs[heads[0]], graph.convs[heads[LEVELS]]
    context = graph.convs[graph.upstream[heads[0]][0]]
    return config_from_shapes(graph.name, graph.convs[stems[0]], context, class_head, box_head)


def read_onnx(data: bytes, name: str) -> tuple[SourceWeights, OnnxGraph]:
    """Weights and activation of a RetinaFace ONNX file.

    Args:
        data: the file's bytes.
        name: what to call it in errors.

    Raises:
        ImportWeightsError: not ONNX, or not RetinaFace with a MobileNetV1 backbone.
    """
    graph = OnnxGraph(data, name)
    heads = _heads(graph)
    config = _config(graph, heads)
    model = build_model(config)
    upstream, shapes = _keras_upstream(model), {n: kernel_shape(layer) for n, layer in conv_layers(model).items()}
    paired: dict[str, int] = {}

    def pair(layer: str, index: int) -> None:
        found = graph.convs[index].kernel.shape
        if shapes[layer] != found or len(upstream[layer]) != len(graph.upstream[index]):
            raise ImportWeightsError(f"{name}: where {layer} {shapes[layer]} should be, the graph has a conv {found}")
        if paired.setdefault(layer, index) != index:
            raise ImportWeightsError(f"{name}: the graph branches where {layer} is one convolution")
        for before, before_index in zip(upstream[layer], graph.upstream[index], strict=True):
            if before not in paired or paired[before] != before_index:
                pair(before, before_index)

    for output, index in zip(output_names(config), heads, strict=True):
        pair(output, index)
    convs = {layer: graph.convs[index] for layer, index in paired.items()}
    return SourceWeights(name, config, convs, graph.activation()), graph


def head_outputs(graph: OnnxGraph, image: np.ndarray) -> list[np.ndarray]:
    """Run the ONNX graph itself.

    Args:
        graph: from `read_onnx`.
        image: float32 [1, H, W, 3] BGR − mean.

    Returns:
        The nine raw head maps float32 [1, h, w, C] in the order of the Keras model's outputs.
    """
    onnx = _onnx()
    from onnx.reference import ReferenceEvaluator

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            # Below opset 14 the evaluator mixes in the batch's own statistics by 1 − momentum, as no runtime does.
            kept = [attribute for attribute in node.attribute if attribute.name != "momentum"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("momentum", 1.0)])
    names = [graph.outputs[index] for index in _heads(graph)]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    maps = ReferenceEvaluator(model).run(None, {graph.image.name: image.transpose(0, 3, 1, 2)})
    return [np.asarray(m).transpose(0, 2, 3, 1) for m in maps]
