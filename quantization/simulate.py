"""The int8 network as a trainable float graph: TFMOT wrappers with our own quantizers and assigned ranges.

TFMOT's default scheme is not used: it quantizes depthwise kernels per tensor, starts every activation at ±6 and lets a
moving average drag assigned ranges back to min/max. Here a range is a variable that nothing but its owner changes, and
weight scales follow the weights at every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapperV2

from quantization.fold import CONVS, consumers, copy_layer, parents, rebuild
from rf_keras.backbones import LEAKY_SLOPE, Tensor

layers = keras.layers
Ranges = dict[str, tuple[float, float]]

INPUT = "image"
INT8_MAX = 127
# Below this share of the kernel's largest |weight| a channel's scale stops shrinking: a dead channel would otherwise
# get a scale near 0, and its bias divided by it would overflow int32.
SMALLEST_CHANNEL = 1e-4
# How fast a trained range moves, relatively, for a rate of 1: Adam's steps are as long as its rate, and at the 3e-5 of
# weights a range would not move at all.
GROWTH_RATE = 40.0
# Layers that only move values: TFLite demands the same scale before and after them.
SAME_SCALE = (layers.ZeroPadding2D, layers.UpSampling2D, layers.MaxPooling2D)
ACTIVATIONS = (layers.ReLU, layers.LeakyReLU)
LEAKY_UNIT = 256  # XNNPACK's int8 LeakyReLU (qs8-vlrelu): multipliers are whole numbers of 1/256
LEAKY_STEPS = 43  # of them for negative values, ten times as many for positive ones (`calibrate.align_leaky`)
# The slope in int8 files. XNNPACK rounds the multiplier, so anything from 42.5 to 43.5 units is 43 to it. TensorFlow
# Lite's own kernel rounds the product twice, to quarters of a step and then to steps; from 42.7463 to 42.75 units that
# gives what 43 units rounded once, halves up, give, for every value from −1 to −255 (test_tflite_runtime.py).
LEAKY_EXPORT_SLOPE = LEAKY_SLOPE * 42.748 / LEAKY_STEPS


def is_head(name: str) -> bool:
    """Whether a layer is one of the nine output convs."""
    return name.startswith(("class_", "box_", "landmark_"))


def range_keys(model: keras.Model) -> dict[str, str]:
    """Which layers' outputs are int8 tensors of their own, and the name of the range each uses.

    Args:
        model: folded (`fold.fold`).

    Returns:
        layer name → range name, in topological order. A conv or Add whose only reader is a ReLU is missing (TFLite
        fuses the two), layers that only move values are too; the inputs of a concat share the concat's range, because
        TFLite needs one scale there and would requantize otherwise.
    """
    readers = consumers(model)
    keys: dict[str, str] = {}
    for layer in model.layers:
        following = readers[layer.name]
        fused = len(following) == 1 and isinstance(following[0], layers.ReLU)
        if isinstance(layer, SAME_SCALE) or (fused and not isinstance(layer, layers.InputLayer)):
            continue
        concat = next((reader for reader in following if isinstance(reader, layers.Concatenate)), None)
        keys[layer.name] = layer.name if concat is None else concat.name
    return keys


class FixedRange(tfmot.quantization.keras.quantizers.Quantizer):
    """int8 fake-quant of activations with an assigned range, frozen or times a trained factor.

    Args:
        low, high: the range, in the tensor's own units; 0 is inside.
        growth: scalar g of `simulate.growths`: the range is then (low, high) · exp(`GROWTH_RATE` · g), its zero point
            stays, and g is trained by what a wider step does to each value: the rounding error of one inside, the
            bound itself for one outside (learned step size quantization, Esser et al. 2020). None: frozen.
    """

    def __init__(self, low: float, high: float, growth: tf.Variable | None = None) -> None:
        self.low, self.high, self.growth = float(low), float(high), growth

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, tf.Variable]:
        def variable(side: str, value: float) -> tf.Variable:
            initial = keras.initializers.Constant(value)
            return layer.add_weight(f"{name}_{side}", initializer=initial, trainable=False)

        found = {"min_var": variable("min", self.low), "max_var": variable("max", self.high)}
        if self.growth is not None and self.high > self.low:  # a dead tensor's range has no step to train
            found["growth"] = layer.range_growth = self.growth  # as an attribute it is one of the layer's weights
        return found

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, tf.Variable], **kwargs: Any) -> Tensor:
        low, high = weights["min_var"], weights["max_var"]
        if "growth" not in weights:
            return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=8)
        below = tf.round(-255 * low / (high - low))  # steps below 0
        step = (high - low) / 255 * tf.exp(GROWTH_RATE * weights["growth"])
        steps = tf.clip_by_value(inputs / step, -below, 255 - below)
        return (steps + tf.stop_gradient(tf.round(steps) - steps)) * step

    @staticmethod
    def bounds(weights: Mapping[str, tf.Variable]) -> tuple[float, float]:
        """(low, high) as trained."""
        factor = float(tf.exp(GROWTH_RATE * weights["growth"])) if "growth" in weights else 1.0
        return float(weights["min_var"]) * factor, float(weights["max_var"]) * factor

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


def growths(model: keras.Model) -> dict[str, tf.Variable]:
    """A trainable scalar, 0 at first, for each range of a folded model but the input's: range name → variable.

    Ranges on the two sides of a LeakyReLU have one in common, so that their ratio stays as `calibrate.align_leaky`
    left it.
    """
    keys = range_keys(model)
    same = {key: key for key in keys.values() if key != INPUT}

    def first(key: str) -> str:
        return key if same[key] == key else first(same[key])

    for layer in model.layers:
        if isinstance(layer, layers.LeakyReLU):
            same[first(keys[layer.name])] = first(keys[parents(layer)[0]])
    found = {key: tf.Variable(0.0, name=f"growth_{key}") for key in same if same[key] == key}
    return {key: found[first(key)] for key in same}


class ChannelWeights(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric int8 fake-quant of conv kernels, one scale per output channel, depthwise kernels too.

    TFMOT's own per-axis quantizer takes the last axis, which is 1 for depthwise kernels [h, w, C, 1]; those are
    transposed to [h, w, 1, C] and back.
    """

    def __init__(self, depthwise: bool) -> None:
        self.depthwise = depthwise

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, tf.Variable]:
        return {}

    @staticmethod
    def largest(kernel: Tensor) -> Tensor:
        """[C]: what 127 steps stand for in each channel of a kernel [h, w, in, C] (depthwise: [h, w, 1, C])."""
        largest = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), (0, 1, 2)))
        return tf.maximum(largest, SMALLEST_CHANNEL * tf.reduce_max(largest))

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, tf.Variable], **kwargs: Any) -> Tensor:
        kernel = tf.transpose(inputs, (0, 1, 3, 2)) if self.depthwise else tf.convert_to_tensor(inputs)
        largest = self.largest(kernel)
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -largest, largest, num_bits=8, narrow_range=True
        )
        return tf.transpose(kernel, (0, 1, 3, 2)) if self.depthwise else kernel

    def get_config(self) -> dict[str, Any]:
        return {"depthwise": self.depthwise}


