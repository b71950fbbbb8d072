"""Weights files: one `.keras` archive that carries weights, network configuration and where they came from.

The configuration is a member of the zip archive that a `.keras` file already is, as `retinaface.json` is one of the
.tflite file; `tf_keras.models.load_model` reads the same file.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import tf_keras as keras

from rf_keras.config import ModelConfig, config_from_dict, config_to_dict

CONFIG_MEMBER = "retinaface_config.json"
WEIGHTS_MEMBER = "model.weights.h5"  # tf_keras's name
SHUFFLED_VALUES = 512  # smaller arrays would lose more to HDF5's bookkeeping than deflating saves
# Level 9 takes 3 % off rounded weights and 18 times as long: 40 s for resnet50, at each checkpoint.
DEFLATE_LEVEL = 4


class ModelFileError(ValueError):
    """A weights file that cannot be read; the message names it, what was found and what was expected."""


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
        model: built by `build_model(config)`, or its quantization-aware clone.
        config: the network's configuration.
        path: the file to write.
        meta: JSON-ready facts to keep with the weights, e.g. source, licence, training settings, AP.

    Raises:
        ModelFileError: `path` does not end in .keras.
    """
    path = Path(path)
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        raw, packed = Path(folder) / "raw.keras", Path(folder) / "packed.keras"
        model.save(raw, save_format="keras")
        with zipfile.ZipFile(raw) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
            for member in source.namelist():
                data = source.read(member)
                target.writestr(member, _shuffled(data) if member == WEIGHTS_MEMBER else data)
            document = {"model": config_to_dict(config), "meta": meta or {}}
            target.writestr(CONFIG_MEMBER, json.dumps(document, indent=1))
        packed.replace(path)


def _shuffled(data: bytes) -> bytes:
    """The HDF5 file with its large arrays deflated byte plane by byte plane.

    Exponents resemble one another, and so do the zeros that end rounded mantissas, but side by side they hide it: the
    weights of `fast` rounded to 12 bits take 19 % less this way (`rf_keras.publish`).
    """
    packed = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as source, h5py.File(packed, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if not isinstance(item, h5py.Dataset):
                made = target.require_group(name)
            elif item.size < SHUFFLED_VALUES:
                made = target.create_dataset(name, data=item[()])
            else:
                made = target.create_dataset(
                    name,
                    data=item[()],
                    chunks=item.shape,
                    shuffle=True,
                    compression="gzip",
                    compression_opts=DEFLATE_LEVEL,
                )
            made.attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    return packed.getvalue()


def read_config(path: str | Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The network configuration and meta facts of a weights file, without its weights.

    Raises:
        ModelFileError: missing, not a zip archive, or without configuration.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read(CONFIG_MEMBER))
        return config_from_dict(ModelConfig, document["model"], str(path)), document["meta"]
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such weights file") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path}: not a readable .keras file ({error})") from error
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: no usable {CONFIG_MEMBER} inside; written by rf_keras? ({error})") from error


def load_model(path: str | Path) -> tuple[keras.Model, ModelConfig, dict[str, Any]]:
    """Read a weights file.

    Returns:
        The model (input size open), its configuration, and the meta facts saved with it.

    Raises:
        ModelFileError: as `read_config`, or weights that do not fit the configuration.
    """
    config, meta = read_config(path)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises anything from OSError to KeyError on a damaged archive
        raise ModelFileError(f"{path}: Keras cannot read the weights ({str(error).splitlines()[0]})") from error
    return model, config, meta
