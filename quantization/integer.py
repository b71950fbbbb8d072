"""The int8 arithmetic of a simulated model in integers: what XNNPACK computes on the file, bit for bit.

The simulation computes in float32, which rounds one value in 10⁵ to another side of a half than exact arithmetic does.
Every such step moves the sums of the next conv, some of which then round another way too, and after thirty convs the
outputs differ by a handful of steps although no layer is wrong. Here each operation is the one that the device runs
(XNNPACK: qs8-gemm and qs8-dwconv with fp32 requantization, qs8-vadd, qs8-vlrelu), so that a difference to the file is
an error of the export and not noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapperV2

from quantization.graph import CONVS, consumers
from quantization.leaky import LEAKY_UNIT
from quantization.quantizers import conv_variables, inner_layer, kernel_quantizer, output_range
from rf_keras.graph import parents
from tflite.preprocess import apply_table, input_table
from tflite.spec import ModelSpec

layers = keras.layers
LOWEST, HIGHEST = -128, 127
ADD_BITS = 20  # qs8-vadd: the larger of the two multipliers has so many bits


class Grid(NamedTuple):
    """An int8 tensor's meaning: value = scale · (q − zero_point)."""

    scale: np.float32
    zero_point: int


def grid_of(low: float, high: float) -> Grid:
    """The grid that TensorFlow's converter makes from a fake-quant range (in double, stored as float32)."""
    scale = (float(np.float32(high)) - float(np.float32(low))) / (HIGHEST - LOWEST)
    return Grid(np.float32(scale), int(np.clip(np.round(LOWEST - low / scale), LOWEST, HIGHEST)))


