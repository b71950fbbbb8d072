"""Folded network → ONNX with named outputs: float, or int8 as QuantizeLinear/DequantizeLinear pairs.

The pairs carry the scales and zero points of the .tflite made from the same network, so that a runtime which fuses
them computes on the same integers. Channels come first, as ONNX has it: `image` float32 [1, 3, H, W], BGR − mean, any H
and W that are multiples of 32; outputs float32 [1, anchors · k, H/s, W/s].
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from quantization.graph import CONVS, INPUT, FoldedNetwork, parents, signature_names
from quantization.integer import Grid, grid_of
from quantization.quantizers import ChannelWeights
from quantization.recipe import Int8Network
from rf_keras.config import ModelConfig
from tflite.onnx_runtimes import onnx_session
from tflite.spec import SPEC_FILE, ModelSpec, spec_to_json

layers = keras.layers
OPSET, IR_VERSION = 17, 8  # what runtimes of 2022 read


class OnnxMissing(ValueError):
    """The package onnx is not installed; the message says how to install it."""


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise OnnxMissing(f"--onnx needs the package onnx ({error}): pip install 'retinaface-keras[onnx]'") from error
    return onnx


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self._helper = _onnx().helper
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = values
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self._helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
        return output

    def dequantized(self, name: str, values: np.ndarray, scale: np.ndarray) -> str:
        """A constant of integers with a scale per output channel (axis 0) and zero point 0."""
        inputs = [self.constant(f"{name}/values", values), self.constant(f"{name}/scale", scale)]
        inputs.append(self.constant(f"{name}/zero", np.zeros(scale.shape, values.dtype)))
        return self.node("DequantizeLinear", inputs, name, axis=0)

    def through_int8(self, source: str, grid: Grid, output: str) -> str:
        """`source` rounded to the grid, as floats again."""
        scale = self.constant(f"{output}/scale", np.float32(grid.scale))
        zero = self.constant(f"{output}/zero", np.int8(grid.zero_point))
        quantized = self.node("QuantizeLinear", [source, scale, zero], f"{output}/quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero], output)


def _channels_first(kernel: np.ndarray, depthwise: bool) -> np.ndarray:
    """[h, w, in, out] → [out, in, h, w]; of a depthwise conv [h, w, C, 1] → [C, 1, h, w]."""
    return np.ascontiguousarray(kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))


def _margins(layer: keras.layers.Layer, before: list[int]) -> list[int]:
    """ONNX's pads (top, left, bottom, right) of a conv or a pooling that follows a ZeroPadding2D of `before`."""
    if layer.padding == "valid":
        return before
    size = layer.kernel_size if isinstance(layer, CONVS) else layer.pool_size
    if tuple(layer.strides) != (1, 1) or any(side % 2 == 0 for side in size) or any(before):
        raise NotImplementedError(f"{layer.name}: padding 'same' that is not the same on all sides")
    return [side // 2 for side in (*size, *size)]


class _Writer:
    """Translates a folded network layer by layer.

    Args:
        network: folded.
        int8: its ranges; None for float.
    """

    def __init__(self, network: FoldedNetwork, int8: Int8Network | None) -> None:
        self.graph = _Graph()
        self._network, self._int8 = network, int8
        self._outputs = dict(zip(network.model.output_names, signature_names(network.config), strict=True))
        self._values: dict[str, str] = {}  # layer → tensor
        self._grids: dict[str, Grid] = {}  # layer → of its output
        self._pads: dict[str, list[int]] = {}  # layer → zeros that it adds, left to its reader

    def write(self) -> _Graph:
        for layer in self._network.model.layers:
            sources = [] if isinstance(layer, layers.InputLayer) else parents(layer)
            for source in sources[:1]:
                if source in self._grids:
                    self._grids[layer.name] = self._grids[source]
            if isinstance(layer, layers.ZeroPadding2D):
                (top, bottom), (left, right) = layer.padding
                self._pads[layer.name] = [top, left, bottom, right]
                self._values[layer.name] = self._values[sources[0]]
                continue
            grid = self._grid(layer)
            name = self._outputs.get(layer.name, layer.name)
            if isinstance(layer, layers.InputLayer):
                name = f"{INPUT}/int8"
            result = name if grid is None else f"{name}/float"
            self._values[layer.name] = self._operation(layer, sources, result)
            if grid is not None:
                self._grids[layer.name] = grid
                self._values[layer.name] = self.graph.through_int8(self._values[layer.name], grid, name)
        return self.graph

    def _grid(self, layer: keras.layers.Layer) -> Grid | None:
        """Of the layer's output, where it is rounded to int8: not in front of a ReLU that is fused with it."""
        if self._int8 is None:
            return None
        key = self._network.keys.get(layer.name)
        if key is not None:
            low, high = self._int8.ranges[key]
            return grid_of(min(low, 0.0), max(high, 0.0))
        moves = isinstance(layer, (layers.UpSampling2D, layers.MaxPooling2D))
        return self._grids[layer.name] if moves else None

    def _operation(self, layer: keras.layers.Layer, sources: list[str], result: str) -> str:
        graph, inputs = self.graph, [self._values[name] for name in sources]
        if isinstance(layer, layers.InputLayer):
            return INPUT
        if isinstance(layer, CONVS):
            return self._conv(layer, sources[0], result)
        if isinstance(layer, layers.ReLU) and layer.max_value is None:
            return graph.node("Relu", inputs, result)
        if isinstance(layer, layers.LeakyReLU):
            return graph.node("LeakyRelu", inputs, result, alpha=float(layer.alpha))
        if isinstance(layer, layers.Add):
            return graph.node("Add", inputs, result)
        if isinstance(layer, layers.Concatenate):
            return graph.node("Concat", inputs, result, axis=1)
        if isinstance(layer, layers.MaxPooling2D):
            pads = _margins(layer, self._pads.get(sources[0], [0] * 4))
            size = {"kernel_shape": list(layer.pool_size), "strides": list(layer.strides)}
            return graph.node("MaxPool", inputs, result, pads=pads, **size)
        if isinstance(layer, layers.UpSampling2D) and layer.interpolation == "nearest":
            scales = graph.constant(f"{result}/scales", np.array([1, 1, *layer.size], np.float32))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return graph.node("Resize", [*inputs, "", scales], result, **how)
        raise NotImplementedError(f"{layer.name}: {type(layer).__name__} has no ONNX version")

    def _conv(self, layer: keras.layers.Layer, source: str, result: str) -> str:
        graph = self.graph
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        kernel, bias = layer.get_weights()
        if self._int8 is None:
            weights = graph.constant(f"{layer.name}/kernel", _channels_first(kernel, depthwise))
            offsets = graph.constant(f"{layer.name}/bias", bias)
        else:
            quantizer = ChannelWeights(depthwise, depthwise and self._int8.depthwise_per_tensor)
            scale = quantizer.scale(kernel)  # [C]
            rounded = quantizer(tf.constant(kernel), False, {}).numpy()
            steps = np.rint(rounded / (scale[:, None] if depthwise else scale)).astype(np.int8)
            weights = graph.dequantized(f"{layer.name}/kernel", _channels_first(steps, depthwise), scale)
            bias_scale = (np.float32(self._grids[source].scale) * scale).astype(np.float32)
            units = np.rint(bias.astype(np.float64) / bias_scale).astype(np.int32)
            offsets = graph.dequantized(f"{layer.name}/bias", units, bias_scale)
        return graph.node(
            "Conv",
            [self._values[source], weights, offsets],
            result,
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.strides),
            pads=_margins(layer, self._pads.get(source, [0] * 4)),
            group=kernel.shape[2] if depthwise else 1,
        )


