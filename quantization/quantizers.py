"""Fake-quantization of one layer, as TFMOT's wrappers want it: weights by channel, activations in assigned ranges.

TFMOT's default scheme is not used: it quantizes depthwise kernels per tensor, starts every activation at ±6 and lets a
moving average drag assigned ranges back to min/max. Here a range is a variable that nothing but its owner changes, and
weight scales follow the weights at every call. All that is read of the wrappers' private parts is read here.
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

from rf_keras.backbones import Tensor

layers = keras.layers

INT8_MAX = 127
# Below this share of the kernel's largest |weight| a channel's scale stops shrinking: a dead channel would otherwise
# get a scale near 0, and its bias divided by it would overflow int32.
SMALLEST_CHANNEL = 1e-4
# How fast a trained range moves, relatively, for a rate of 1: Adam's steps are as long as its rate, and at the 3e-5 of
# weights a range would not move at all.
GROWTH_RATE = 40.0


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


class ChannelWeights(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric int8 fake-quant of conv kernels, one scale per output channel, depthwise kernels too.

    TFMOT's own per-axis quantizer takes the last axis, which is 1 for depthwise kernels [h, w, C, 1]; those are
    transposed to [h, w, 1, C] and back.

    Args:
        depthwise: the kernel's kind.
        per_tensor: one scale for the whole kernel, as TFMOT's default has it for depthwise ones: to measure what the
            scale per channel is worth.
    """

    def __init__(self, depthwise: bool, per_tensor: bool = False) -> None:
        self.depthwise, self.per_tensor = depthwise, per_tensor

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, tf.Variable]:
        return {}

    def largest(self, kernel: Tensor) -> Tensor:
        """[C]: what 127 steps stand for in each channel of a kernel [h, w, in, C] (depthwise: [h, w, 1, C])."""
        largest = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), (0, 1, 2)))
        if self.per_tensor:
            return tf.fill(tf.shape(largest), tf.reduce_max(largest))
        return tf.maximum(largest, SMALLEST_CHANNEL * tf.reduce_max(largest))

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, tf.Variable], **kwargs: Any) -> Tensor:
        kernel = tf.transpose(inputs, (0, 1, 3, 2)) if self.depthwise else tf.convert_to_tensor(inputs)
        largest = self.largest(kernel)
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -largest, largest, num_bits=8, narrow_range=True
        )
        return tf.transpose(kernel, (0, 1, 3, 2)) if self.depthwise else kernel

    def get_config(self) -> dict[str, Any]:
        return {"depthwise": self.depthwise, "per_tensor": self.per_tensor}

    def scale(self, kernel: np.ndarray) -> np.ndarray:
        """float32 [C]: step of each output channel's int8 weights, for a kernel as Keras has it."""
        channels_last = np.transpose(kernel, (0, 1, 3, 2)) if self.depthwise else kernel
        return np.asarray(self.largest(tf.constant(channels_last)).numpy() / np.float32(INT8_MAX), np.float32)


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


def inner_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer inside a wrapper; a layer that is none is its own."""
    return layer.layer if isinstance(layer, QuantizeWrapperV2) else layer


def conv_variables(wrapped: QuantizeWrapperV2) -> list[tf.Variable]:
    """Kernel and bias of a wrapped conv (the wrapper hides the kernel behind its fake-quantized value)."""
    return [wrapped._weight_vars[0][0], wrapped.layer.bias]


def kernel_quantizer(wrapped: QuantizeWrapperV2) -> ChannelWeights:
    """What quantizes the kernel of a wrapped conv."""
    return wrapped._weight_vars[0][1]


def output_range(layer: keras.layers.Layer) -> tuple[float, float] | None:
    """(low, high) of a layer's output, as trained; None where it has no range of its own."""
    if isinstance(layer, QuantizeLayer):
        return FixedRange.bounds(layer.quantizer_vars)
    if isinstance(layer, QuantizeWrapperV2) and layer._output_quantizers:
        return FixedRange.bounds(layer._output_quantizer_vars)
    return None
