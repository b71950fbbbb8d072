"""The metadata buffer, read back field by field; the numbers are those of metadata_schema.fbs."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from quantization import recipe
from quantization.standard_metadata import add_standard_metadata
from tests.tflite.conftest import photo
from tflite.detector import FaceDetector
from tflite.shipped import find_model
from tflite.spec import ModelSpec, attach_spec, read_spec

FILE = find_model("mnet025_320")


class Table:
    """A table of any flatbuffer, by field number."""

    def __init__(self, data: bytes, position: int) -> None:
        self.table = flatbuffers.table.Table(data, position)

    @classmethod
    def root(cls, data: bytes) -> Table:
        return cls(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))

    def has(self, field: int) -> bool:
        return bool(self.table.Offset(4 + 2 * field))

    def _at(self, field: int) -> int:
        return int(self.table.Offset(4 + 2 * field))

    def text(self, field: int) -> str:
        found: bytes = self.table.String(self._at(field) + self.table.Pos)
        return found.decode()

    def child(self, field: int) -> Table:
        return Table(self.table.Bytes, self.table.Indirect(self._at(field) + self.table.Pos))

    def children(self, field: int) -> list[Table]:
        start, count = self.table.Vector(self._at(field)), self.table.VectorLen(self._at(field))
        return [Table(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def floats(self, field: int) -> list[float]:
        found: Any = self.table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, self._at(field))
        return list(found.tolist())

    def number(self, field: int, flags: Any) -> int:
        return int(self.table.Get(flags, self._at(field) + self.table.Pos))


@pytest.fixture(scope="module")
def flatbuffer() -> bytes:
    data = FILE.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return data[: archive.infolist()[0].header_offset]


def buffers(content: bytes) -> list[bytes]:
    model = schema.Model.GetRootAs(content, 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    wanted = [entry.Buffer() for entry in entries if entry.Name() == b"TFLITE_METADATA"]
    return [model.Buffers(index).DataAsNumpy().tobytes() for index in wanted]


def test_name_licence_and_normalization(flatbuffer: bytes) -> None:
    spec = read_spec(FILE)
    content = add_standard_metadata(flatbuffer, spec, "MIT")
    (data,) = buffers(content)
    assert data[4:8] == b"M001"
    model = Table.root(data)
    assert model.text(0) == "RetinaFace 320×320 int8-qat" and spec.source in model.text(1) and model.text(5) == "MIT"
    (graph,) = model.children(3)
    (image,) = graph.children(2)
    assert image.text(0) == "image" and image.text(1).startswith("BGR, 0-255")
    size = image.child(3).child(1).child(1)
    assert [size.number(i, flatbuffers.number_types.Uint32Flags) for i in (0, 1)] == [320, 320]
    (unit,) = image.children(4)
    assert unit.number(0, flatbuffers.number_types.Uint8Flags) == 1  # NormalizationOptions
    assert unit.child(1).floats(0) == [104, 117, 123] and unit.child(1).floats(1) == [1, 1, 1]
    found = schema.Model.GetRootAs(content, 0)
    names = {
        found.SignatureDefs(0).Outputs(i).TensorIndex(): found.SignatureDefs(0).Outputs(i).Name().decode()
        for i in range(9)
    }
    assert [tensor.text(0) for tensor in graph.children(3)] == [
        names[int(index)] for index in found.Subgraphs(0).OutputsAsNumpy()
    ]


def test_without_a_known_licence_there_is_none(flatbuffer: bytes) -> None:
    (data,) = buffers(add_standard_metadata(flatbuffer, ModelSpec(input_height=320, input_width=480)))
    assert not Table.root(data).has(5)
    size = Table.root(data).children(3)[0].children(2)[0].child(3).child(1).child(1)
    assert [size.number(i, flatbuffers.number_types.Uint32Flags) for i in (0, 1)] == [480, 320]  # width first


def test_the_model_stays_as_it_is(flatbuffer: bytes) -> None:
    spec = read_spec(FILE)
    content = add_standard_metadata(flatbuffer, spec, "MIT")
    assert content == add_standard_metadata(flatbuffer, spec, "MIT")
    assert len(buffers(add_standard_metadata(content, spec, "another"))) == 1
    image = np.ascontiguousarray(photo(320, 320))
    with FaceDetector(FILE, 1) as before, FaceDetector(attach_spec(content, spec), 1) as after:
        assert len(before.detect(image, 0.001)) > 0
        assert after.spec == before.spec and after.detect(image, 0.001) == before.detect(image, 0.001)


def test_int8_files_carry_it(flatbuffer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export_int8` with the converter left out: it describes what it was given."""
    monkeypatch.setattr(recipe, "simulate", lambda *_, **__: None)
    monkeypatch.setattr(recipe, "to_tflite", lambda *_: flatbuffer)
    network = SimpleNamespace(config=None)
    int8 = SimpleNamespace(network=network, ranges=None, depthwise_per_tensor=False)
    spec = read_spec(FILE)
    content, _ = recipe.export_int8(int8, spec, "MIT")  # type: ignore[arg-type]
    assert read_spec(content) == spec
    assert content == attach_spec(add_standard_metadata(flatbuffer, spec, "MIT"), spec)
