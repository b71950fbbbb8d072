"""A weights file as data: its configuration and its arrays, taken out of the archive without running anything of it.

Nothing that the file says about a graph is looked at. A file of unknown origin may not cost more memory than the
network that it names, so that sizes are known before anything is decompressed. Needs no TensorFlow.
"""

from __future__ import annotations

import io
import json
import math
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import h5py
import numpy as np

from rf_keras.config import ModelConfig, config_from_dict
from rf_keras.history import check_parts
from rf_keras.weights_files import HDF5_START
from tflite.archives import open_zip, read_member
from tflite.messages import one_line, printable, shortened

CONFIG_MEMBER = "retinaface_config.json"
WEIGHTS_MEMBER = "model.weights.h5"  # tf_keras's name
ZIP_START = b"PK\x03\x04"
MAX_CONFIG_BYTES = 1 << 20
HDF5_BYTES = 1 << 23  # what an HDF5 file of our arrays may hold besides them: names and headers, a kilobyte each
MOST_ARRAYS = 2000  # of a network; the largest that a configuration can name has 1,000
FLOAT_BYTES = 4
FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]  # of large arrays
GROUP, VARIABLES = "layers", "vars"  # an array's place: layers/LAYER/vars/NUMBER


class ModelFileError(ValueError):
    """A weights file that cannot be read; the message names it, what was found and what was expected."""


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"found {text}, expected a finite number")


def check_meta(meta: Any) -> dict[str, Any]:
    """The facts beside the weights, as far as commands rely on them.

    Raises:
        ValueError: no object, or one of its facts is of another kind; says which.
    """

    def need(ok: bool, name: str, expected: str) -> None:
        if not ok:
            raise ValueError(f"{name} is {str(meta.get(name))[:100]}, expected {expected}")

    if not isinstance(meta, dict):
        raise ValueError(f"meta is {type(meta).__name__}, expected an object")
    for name in ("source", "license", "mesh"):
        need(isinstance(meta.get(name, ""), str), name, "text")
    for name in ("train", "ap"):
        need(isinstance(meta.get(name) or {}, dict), name, "an object")
    check_parts(meta.get("parts") or [])
    stored = meta.get("quantization")
    if stored:
        ok = isinstance(stored, dict) and isinstance(stored.get("ranges"), dict)
        ok = ok and _numbers(stored.get("size"), int) and all(_numbers(pair) for pair in stored["ranges"].values())
        need(ok, "quantization", 'an object {"size": [height, width], "ranges": {name: [low, high]}}')
    return meta


def _numbers(pair: Any, *kinds: type) -> bool:
    """Whether it is a list of two finite numbers."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(one) in (kinds or (int, float)) and abs(one) < 1e30 for one in pair)
    )


class WeightsArchive:
    """A .keras file that `model_file.save_model` wrote; a context manager.

    What the file is, is decided here and by its first bytes, never by its name: a zip archive that starts as one.
    Another format with a zip archive behind it is refused.

    Attributes:
        config: of the network, validated.
        meta: facts beside the weights, validated as far as commands rely on them.

    Raises:
        ModelFileError: missing, not such a file, or without a usable configuration.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = printable(path)
        self._archive = self._open(Path(path))
        try:
            self.config, self.meta = self._read_config()
        except BaseException:
            self._archive.close()
            raise

    def _open(self, path: Path) -> zipfile.ZipFile:
        try:
            if not path.exists():
                raise ModelFileError(f"{self.name}: no such weights file")
            if not stat.S_ISREG(path.stat().st_mode):
                raise ModelFileError(f"{self.name}: not a regular file, expected a .keras file")
            with path.open("rb") as file:
                start = file.read(len(HDF5_START))
            if start == HDF5_START:
                raise ModelFileError(
                    f"{self.name}: an HDF5 file, which says nothing of its network; expected a .keras file, as "
                    f"python -m rf_keras.import_weights --source {self.name} --output W.keras makes of it"
                )
            if not start.startswith(ZIP_START):
                raise ModelFileError(f"{self.name}: not a .keras file (found no zip archive), expected one of rf_keras")
            return open_zip(path)
        except ModelFileError:
            raise
        except Exception as error:  # OSError, BadZipFile, ValueError for a NUL byte in the name, struct.error, …
            raise ModelFileError(f"{self.name}: not a readable .keras file ({one_line(error)})") from error

    def _read_config(self) -> tuple[ModelConfig, dict[str, Any]]:
        try:
            document = json.loads(
                read_member(self._archive, CONFIG_MEMBER, MAX_CONFIG_BYTES), parse_constant=_no_constant
            )
            if not isinstance(document, dict) or not {"model", "meta"} <= set(document):
                raise ValueError("expected an object with model and meta")
            return config_from_dict(ModelConfig, document["model"], "model"), check_meta(document["meta"])
        except Exception as error:  # damaged archives raise BadZipFile, zlib.error, KeyError, RecursionError, …
            raise ModelFileError(
                f"{self.name}: no usable {CONFIG_MEMBER} inside; written by rf_keras? ({one_line(error)})"
            ) from error

    def open_arrays(self, weights: int) -> Arrays:
        """Its arrays.

        Args:
            weights: how many numbers the network has; a file with many more is refused before it is decompressed.

        Raises:
            ModelFileError: it holds none, or is damaged.
        """
        try:
            data = read_member(self._archive, WEIGHTS_MEMBER, FLOAT_BYTES * weights + HDF5_BYTES)
            return Arrays(h5py.File(io.BytesIO(data), "r"), self.name)
        except Exception as error:
            raise ModelFileError(f"{self.name}: no readable weights inside ({one_line(error)})") from error

    def __enter__(self) -> WeightsArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._archive.close()