class LayerConfig(tfmot.quantization.keras.QuantizeConfig):
    """What TFMOT's wrapper quantizes in one layer: its kernel, if it has one, and its output, if that has a range."""

    def __init__(self, kernel: ChannelWeights | None, output: FixedRange | None) -> None:
        self.kernel, self.output = kernel, output

    def _attribute(self, layer: keras.layers.Layer) -> str:
        return "depthwise_kernel" if isinstance(layer, layers.DepthwiseConv2D) else "kernel"

    def get_weights_and_quantizers(self, layer: keras.layers.Layer) -> list[tuple[tf.Variable, Any]]:
        return [] if self.kernel is None else [(getattr(layer, self._attribute(layer)), self.kernel)]

    def set_quantize_weights(self, layer: keras.layers.Layer, quantize_weights: Sequence[Tensor]) -> None:
        for weight in quantize_weights:
            setattr(layer, self._attribute(layer), weight)

    def get_activations_and_quantizers(self, layer: keras.layers.Layer) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: keras.layers.Layer, quantize_activations: Sequence[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: keras.layers.Layer) -> list[FixedRange]:
        return [] if self.output is None else [self.output]

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "output": self.output}


class QuantizedLayer(QuantizeWrapperV2):
    """tfmot's wrapper, whose `call` is plain Python: AutoGraph, which Keras sends through all classes that are not its
    own, would only rewrite it, layer by layer, for seconds."""

    call = tf.autograph.experimental.do_not_convert(QuantizeWrapperV2.call)