def integer_outputs(simulated: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Run a simulated model in integers.

    Args:
        simulated: from `simulate.simulate`.
        image: uint8 BGR [H, W, 3] of the model's size.

    Returns:
        Layer name (without `quant_`) → int32 [h, w, C], the int8 values of every tensor.
    """
    found: dict[str, tuple[np.ndarray, Grid]] = {}
    readers = consumers(simulated)
    for layer in simulated.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        if isinstance(layer, QuantizeLayer):
            found[layer.name] = _quantized_image(layer, image)
            continue
        inner = inner_layer(layer)
        inputs = [found[name] for name in parents(layer)]
        if isinstance(inner, layers.ReLU) and _output_grid(layer) not in (None, inputs[0][1]):
            raise NotImplementedError(f"{layer.name}: a ReLU that the layer before it does not fuse")
        # TFLite fuses a ReLU into the only layer before it: that one rounds straight to the ReLU's grid, from 0 up.
        following = readers[layer.name]
        own = _output_grid(layer)
        grid = own or (_output_grid(following[0]) if len(following) == 1 else None) or inputs[0][1]
        lowest = LOWEST if own else grid.zero_point
        if isinstance(inner, CONVS):
            found[layer.name] = _conv(inputs[0], layer, grid, lowest), grid
        elif isinstance(inner, layers.Add):
            found[layer.name] = _add(inputs[0], inputs[1], grid, lowest), grid
        elif isinstance(inner, layers.LeakyReLU):
            found[layer.name] = _leaky_relu(inputs[0], float(inner.alpha), grid), grid
        else:  # moves values only, or is a ReLU that the layer before it has done
            found[layer.name] = _moved(inner, [value for value, _ in inputs], inputs[0][1].zero_point), inputs[0][1]
    return {name.removeprefix("quant_"): value for name, (value, _) in found.items()}


def _output_grid(layer: keras.layers.Layer) -> Grid | None:
    """The grid of a layer's output, None where it has no range of its own."""
    bounds = output_range(layer)
    return None if bounds is None else grid_of(*bounds)


def _quantized_image(layer: QuantizeLayer, image: np.ndarray) -> tuple[np.ndarray, Grid]:
    grid = _output_grid(layer)
    assert grid is not None
    pixels = np.empty(image.shape, np.int8)
    apply_table(image, input_table(ModelSpec.mean, float(grid.scale), grid.zero_point, np.dtype(np.int8)), pixels)
    return pixels.astype(np.int32), grid


def _rounded(values: np.ndarray, zero_point: int, lowest: int = LOWEST) -> np.ndarray:
    """float32 steps → int8 values, halves to even."""
    return np.clip(np.rint(values) + zero_point, lowest, HIGHEST).astype(np.int32)


def _conv(source: tuple[np.ndarray, Grid], layer: QuantizeWrapperV2, grid: Grid, lowest: int) -> np.ndarray:
    """Exact int32 sums, times one float32 factor per channel."""
    conv = layer.layer
    depthwise = isinstance(conv, layers.DepthwiseConv2D)
    kernel, bias = (variable.numpy() for variable in conv_variables(layer))
    quantizer = kernel_quantizer(layer)
    scale = quantizer.scale(kernel)  # [C]
    rounded = quantizer(tf.constant(kernel), False, {}).numpy()
    steps = np.rint(rounded / (scale[:, None] if depthwise else scale)).astype(np.float32)
    value, (in_scale, zero_point) = source
    # float32 holds whole numbers up to 2²⁴; the largest sum here is 9 · 64 inputs of 255 · 127 at their worst, and far
    # smaller in any trained network.
    centred = tf.constant((value - zero_point)[None], tf.float32)
    run = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
    sums = run(centred, steps, [1, *conv.strides, 1], conv.padding.upper()).numpy()[0].astype(np.int64)
    sums += np.rint(bias.astype(np.float64) / (np.float64(in_scale) * scale)).astype(np.int64)
    factor = (in_scale * scale / grid.scale).astype(np.float32)
    return _rounded(sums.astype(np.float32) * factor, grid.zero_point, lowest)


def _add(a: tuple[np.ndarray, Grid], b: tuple[np.ndarray, Grid], grid: Grid, lowest: int) -> np.ndarray:
    """Two integer multipliers and a shift, halves up."""
    ratios = [source[1].scale / grid.scale for source in (a, b)]
    shift = ADD_BITS - int(np.floor(np.log2(max(ratios))))
    total = np.full(a[0].shape, 1 << (shift - 1), np.int64)
    for (value, source), ratio in zip((a, b), ratios, strict=True):
        total += (value.astype(np.int64) - source.zero_point) * int(np.rint(float(ratio) * 2.0**shift))
    return np.clip((total >> shift) + grid.zero_point, lowest, HIGHEST).astype(np.int32)


def _leaky_relu(source: tuple[np.ndarray, Grid], slope: float, grid: Grid) -> np.ndarray:
    """A multiplier of 8 fractional bits for either sign, halves up."""
    value, (scale, zero_point) = source
    ratio = np.float32(scale / grid.scale)
    multipliers = [int(np.rint(np.float32(LEAKY_UNIT) * part)) for part in (ratio, np.float32(slope) * ratio)]
    centred = value - zero_point
    product = centred * np.where(centred < 0, multipliers[1], multipliers[0])
    return np.clip(((product + LEAKY_UNIT // 2) >> 8) + grid.zero_point, LOWEST, HIGHEST)


def _moved(layer: keras.layers.Layer, values: list[np.ndarray], zero_point: int) -> np.ndarray:
    """Layers that compute nothing: padding (with the grid's 0), upsampling, pooling, concatenation, a fused ReLU."""
    if isinstance(layer, layers.ZeroPadding2D):
        return np.pad(values[0], (*layer.padding, (0, 0)), constant_values=zero_point)
    if isinstance(layer, layers.UpSampling2D):
        return values[0].repeat(layer.size[0], axis=0).repeat(layer.size[1], axis=1)
    if isinstance(layer, layers.MaxPooling2D):
        pool = tf.nn.max_pool2d(
            tf.constant(values[0][None], tf.float32), layer.pool_size, layer.strides, layer.padding.upper()
        )
        return pool.numpy()[0].astype(np.int32)
    if isinstance(layer, layers.Concatenate):
        return np.concatenate(values, axis=-1)
    if isinstance(layer, layers.ReLU):
        return values[0]
    raise NotImplementedError(f"{layer.name}: {type(layer).__name__} has no integer version")
