from __future__ import annotations

import dataclasses
import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tflite.spec import SPEC_FILE, ModelSpec, SpecError, attach_spec, read_spec, spec_from_json

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(200))
SPEC = ModelSpec(320, 640, anchor_sizes=((10, 20), (32, 64), (128, 256)), ap={"float": {"easy": 90.1}}, source="tests")


def as_json(**changes: Any) -> str:
    return json.dumps(dataclasses.asdict(SPEC) | changes)


def test_round_trip(tmp_path: Path) -> None:
    data = attach_spec(FLATBUFFER, SPEC)
    assert read_spec(data) == SPEC
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    assert read_spec(path) == read_spec(str(path)) == SPEC


def test_the_model_stays_in_front_and_the_zip_opens() -> None:
    data = attach_spec(FLATBUFFER, SPEC)
    assert data.startswith(FLATBUFFER)
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == [SPEC_FILE]
    assert attach_spec(FLATBUFFER, SPEC) == data  # same input, same bytes


def test_the_entry_is_stored_with_a_fixed_date() -> None:
    """Another day's export has the same bytes, and a reader needs no inflate."""
    (entry,) = zipfile.ZipFile(io.BytesIO(attach_spec(FLATBUFFER, SPEC))).infolist()
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert entry.compress_type == zipfile.ZIP_STORED


def test_the_largest_values_are_read() -> None:
    most = {
        "input_height": 8192,
        "mean": [0, 255, 0.5],
        "strides": [1, 2, 4, 8, 16, 32, 64, 256],
        "anchor_sizes": [[8192] * 16] * 8,
        "variances": [10, 1e-3],
        "max_faces": 1_000_000,
    }
    spec = spec_from_json(as_json(**most), "m")
    assert (spec.input_height, spec.max_faces, spec.strides[-1]) == (8192, 1_000_000, 256)


