"""Read the arrays of an HDF5 file that Keras wrote for a network of ours: `save_weights`, or `save` to .h5.

Such a file names its arrays, in one of two ways, and no more of the network than their shapes tell. A graph that it may
hold besides is not looked at, links are not followed, and sizes are known before anything is read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
import tf_keras as keras

from rf_keras.archive import GROUP, VARIABLES, read_dataset
from rf_keras.config import PRESETS, ModelConfig
from rf_keras.importing.source_weights import BatchNorm, Conv, ImportWeightsError, SourceWeights, conv_layers
from rf_keras.model import build_model, folded_model
from rf_keras.model_file import weight_names
from tflite.messages import one_line, printable

WHOLE_MODEL = "model_weights"  # where `save` puts what `save_weights` writes at the top
DEPTH = 3  # of an array: LAYER/LAYER/NAME or layers/LAYER/vars/NUMBER below "layers"
Shapes = dict[str, tuple[int, ...] | None]
MOST_OBJECTS = 10_000  # the largest network known has 1,000: a group may hold itself, and so never end


def read_hdf5(path: Path) -> SourceWeights:
    """Weights by the names and shapes of their arrays; activation and anchors are not known from them.

    Raises:
        ImportWeightsError: unreadable, or not the arrays of a known network.
    """
    name = str(path)
    try:
        with path.open("rb") as stream, h5py.File(stream, "r") as file:
            top = _group(file, WHOLE_MODEL) or file
            found = dict(_arrays(_group(top, GROUP) or top))
            config, folded, numbered = _network(name, {place: array.shape for place, array in found.items()})
            values = {place: read_dataset(array, array.shape) for place, array in found.items()}
    except ImportWeightsError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ValueError, … by what is damaged
        raise ImportWeightsError(f"{printable(name)}: no HDF5 file as Keras writes it ({one_line(error)})") from error
    for place, value in values.items():
        if not np.isfinite(value).all():
            raise ImportWeightsError(f"{printable(name)}: array {place} holds values that are not finite")
    model = folded_model(config) if folded else build_model(config)
    keras.backend.batch_set_value([(weight, values[place]) for place, weight in _places(model, numbered).items()])
    return SourceWeights(name, config, _convs(model), None)


def _group(parent: h5py.Group, name: str) -> h5py.Group | None:
    """The group of that name in the file itself, if there is one."""
    found = parent[name] if isinstance(parent.get(name, getlink=True), h5py.HardLink) else None
    return found if isinstance(found, h5py.Group) else None


def _arrays(top: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """All arrays below a group, by their places.

    Raises:
        ValueError: a link elsewhere, or more or deeper groups than Keras writes.
    """
    count, groups = 0, [("", top)]
    while groups:
        place, group = groups.pop()
        count += len(group)
        if count > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS} objects")
        if place.count("/") >= DEPTH:
            raise ValueError(f"{printable(place)} is in more groups than Keras writes")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{printable(place + name)} is a link to elsewhere, expected an array")
            if isinstance(item := group[name], h5py.Group):
                groups.append((f"{place}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield place + name, item


def _network(name: str, found: Shapes) -> tuple[ModelConfig, bool, bool]:
    """The known network that has just these arrays, whether it is folded, and whether they are numbered.

    Raises:
        ImportWeightsError: there is none.
    """
    known = dict.fromkeys(
        dataclasses.replace(preset.model, class_logits=logits) for preset in PRESETS.values() for logits in (1, 2)
    )
    for config in known:
        # A network of other heads need not be built: it takes ResNet-50 some seconds.
        if (1, 1, config.ssh_channels, config.anchors_per_cell * config.class_logits) not in found.values():
            continue
        for folded, numbered, shapes in _shapes_of(config):
            if shapes == found:
                return config, folded, numbered
    names = ", ".join(sorted({config.backbone for config in known}))
    raise ImportWeightsError(
        f"{printable(name)}: its {len(found)} arrays fit no known network ({names}), expected a file of Keras's "
        "save_weights or save for one of them"
    )


@functools.cache
def _shapes_of(config: ModelConfig) -> list[tuple[bool, bool, Shapes]]:
    """The places and shapes of a network's arrays, folded or not, numbered or not."""
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")  # batch normalization calls something deprecated where there is a graph
    try:
        with tf.Graph().as_default():  # its variables take no memory
            model = build_model(config)
            return [
                (folded, numbered, {place: tuple(weight.shape) for place, weight in _places(network, numbered).items()})
                for folded, network in ((False, model), (True, folded_model(config, model)))
                for numbered in (True, False)
            ]
    finally:
        logger.setLevel(level)


def _places(model: keras.Model, numbered: bool) -> dict[str, tf.Variable]:
    """Where Keras writes each weight: LAYER/vars/NUMBER by the layer's class, or LAYER/LAYER/NAME by its name."""
    if numbered:
        return {name.replace("/", f"/{VARIABLES}/"): weight for name, weight in weight_names(model).items()}
    return {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}


def _convs(model: keras.Model) -> dict[str, Conv]:
    """The convolutions of a network with their batch normalization, in the order of sources."""
    norms = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    convs = {}
    for name, layer in conv_layers(model).items():
        kernel, *bias = layer.get_weights()
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        norm = name.removesuffix("_conv") + "_bn"
        convs[name] = Conv(
            np.ascontiguousarray(kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))),
            bias[0] if bias else None,
            _norm(norms[norm]) if norm in norms else None,
        )
    return convs


def _norm(layer: keras.layers.BatchNormalization) -> BatchNorm:
    gamma, beta, mean, variance = layer.get_weights()
    return BatchNorm(gamma, beta, mean, variance, layer.epsilon)
