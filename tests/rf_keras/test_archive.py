"""Weights files of unknown origin: data only, in bounded memory, refused in one line. Needs no TensorFlow."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rf_keras.archive import CONFIG_MEMBER, WEIGHTS_MEMBER, ModelFileError, WeightsArchive, read_dataset
from rf_keras.config import ModelConfig, config_to_dict

KERNEL = np.arange(600, dtype=np.float32).reshape(5, 120) / 7
BIAS = np.arange(3, dtype=np.float32)
SHAPES = {"conv2d/0": (5, 120), "conv2d/1": (3,)}
MEBIBYTE = b"\0" * (1 << 20)


def hdf5(fill: Callable[[h5py.File], object] = lambda file: None, **arrays: Any) -> bytes:
    """An HDF5 file of the arrays conv2d/0 and conv2d/1, or what takes their place."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in {"0": KERNEL, "1": BIAS, **arrays}.items():
            if array is not None:
                file[f"layers/conv2d/vars/{name}"] = array
        fill(file)
    return buffer.getvalue()


def document(model: Any = None, meta: Any = None) -> str:
    return json.dumps({"model": {**config_to_dict(ModelConfig()), **(model or {})}, "meta": meta or {}})


def write(path: Path, weights: bytes | None = None, config: str | bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG_MEMBER, document() if config is None else config)
        archive.writestr(WEIGHTS_MEMBER, hdf5() if weights is None else weights)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    with WeightsArchive(path) as archive:
        return archive.open_arrays(KERNEL.size + BIAS.size).read(SHAPES)


def refused(path: str | Path) -> str:
    """The message; reading takes little memory and time."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            read(Path(path))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000 and time.monotonic() - start < 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000
    return message


def packed(data: bytes) -> Callable[[h5py.File], None]:
    """Puts `data`, deflated, into the one chunk of conv2d/0, as `model_file.save_model` stores it."""

    def fill(file: h5py.File) -> None:
        group = file.require_group("layers/conv2d/vars")
        made = group.create_dataset("0", KERNEL.shape, np.float32, chunks=KERNEL.shape, shuffle=True, compression=4)
        made.id.write_direct_chunk((0, 0), zlib.compress(data))

    return fill


PLANES = KERNEL.view(np.uint8).reshape(-1, 4).T.tobytes()


@pytest.mark.parametrize("weights", [hdf5(), hdf5(packed(PLANES), **{"0": None})])
def test_arrays_come_back_plain_and_packed(weights: bytes, tmp_path: Path) -> None:
    found = read(write(tmp_path / "any.suffix", weights))
    np.testing.assert_array_equal(found["conv2d/0"], KERNEL)
    np.testing.assert_array_equal(found["conv2d/1"], BIAS)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_a_chunk_is_decompressed_to_the_size_of_its_array_only() -> None:
    """100 kB, as a chunk of 2 MB may well take, that would grow to 100 MB."""
    with h5py.File(io.BytesIO(), "w") as file:
        made = file.create_dataset("a", (512, 1024), np.float32, chunks=(512, 1024), shuffle=True, compression=4)
        made.id.write_direct_chunk((0, 0), zlib.compress(MEBIBYTE * 100))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="stored in another way"):
                read_dataset(made, (512, 1024))
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_hdf5_packs_as_is_read_here() -> None:
    """The library's own shuffle and gzip, for the byte planes above."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        made = file.create_dataset("a", data=KERNEL, chunks=KERNEL.shape, shuffle=True, compression=4)
        assert zlib.decompress(made.id.read_direct_chunk((0, 0))[1]) == PLANES


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5", ".tflite", ""])
def test_the_format_is_told_by_content(suffix: str, tmp_path: Path) -> None:
    """An HDF5 file with a zip archive behind it is both for readers that go by the name."""
    path = write(tmp_path / "w.zip")
    both = tmp_path / f"w{suffix}"
    both.write_bytes(hdf5() + path.read_bytes())
    assert zipfile.is_zipfile(both) and h5py.is_hdf5(both)
    assert f"w{suffix}: an HDF5 file" in refused(both)
    both.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert f"w{suffix}: not a .keras file (found no zip archive)" in refused(both)
    assert read(path).keys() == SHAPES.keys()