def test_antialias_is_written_only_where_it_is_set() -> None:
    """Files without it stay those of earlier exports, and are read as before."""

    def contents(data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(zipfile.ZipFile(io.BytesIO(data)).read(SPEC_FILE))
        return found

    without = attach_spec(FLATBUFFER, SPEC)
    assert "antialias" not in contents(without) and read_spec(without).antialias is False
    spec = dataclasses.replace(SPEC, antialias=True)
    assert contents(attach_spec(FLATBUFFER, spec))["antialias"] is True
    assert read_spec(attach_spec(FLATBUFFER, spec)) == spec


def test_a_spec_that_could_not_be_read_is_not_attached() -> None:
    with pytest.raises(SpecError, match=r"new model: .*input_height is 100"):
        attach_spec(FLATBUFFER, ModelSpec(input_height=100))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version is 2, this runtime reads 1"),
        ({"format_version": True}, "format_version is True"),
        ({"format_version": 1.0}, r"format_version is 1\.0"),
        ({"another": 1}, r"unknown: \['another'\]"),
        ({"input_height": 100}, "input_height is 100, expected a multiple of 32"),
        ({"input_height": 656}, "input_height is 656, expected a multiple of 32"),
        ({"input_width": "640"}, "input_width is '640'"),
        ({"input_width": True}, "input_width is True"),
        ({"input_width": 16384}, "up to 8192"),
        ({"color_order": "RGB"}, "color_order is 'RGB', expected 'BGR'"),
        ({"mean": [1, 2]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, 3, 4]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, -1]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, True]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, 256]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, float("nan")]}, "expected 3 numbers in 0-255"),
        ({"mean": [1, 2, 10**400]}, "expected 3 numbers in 0-255"),
        ({"strides": [16, 8, 32]}, "expected increasing whole numbers"),
        ({"strides": []}, "expected increasing whole numbers"),
        ({"strides": [8, 16, 16]}, "expected increasing whole numbers"),
        ({"strides": [8, 16, 257]}, "expected increasing whole numbers"),
        ({"strides": [*range(8, 80, 8)], "anchor_sizes": [[16]] * 9}, "expected increasing whole numbers"),
        ({"strides": [8, 16]}, "anchor_sizes"),
        ({"anchor_sizes": [[16, 0], [1], [1]]}, "anchor_sizes"),
        ({"anchor_sizes": [[], [1], [1]]}, "anchor_sizes"),
        ({"anchor_sizes": [[16] * 17, [1], [1]]}, "anchor_sizes"),
        ({"anchor_sizes": [[8193], [1], [1]]}, "anchor_sizes"),
        ({"anchor_sizes": [16, 32, 64]}, "anchor_sizes"),
        ({"variances": [0.1]}, "expected 2 positive numbers"),
        ({"variances": [0.1, 0.2, 0.3]}, "expected 2 positive numbers"),
        ({"variances": [0.1, 0]}, "expected 2 positive numbers"),
        ({"variances": [0.1, 11]}, "expected 2 positive numbers"),
        ({"variances": [0.1, float("inf")]}, "expected 2 positive numbers"),
        ({"landmark_names": ["nose"]}, "landmark_names are not"),
        ({"score_threshold": 0}, r"score_threshold is 0, expected a number in \(0, 1\)"),
        ({"score_threshold": 1}, "score_threshold is 1, expected"),
        ({"iou_threshold": None}, "iou_threshold is None"),
        ({"max_candidates": 0}, "max_candidates is 0"),
        ({"max_candidates": 1_000_001}, "max_candidates is 1000001"),
        ({"max_faces": 1.5}, "max_faces is 1.5"),
        ({"max_faces": True}, "max_faces is True"),
        ({"antialias": 1}, "antialias is 1, expected true or false"),
        ({"antialias": None}, "antialias is None, expected true or false"),
        ({"ap": []}, r"ap is \[\], expected an object"),
        ({"source": 3}, "source is 3, expected text"),
        ({"quantization": None}, "quantization is None, expected text"),
    ],
)
def test_invalid_fields(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        spec_from_json(as_json(**changes), "m.tflite")
    assert str(caught.value).startswith("m.tflite: retinaface.json: ")
    assert "\n" not in str(caught.value)


def test_missing_fields() -> None:
    data = json.loads(as_json())
    del data["mean"]
    with pytest.raises(SpecError, match=r"fields missing: \['mean'\]"):
        spec_from_json(json.dumps(data), "m")


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "[" * 100_000, "1" * 5000])
def test_not_the_expected_json(text: str) -> None:
    with pytest.raises(SpecError, match=r"^m: retinaface\.json"):
        spec_from_json(text, "m")


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a TFLite model"),
        (b"PK\x03\x04", "not a TFLite model"),
        (FLATBUFFER, "no readable retinaface.json"),
        (attach_spec(FLATBUFFER, SPEC)[:-30], "no readable retinaface.json"),
        (archive("labels.txt", b"face"), "no readable retinaface.json"),
        (archive(SPEC_FILE, b"\xff\xfe"), "no readable retinaface.json"),
        (archive(SPEC_FILE, b" " * (1 << 21)), "larger than 1048576 bytes"),
    ],
)
def test_files_without_usable_metadata(data: bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_spec(data, "m.tflite")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.tflite: cannot read the model \(No such file"):
        read_spec(tmp_path / "none.tflite")


def test_long_values_and_control_characters_stay_out_of_the_message() -> None:
    with pytest.raises(SpecError, match=r"color_order is .*expected 'BGR'") as caught:
        spec_from_json(as_json(color_order="x" * 900_000), "m")
    assert len(str(caught.value)) < 400
    with pytest.raises(SpecError) as caught:
        spec_from_json(as_json(**{"a\x1b[2J": 1}), "m")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_small_archive_that_grows_is_refused_in_little_memory(method: int) -> None:
    """The declared size says 100 bytes; what is inside would take 300 MB."""
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a", method) as file, file.open(SPEC_FILE, "w") as entry:
        for _ in range(300):
            entry.write(b" " * (1 << 20))
    data = bytearray(buffer.getvalue())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 100)
    tracemalloc.start()
    try:
        with pytest.raises(SpecError):
            read_spec(bytes(data), "m.tflite")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_long_directory_is_refused_before_it_is_read() -> None:
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(SPEC_FILE, as_json())
        file.filelist *= 20_000
    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match=r"m\.tflite: no readable retinaface\.json"):
            read_spec(buffer.getvalue(), "m.tflite")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(buffer.getvalue()) + 5_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_regular_file_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SpecError, match="not a regular file"):
            read_spec(path)
    with pytest.raises(SpecError, match=r"cannot read the model \(Is a directory\)"):
        read_spec(tmp_path)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SpecError, match=r"expected a \.tflite file of at most"):
        read_spec(tmp_path / "sparse")
    with pytest.raises(SpecError, match=r"cannot read the model \(embedded null byte\)"):
        read_spec("a\0b")