class Arrays:
    """The arrays of a weights file, by layer: `names` lists them, `read` takes those that a network wants."""

    def __init__(self, file: h5py.File, name: str) -> None:
        self._file, self._name = file, name
        self.names: set[str] = set()  # LAYER/NUMBER
        layers = _hard(file, GROUP, h5py.Group)
        for layer in layers:
            variables = _hard(_hard(layers, layer, h5py.Group), VARIABLES, h5py.Group)
            # Any number of names may lead to one group, whose arrays count anew each time.
            if max(len(layers), len(self.names) + len(variables)) > MOST_ARRAYS:
                raise ValueError(f"{len(layers)} layers or their arrays are more than {MOST_ARRAYS}")
            self.names |= {f"{layer}/{number}" for number in variables}

    def read(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """float32 arrays by name.

        Args:
            shapes: LAYER/NUMBER → shape of everything that the network holds.

        Raises:
            ModelFileError: one is missing, too many, of another shape or type, damaged or not finite.
        """
        for name in sorted(set(shapes) ^ self.names):
            told = "missing" if name in shapes else "unexpected"
            raise ModelFileError(
                f"{self._name}: array {shortened(printable(name))} is {told}: {len(self.names)} arrays, the network "
                f"of its configuration has {len(shapes)}"
            )
        return {name: self._read_one(name, shape) for name, shape in shapes.items()}

    def _read_one(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        layer, number = name.split("/")
        try:
            variables = _hard(_hard(_hard(self._file, GROUP, h5py.Group), layer, h5py.Group), VARIABLES, h5py.Group)
            array = read_dataset(_hard(variables, number, h5py.Dataset), shape)
        except Exception as error:
            raise ModelFileError(f"{self._name}: array {name}: {one_line(error)}") from error
        if not np.isfinite(array).all():
            raise ModelFileError(f"{self._name}: array {name} holds values that are not finite")
        return array


def _hard(group: h5py.Group, name: str, kind: type) -> Any:
    """The group or array of that name in this file: a link into another file is not followed.

    Raises:
        ValueError: there is none.
    """
    link = group.get(name, getlink=True)
    found = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, kind):
        raise ValueError(f"no {kind.__name__.lower()} {name} in {WEIGHTS_MEMBER}")
    return found


def read_dataset(dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of that shape, stored as a whole, plain or by shuffle and gzip as `save_model` does.

    HDF5's own gzip filter decompresses to the end, however much that is, and its external and virtual arrays lie in
    other files.

    Raises:
        ValueError: it is stored otherwise.
    """
    if dataset.shape != shape or dataset.dtype != np.dtype("<f4"):
        raise ValueError(f"found {dataset.dtype} {list(dataset.shape or ())}, expected float32 {list(shape)}")
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    layout = plist.get_layout()
    if layout in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS) and not plist.get_external_count() and not filters:
        return np.asarray(dataset[()])
    size = FLOAT_BYTES * math.prod(shape)
    whole = layout == h5py.h5d.CHUNKED and dataset.chunks == shape and dataset.id.get_num_chunks() == 1
    if whole and filters == FILTERS and dataset.id.get_chunk_info(0).size <= size + size // 8 + 1024:
        skipped, packed = dataset.id.read_direct_chunk((0,) * len(shape))
        planes = zlib.decompressobj().decompress(packed, size + 1)
        if not skipped and len(planes) == size:
            return np.frombuffer(planes, np.uint8).reshape(FLOAT_BYTES, -1).T.copy().view("<f4").reshape(shape)
    raise ValueError("stored in another way than rf_keras does, or damaged")