def link_to(target: Any) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file["elsewhere"] = KERNEL
        file["layers/conv2d/vars/0"] = target

    return fill


def external(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/0", (5, 120), np.float32, external=[("/etc/hostname", 0, 2400)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((5, 120), np.float32)
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (5, 120))
    file.create_virtual_dataset("layers/conv2d/vars/0", layout)


def huge(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/0", (1 << 40,), np.float32)


def names_of_one_group(file: h5py.File) -> None:
    """180 kB in which 9,000,000 arrays have a name."""
    layers, variables = file["layers"], file["layers/conv2d/vars"]
    for number in range(3000):
        variables[f"n{number}"] = variables["1"]
        layers[f"again{number}"] = layers["conv2d"]


def many_layers(file: h5py.File) -> None:
    for number in range(3000):
        file[f"layers/again{number}"] = file["layers/conv2d"]


def many_chunks(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/0", data=KERNEL, chunks=(1, 120), compression=4, shuffle=True)


def other_filter(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/0", data=KERNEL, chunks=(5, 120), compression="lzf")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (hdf5(**{"1": None}), "array conv2d/1 is missing: 1 arrays, the network of its configuration has 2"),
        (hdf5(**{"2": BIAS}), "array conv2d/2 is unexpected"),
        (hdf5(**{"a\x1b[2J\n": BIAS}), r"array conv2d/a\x1b[2J\n is unexpected"),
        (hdf5(**{"1": KERNEL}), "array conv2d/1: found float32 [5, 120], expected float32 [3]"),
        (hdf5(**{"1": np.zeros(3)}), "array conv2d/1: found float64 [3], expected float32 [3]"),
        (hdf5(**{"1": np.array([0, np.nan, 0], np.float32)}), "array conv2d/1 holds values that are not finite"),
        (hdf5(lambda file: file.create_group("layers/conv2d/vars/0"), **{"0": None}), "no dataset 0 in"),
        (hdf5(huge, **{"0": None}), "found float32 [1099511627776], expected"),
        (hdf5(packed(MEBIBYTE * 100), **{"0": None}), "stored in another way than rf_keras does, or damaged"),
        (hdf5(packed(PLANES[:-1]), **{"0": None}), "stored in another way"),
        (hdf5(many_chunks, **{"0": None}), "stored in another way"),
        (hdf5(other_filter, **{"0": None}), "stored in another way"),
        (hdf5(external, **{"0": None}), "stored in another way"),
        (hdf5(virtual, **{"0": None}), "stored in another way"),
        (hdf5(link_to(h5py.ExternalLink("/etc/other.h5", "/x")), **{"0": None}), "no dataset 0 in"),
        (hdf5(link_to(h5py.SoftLink("/elsewhere")), **{"0": None}), "no dataset 0 in"),
        (b"\x89HDF\r\n\x1a\n" + b"\xff" * 200, "no readable weights inside"),
        (hdf5(names_of_one_group), "3001 layers or their arrays are more than 2000"),
        (hdf5(many_layers), "3001 layers or their arrays are more than 2000"),
        (hdf5()[:900], "no readable weights inside"),
        (b"", "no readable weights inside"),
    ],
)
def test_other_arrays_are_refused(weights: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(write(tmp_path / "w.keras", weights))


def grown(member: str, method: int, declared: int | None) -> bytes:
    """An archive whose member takes 100 MB, whatever it declares."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, text in ((CONFIG_MEMBER, document()), (WEIGHTS_MEMBER, "")):
            with archive.open(name, "w") as file:
                file.write(text.encode())
                for _ in range(100 if name == member else 0):
                    file.write(MEBIBYTE)
    data = bytearray(buffer.getvalue())
    if declared is not None:
        entry = data.index(member.encode(), data.index(b"PK\x01\x02")) - 46
        data[entry + 24 : entry + 28] = struct.pack("<I", declared)
    return bytes(data)


@pytest.mark.parametrize("declared", [None, 100])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("member", [CONFIG_MEMBER, WEIGHTS_MEMBER])
def test_members_that_grow_are_refused_in_little_memory(
    member: str, method: int, declared: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "w.keras"
    path.write_bytes(grown(member, method, declared))
    refused(path)


def test_a_long_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "w.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", "")
        archive.filelist *= 5000
    assert "15000 members or what looks like them, expected 1000 at most" in refused(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "no usable retinaface_config.json"),
        ("[]", "expected an object with model and meta"),
        ("[" * 100_000, "no usable"),
        (b"\xff\xfe", "no usable"),
        ('{"model": {"width": Infinity}, "meta": {}}', "found Infinity"),
        ('{"model": {"width": 1e999}, "meta": {}}', "model: width is 'inf', expected float"),
        (document({"width": True}), "model: width is 'True', expected float"),
        (document({"width": 1000}), "width is 1000, expected a number above 0, at most 2"),
        (document({"neck_channels": 10**9}), "neck_channels is 1000000000, expected 1 to 512"),
        (document({"ssh_channels": 10**400}), "ssh_channels is 1"),
        (document({"ssh_channels": 0}), "ssh_channels is 0, expected a multiple of 4 up to 512"),
        (
            document({"backbone": "plain", "blocks": [10**6, 0]}),
            "blocks is (1000000, 0), expected two counts of 0 to 32",
        ),
        (document({"blocks": [1]}), "model: blocks is '[1]', expected tuple[int, int]"),
        (document({"blocks": ["1", 1]}), "model: blocks is '1', expected int"),
        (document({"strides": [1, 2, 4]}), "strides are (1, 2, 4), expected (8, 16, 32)"),
        (document({"anchor_sizes": [[]] * 3}), "anchor_sizes are"),
        (document({"anchor_sizes": [[1.0] * 17] * 3}), "anchor_sizes are ((1.0, 1.0"),
        (document({"variances": [0, 1]}), "variances are (0, 1), expected two numbers above 0"),
        (document({"class_logits": 2.0}), "class_logits is '2.0', expected int"),
        (document({"antialias": 1}), "antialias is '1', expected bool"),
        (document({"backbone": "x" * 10**5}), "backbone is"),
        (document({"a\x1b[2J": 1}), r"unknown settings ['a\x1b[2J']"),
        (document(meta=[1]), "meta is list, expected an object"),
        (document(meta={"source": 3}), "source is 3, expected text"),
        (document(meta={"train": [1]}), "train is [1], expected an object"),
        (document(meta={"parts": {}, "ap": "x"}), "ap is x, expected an object"),
        (document(meta={"parts": [{"images": 1}]}), "parts: expected a list of objects with what, images"),
        (document(meta={"quantization": {"size": [1, 2]}}), "expected an object {"),
        (document(meta={"quantization": {"size": [1, 2], "ranges": {"a": [0, None]}}}), "expected an object {"),
        (document(meta={"quantization": {"size": [1.5, 2], "ranges": {}}}), "expected an object {"),
    ],
)
def test_other_configurations_are_refused(config: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(write(tmp_path / "w.keras", config=config))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert "not a regular file" in refused(path)
    assert "no such weights file" in refused(tmp_path / "absent\x1b.keras")
    assert refused("a\0b.keras").startswith(r"a\x00b.keras: ")
    (tmp_path / "empty").touch()
    assert "found no zip archive" in refused(tmp_path / "empty")
    whole = write(tmp_path / "w.keras").read_bytes()
    (tmp_path / "w.keras").write_bytes(whole[: len(whole) // 2])
    assert "not a readable .keras file (File is not a zip file)" in refused(tmp_path / "w.keras")


def test_no_graph_of_a_file_is_deserialized_anywhere(root: Path) -> None:
    """Weights come through `WeightsArchive`: none of the readers that build what a file says."""
    words = (
        r"models\.load_model\(|model_from_(json|yaml|config)|load_weights|saved_model\.load|allow_pickle|import pickle"
    )
    places = (root / "rf_keras", root / "quantization", root / "tflite", root / "benchmarks", root / "recipes")
    for path in (path for place in places for path in place.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(words, text), path
