"""Topology of Functional models: what feeds a layer, and the same topology with other layers."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from rf_keras.backbones import Tensor

layers = keras.layers


def parents(layer: keras.layers.Layer) -> list[str]:
    """Names of the layers that feed `layer`."""
    return [tensor._keras_history.layer.name for tensor in tf.nest.flatten(layer.input)]


def call(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
    """The output of a layer for one input or several."""
    return layer(sources[0] if len(sources) == 1 else sources)


def rebuild(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer, list[Tensor]], Tensor],
    height: int | None = None,
    width: int | None = None,
) -> keras.Model:
    """A new Functional model with the topology of `model`.

    Args:
        model: Functional, every layer called once.
        replace: makes the output of one layer from its new inputs (called in topological order, the input layer too).
        height, width: input size in pixels; None leaves it open.

    Returns:
        The new model; outputs in the order of `model`.
    """
    image = keras.Input((height, width, 3), name="image")
    outputs: dict[str, Tensor] = {}
    for layer in model.layers:
        sources = [image] if isinstance(layer, layers.InputLayer) else [outputs[name] for name in parents(layer)]
        outputs[layer.name] = replace(layer, sources)
    return keras.Model(image, [outputs[name] for name in model.output_names], name=model.name)