def simulate(
    model: keras.Model,
    ranges: Ranges,
    *,
    height: int | None = None,
    width: int | None = None,
    heads_float: bool = False,
    learn_ranges: bool = False,
) -> keras.Model:
    """The int8 version of a folded model, computed in float: what the .tflite computes, to a few LSB.

    Args:
        model: folded; its weights are copied.
        ranges: (low, high) of every range that `range_keys(model)` names, in the tensor's own units; 0 is always
        included. height, width: input size in pixels; None leaves it open.
        heads_float: leave the nine output convs in float.
        learn_ranges: train a factor of each range but the input's (`FixedRange`).

    Returns:
        A model with the inputs and outputs of `model`.

    Raises:
        KeyError: a range is missing.
    """
    keys = range_keys(model)
    trained = growths(model) if learn_ranges else {}

    by_name = {layer.name: layer for layer in model.layers}

    def input_key(layer: keras.layers.Layer) -> str:
        before = parents(layer)[0]
        return keys[before] if before in keys else input_key(by_name[before])

    def quantizer(layer: keras.layers.Layer) -> FixedRange | None:
        if layer.name not in keys or (heads_float and is_head(layer.name)):
            return None
        low, high = ranges[keys[layer.name]]
        return FixedRange(min(low, 0.0), max(high, 0.0), trained.get(keys[layer.name]))

    def replace(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
        output = quantizer(layer)
        if isinstance(layer, layers.InputLayer):
            assert output is not None
            return QuantizeLayer(output, name="quant_image")(sources[0])
        kernel = None
        if isinstance(layer, CONVS) and not (heads_float and is_head(layer.name)):
            kernel = ChannelWeights(isinstance(layer, layers.DepthwiseConv2D))
        if kernel is None and output is None:
            return copy_layer(layer, sources)
        clone = type(layer).from_config(layer.get_config())
        wrapped = QuantizedLayer(clone, LayerConfig(kernel, output))
        result = wrapped(sources[0] if len(sources) == 1 else sources)
        if kernel is not None:
            values = layer.get_weights()
            low, high = ranges[input_key(layer)]
            values[1] = _on_bias_grid(values[1], kernel_scale(values[0], kernel.depthwise), (high - low) / 255)
            for variable, value in zip(conv_variables(wrapped), values, strict=True):
                variable.assign(value)
        return result

    return rebuild(model, replace, height, width)


def kernel_scale(kernel: np.ndarray, depthwise: bool) -> np.ndarray:
    """float32 [C]: step of each output channel's int8 weights, as `ChannelWeights` has it."""
    channels_last = np.transpose(kernel, (0, 1, 3, 2)) if depthwise else kernel
    return np.asarray(ChannelWeights.largest(tf.constant(channels_last)).numpy() / np.float32(INT8_MAX), np.float32)


def _on_bias_grid(bias: np.ndarray, weight_scale: np.ndarray, input_scale: float) -> np.ndarray:
    """The bias as TFLite stores it: int32 in steps of input scale · kernel scale. Left out of the simulation, this
    rounding alone flips one value in 500 by a step in each layer."""
    step = weight_scale.astype(np.float64) * input_scale
    return (np.round(bias / np.maximum(step, 1e-30)) * step).astype(np.float32)


def conv_variables(wrapped: QuantizeWrapperV2) -> list[tf.Variable]:
    """Kernel and bias of a wrapped conv (the wrapper hides the kernel behind its fake-quantized value)."""
    return [wrapped._weight_vars[0][0], wrapped.layer.bias]


def write_back(simulated: keras.Model, model: keras.Model) -> Ranges:
    """Copy the trained weights of `simulated` into the folded `model` it was made from, and return its ranges."""
    ranges: Ranges = {}
    keys = range_keys(model)
    for layer in simulated.layers:
        if isinstance(layer, QuantizeLayer):
            ranges[INPUT] = FixedRange.bounds(layer.quantizer_vars)
        elif isinstance(layer, QuantizeWrapperV2):
            if layer._weight_vars:
                values = [variable.numpy() for variable in conv_variables(layer)]
                model.get_layer(layer.layer.name).set_weights(values)
            if layer._output_quantizers:
                ranges[keys[layer.layer.name]] = FixedRange.bounds(layer._output_quantizer_vars)
        elif isinstance(layer, CONVS):
            model.get_layer(layer.name).set_weights(layer.get_weights())
    return ranges


def input_range(mean: Sequence[float]) -> tuple[float, float]:
    """The smallest int8 range that holds every pixel 0…255 minus its channel's mean without clipping.

    Args:
        mean: per channel, 0-255.

    Returns:
        (low, high) with 0 exactly on the grid: low = −scale · steps below 0, high = scale · steps above, 255 steps in
        all. For the mean (104, 117, 123) the scale is 1.0786: 275 values do not fit 256 levels at scale 1.
    """
    below, above = max(mean), 255.0 - min(mean)
    candidates = [below / n for n in range(1, 256)] if below else []
    candidates += [above / n for n in range(1, 256)] if above else []
    for scale in sorted(candidates):
        steps_below = int(np.ceil(below / scale - 1e-9))
        if steps_below + int(np.ceil(above / scale - 1e-9)) <= 255:
            return -scale * steps_below, scale * (255 - steps_below)
    raise AssertionError("unreachable: scale max(below, above) always fits")
