"""Weights files: one `.keras` archive that carries weights, network configuration and where they came from.

The configuration is a member of the zip archive that a `.keras` file already is, as `retinaface.json` is one of the
.tflite file; `tf_keras.models.load_model` reads the same file. This module never does: a graph in a file can run code,
so the network is built from the configuration (`archive`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf
import tf_keras as keras

from rf_keras.archive import CONFIG_MEMBER, GROUP, VARIABLES, WEIGHTS_MEMBER, ModelFileError, WeightsArchive
from rf_keras.config import ModelConfig, config_to_dict
from rf_keras.model import build_model, folded_model
from tflite.files import replacing

# Layers with weights, and tf_keras's names for them in the file.
LAYER_NAMES = {
    keras.layers.Conv2D: "conv2d",
    keras.layers.DepthwiseConv2D: "depthwise_conv2d",
    keras.layers.BatchNormalization: "batch_normalization",
}
SHUFFLED_VALUES = 512  # smaller arrays would lose more to HDF5's bookkeeping than deflating saves
# Level 9 takes 3 % off rounded weights and 18 times as long: 40 s for resnet50, at each checkpoint.
DEFLATE_LEVEL = 4


def check_suffix(path: str | Path) -> None:
    """Refuse what `save_model` would refuse, before long work.

    Raises:
        ModelFileError: `path` does not end in .keras.
    """
    suffix = Path(path).suffix
    if suffix != ".keras":
        raise ModelFileError(f"{path}: weights are saved as .keras files, found suffix {suffix!r}")


def save_model(model: keras.Model, config: ModelConfig, path: str | Path, meta: dict[str, Any] | None = None) -> None:
    """Write `model` to `path` (.keras), deflated, under a temporary name first.

    Args:
        model: built by `build_model(config)`, or of the layers of `folded_model(config)`.
        config: the network's configuration.
        path: the file to write.
        meta: JSON-ready facts to keep with the weights, e.g. source, licence, training settings, AP.

    Raises:
        ModelFileError: `path` does not end in .keras.
    """
    path = Path(path)
    check_suffix(path)
    graph = json.dumps(keras.saving.serialize_keras_object(model))
    document = {"model": config_to_dict(config), "meta": meta or {}}
    members: dict[str, str | bytes] = {
        "metadata.json": json.dumps({"keras_version": keras.__version__}),
        "config.json": graph,  # for Keras; `load_model` does not read it
        WEIGHTS_MEMBER: packed_weights(model),
        CONFIG_MEMBER: json.dumps(document, indent=1),
    }
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in members.items():
            # A fixed date: the same weights give the same bytes, and a clock before 1980 does not matter.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)


def packed_weights(model: keras.Model) -> bytes:
    """An HDF5 file as tf_keras lays it out, its large arrays deflated byte plane by byte plane.

    Exponents resemble one another, and so do the zeros that end rounded mantissas, but side by side they hide it: the
    weights of `fast` rounded to 12 bits take 19 % less this way (`rf_keras.publish`).
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars")  # the model's own, which has none
        for name, weight in weight_names(model).items():
            layer, number = name.split("/")
            values = weight.numpy()
            packing: dict[str, Any] = {"chunks": values.shape, "shuffle": True, "compression": "gzip"}
            packing["compression_opts"] = DEFLATE_LEVEL
            place = f"{GROUP}/{layer}/{VARIABLES}/{number}"
            file.create_dataset(place, data=values, **(packing if values.size >= SHUFFLED_VALUES else {}))
    return buffer.getvalue()


def read_config(path: str | Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The network configuration and meta facts of a weights file, without its weights.

    Raises:
        ModelFileError: missing, not a weights file, or without a usable configuration.
    """
    with WeightsArchive(path) as archive:
        return archive.config, archive.meta


def load_model(path: str | Path) -> tuple[keras.Model, ModelConfig, dict[str, Any]]:
    """Read a weights file: the network is built by its configuration, and only arrays are taken from the file.

    Returns:
        The model (input size open), its configuration, and the meta facts saved with it. A file whose batch
        normalization is folded gives `model.folded_model`.

    Raises:
        ModelFileError: as `read_config`, or weights that do not fit the configuration.
    """
    with WeightsArchive(path) as archive:
        model = build_model(archive.config)
        arrays = archive.open_arrays(model.count_params())
        if not any(name.startswith(LAYER_NAMES[keras.layers.BatchNormalization]) for name in arrays.names):
            model = folded_model(archive.config, model)
        named = weight_names(model)
        found = arrays.read({name: tuple(weight.shape) for name, weight in named.items()})
        keras.backend.batch_set_value([(weight, found[name]) for name, weight in named.items()])
        return model, archive.config, archive.meta


def weight_names(model: keras.Model) -> dict[str, tf.Variable]:
    """The name in the file of every weight of `model`: LAYER/NUMBER.

    tf_keras names a layer by its class and a count, in the order of `model.layers`, and its weights by their place.
    """
    count: Counter[type] = Counter()
    names = {}
    for layer in model.layers:
        kind = next((kind for kind in LAYER_NAMES if type(layer) is kind), None)
        if kind is None:
            assert not layer.weights, f"{layer.name}: a layer with weights that is not in LAYER_NAMES"
            continue
        suffix = f"_{count[kind]}" if count[kind] else ""
        count[kind] += 1
        for number, weight in enumerate(layer.weights):
            names[f"{LAYER_NAMES[kind]}{suffix}/{number}"] = weight
    return names
