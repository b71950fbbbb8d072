"""What must hold for an exported file: checked on its graph, and by running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tf_keras as keras

from quantization.graph import FoldedNetwork, signature_names
from quantization.integer import integer_outputs
from quantization.tflite_graph import Graph, Tensor, read_graph
from rf_keras.config import ModelConfig
from tflite.interpreter import load_interpreter, tensor_details
from tflite.preprocess import apply_table, input_table

FULL_SCALE = 120  # a per-channel kernel whose largest |q| is below this wastes its int8 range
SATURATED_SHARE = 0.01  # of an output's values at the end of its range
QUANTIZED_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class ExportError(ValueError):
    """The file would not be what was asked for; the message says what is wrong with it."""


@dataclass(frozen=True)
class OutputDifference:
    """One output of the file against the float model, over some images.

    Attributes:
        largest, mean: |file − float| in the output's units (logits, or anchor units of the box code).
        saturated: share of values at an end of the int8 range, the score's low end excepted; 0 for float outputs.
    """

    largest: float
    mean: float
    saturated: float


def graph_problems(content: bytes, mean: Sequence[float]) -> list[str]:
    """Warnings about an int8 file.

    Args:
        content: the .tflite file.
        mean: per channel, of the input.

    Returns:
        One line each: dead channels, kernels that do not use their range.

    Raises:
        ExportError: float tensors, kernels quantized per tensor, or an input that does not hold every pixel value.
    """
    graph = read_graph(content)
    floats = graph.float_tensors()
    if floats:
        raise ExportError(f"{len(floats)} float tensors in an int8 graph, the first: {floats[0]}")
    image = graph.tensors[graph.inputs[0]]
    low, high = (int(image.zero_points[0]) + value / float(image.scales[0]) for value in (-max(mean), 255 - min(mean)))
    if low < -128.5 or high > 127.5:
        raise ExportError(
            f"input range: pixels 0 to 255 become {low:.1f} to {high:.1f} in int8, expected within -128 to 127"
        )
    problems = []
    for name, kernel in kernels(graph):
        peaks = channel_peaks(kernel)
        if len(kernel.scales) != len(peaks):
            raise ExportError(f"{name}: {len(kernel.scales)} weight scales for {len(peaks)} channels")
        if dead := np.flatnonzero(peaks == 0).tolist():
            problems.append(f"{name}: dead channels {dead} (all weights 0): they cost time and find nothing")
        if weak := np.flatnonzero((peaks > 0) & (peaks < FULL_SCALE)).tolist():
            problems.append(f"{name}: channels {weak} reach |q| {peaks[weak].min()} of 127")
    return problems


def kernels(graph: Graph) -> list[tuple[str, Tensor]]:
    """(short name, kernel) of every conv with int8 weights."""
    found = []
    for operation in graph.operations:
        if operation.name in QUANTIZED_KERNELS:
            kernel = graph.tensors[operation.inputs[1]]
            if kernel.dtype == np.int8:
                found.append((layer_name(graph.tensors[operation.outputs[0]].name), kernel))
    return found


def layer_name(tensor_name: str) -> str:
    """The Keras layer in a .tflite tensor's name: `retinaface/quant_stem_conv/BiasAdd;…` → `stem_conv`.

    A conv fused with its activation carries the activation's name or both; the conv's own comes first where it is
    there.
    """
    parts = tensor_name.split(";")[0].split("/")
    return (parts[1] if len(parts) > 1 else parts[0]).removeprefix("quant_")


def channel_peaks(kernel: Tensor) -> np.ndarray:
    """Largest |q| of each output channel: axis 0 of conv kernels [out, h, w, in], axis 3 of depthwise ones [1, h, w,
    C]."""
    assert kernel.constant is not None
    values = np.abs(kernel.constant.astype(np.int32))
    axis = 3 if kernel.shape[0] == 1 and len(kernel.scales) == kernel.shape[3] else 0
    return values.max(axis=tuple(i for i in range(4) if i != axis))


class FileRunner:
    """Runs a .tflite file on letterboxed images with the device's own interpreter choice."""

    def __init__(self, content: bytes, mean: Sequence[float]) -> None:
        self._interpreter, self.interpreter_name = load_interpreter(content, 1)
        self._input, self.outputs = tensor_details(self._interpreter, "model")
        scale, zero_point = self._input["quantization"]
        self._table = input_table(mean, scale, zero_point, self._input["dtype"])
        self._buffer = np.empty(self._input["shape"], self._input["dtype"])

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Raw outputs by name, [h, w, C], for a uint8 BGR image [H, W, 3] of the input's size."""
        apply_table(image, self._table, self._buffer[0])
        self._interpreter.set_tensor(self._input["index"], self._buffer)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(d["index"])[0] for name, d in self.outputs.items()}

    def dequantize(self, name: str, value: np.ndarray) -> np.ndarray:
        """float32 values of a raw output."""
        if value.dtype == np.float32:
            return value
        scale, zero_point = self.outputs[name]["quantization"]
        return (value.astype(np.float32) - zero_point) * np.float32(scale)

    def lowest(self, name: str) -> float:
        """The smallest value that an int8 output can hold."""
        scale, zero_point = self.outputs[name]["quantization"]
        return (-128 - zero_point) * scale