def to_onnx(network: FoldedNetwork, spec: ModelSpec, int8: Int8Network | None = None) -> bytes:
    """The ONNX file of a network.

    Args:
        network: folded; of `int8` its own.
        spec: stored as text under `retinaface.json` in the file's metadata_props.
        int8: the ranges to round to; None for a float file.

    Returns:
        The file: same network, same bytes.

    Raises:
        OnnxMissing: the package onnx is not installed.
    """
    onnx = _onnx()
    helper = onnx.helper
    graph = _Writer(network, int8).write()
    config = network.config
    widths = {"score": 1, "box": 4, "landmark": 10}

    def value(name: str, channels: int, height: str, width: str) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, height, width])

    outputs = []
    for name in signature_names(config):
        kind, _, stride = name.partition("_")
        outputs.append(value(name, config.anchors_per_cell * widths[kind], f"height_{stride}", f"width_{stride}"))
    constants = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in graph.constants.items()]
    body = helper.make_graph(graph.nodes, "retinaface", [value(INPUT, 3, "height", "width")], outputs, constants)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="retinaface-keras"
    )
    helper.set_model_props(model, {SPEC_FILE: spec_to_json(spec)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def onnx_operations(content: bytes) -> dict[str, int]:
    """Nodes of an ONNX file by kind, most frequent first."""
    return dict(Counter(node.op_type for node in _onnx().load_from_string(content).graph.node).most_common())


class OnnxRunner:
    """Runs an ONNX file on letterboxed images with ONNX Runtime; one thread.

    Raises:
        ModelError: ONNX Runtime is not installed or cannot load the file.
    """

    def __init__(self, content: bytes, mean: tuple[float, ...]) -> None:
        self.session, _ = onnx_session(content, 1)
        self._names = [output.name for output in self.session.get_outputs()]
        self._mean = np.asarray(mean, np.float32)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32 [h, w, C] as a .tflite has them, for a uint8 BGR image [H, W, 3]."""
        blob = np.ascontiguousarray((image.astype(np.float32) - self._mean).transpose(2, 0, 1)[None])
        found = self.session.run(self._names, {INPUT: blob})
        return {name: output[0].transpose(1, 2, 0) for name, output in zip(self._names, found, strict=True)}


def largest_differences(
    content: bytes, model: keras.Model, config: ModelConfig, images: np.ndarray, mean: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    """Output name → largest and mean |file − Keras model|, in the output's units.

    Args:
        content: the ONNX file.
        model: what it was made from: folded, or simulated for int8.
        config: of the model.
        images: uint8 BGR [N, H, W, 3].
        mean: per channel.

    Raises:
        ModelError: ONNX Runtime is not installed.
    """
    runner = OnnxRunner(content, mean)
    errors: dict[str, list[np.ndarray]] = {name: [] for name in signature_names(config)}
    for image in images:
        found = runner(image)
        wanted = model(image[None].astype(np.float32) - np.asarray(mean, np.float32), training=False)
        for name, expected in zip(errors, wanted, strict=True):
            errors[name].append(np.abs(found[name] - expected.numpy()[0]))
    return {name: {"largest": float(np.max(e)), "mean": float(np.mean(e))} for name, e in errors.items()}