def compare_with_float(
    content: bytes, network: FoldedNetwork, images: np.ndarray, mean: Sequence[float]
) -> dict[str, OutputDifference]:
    """Run the file and the float model on the same images.

    Args:
        content: the .tflite file.
        network: the float model.
        images: uint8 BGR [N, H, W, 3].
        mean: per channel.

    Returns:
        Output name → difference.
    """
    runner = FileRunner(content, mean)
    names = signature_names(network.config)
    sums: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for image in images:
        raw = runner(image)
        floats = network.model(image[None].astype(np.float32) - np.asarray(mean, np.float32), training=False)
        for name, expected in zip(names, floats, strict=True):
            found, wanted = runner.dequantize(name, raw[name]), expected.numpy()[0]
            if name.startswith("score") and raw[name].dtype == np.int8:
                wanted = np.maximum(wanted, runner.lowest(name))  # lower scores are never looked at
            error = np.abs(found - wanted)
            sums[name].append((float(error.max()), float(error.mean()), _saturated(name, raw[name])))
    return {
        name: OutputDifference(max(s[0] for s in seen), *(float(np.mean([s[i] for s in seen])) for i in (1, 2)))
        for name, seen in sums.items()
    }


def _saturated(name: str, raw: np.ndarray) -> float:
    if raw.dtype != np.int8:
        return 0.0
    ends = raw == 127
    if not name.startswith("score"):  # low scores share one value on purpose (calibrate.SCORE_FLOOR)
        ends |= raw == -128
    return float(ends.mean())


def saturation_problems(differences: Mapping[str, OutputDifference]) -> list[str]:
    """A line for each output that sits at the end of its range too often."""
    return [
        f"{name}: {d.saturated:.1%} of the values on calibration images at the end of the int8 range"
        for name, d in differences.items()
        if d.saturated > SATURATED_SHARE
    ]


def lsb_difference(
    content: bytes,
    simulated: keras.Model,
    config: ModelConfig,
    images: np.ndarray,
    mean: Sequence[float],
    *,
    exact: bool = True,
) -> float:
    """The 99.9 percentile, over all int8 outputs and images, of |file − simulation| in steps of the output (LSB).

    Args:
        content: int8 .tflite file.
        simulated: what it was exported from.
        config: its configuration.
        images: uint8 BGR [N, H, W, 3].
        mean: per channel.
        exact: compute the simulated model in integers (`integer.integer_outputs`); else in float32 as training does,
            where a few values per layer round another way and the outputs of a deep network drift apart.
    """
    runner = FileRunner(content, mean)
    steps = []
    for image in images:
        raw = runner(image)
        if exact:
            integers = integer_outputs(simulated, image)
        else:
            floats = simulated(image[None].astype(np.float32) - np.asarray(mean, np.float32), training=False)
        for index, (name, layer) in enumerate(zip(signature_names(config), simulated.output_names, strict=True)):
            if raw[name].dtype != np.int8:
                continue
            if exact:
                expected = integers[layer.removeprefix("quant_")]
            else:
                scale, zero_point = runner.outputs[name]["quantization"]
                expected = np.round(floats[index].numpy()[0] / scale) + zero_point
            steps.append(np.abs(raw[name] - expected).ravel())
    return float(np.percentile(np.concatenate(steps), 99.9)) if steps else 0.0
