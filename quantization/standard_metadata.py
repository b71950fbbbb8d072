"""TFLite's own model metadata (the buffer TFLITE_METADATA), for Netron and for tflite_support's reader.

Name, licence and the input's normalization for people and tools; what a runtime goes by is `retinaface.json`.

Source: metadata_schema.fbs of tflite-support 0.4 (Apache-2.0); the numbers below are its field numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from quantization.rewrite import Editor
from tflite.spec import ModelSpec

BUFFER_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# Field numbers.
MODEL_NAME, MODEL_DESCRIPTION, MODEL_SUBGRAPHS, MODEL_LICENSE, MODEL_FIELDS = 0, 1, 3, 5, 8
SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS, SUBGRAPH_FIELDS = 2, 3, 10
TENSOR_NAME, TENSOR_DESCRIPTION, TENSOR_CONTENT, TENSOR_UNITS, TENSOR_FIELDS = 0, 1, 3, 4, 7
CONTENT_TYPE, CONTENT_PROPERTIES, CONTENT_FIELDS, FEATURE, IMAGE = 0, 1, 3, 1, 2
IMAGE_SIZE, IMAGE_FIELDS, SIZE_WIDTH, SIZE_HEIGHT, SIZE_FIELDS = 1, 2, 0, 1, 2
UNIT_TYPE, UNIT_OPTIONS, UNIT_FIELDS, NORMALIZATION = 0, 1, 2, 1
NORMALIZATION_MEAN, NORMALIZATION_STD, NORMALIZATION_FIELDS = 0, 1, 2

DESCRIPTIONS = {
    "score": "one logit an anchor: face minus background; probability = sigmoid",
    "box": "4 deltas an anchor: centre x and y, log of width and height, in anchor units",
    "landmark": "10 deltas an anchor: x and y of left eye, right eye, nose, left and right mouth corner",
    "mesh": "coefficients an anchor, of the shapes in mesh.f16",
}


class _Writer:
    """A flatbuffer written bottom up: children before the tables that hold them."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def text(self, text: str) -> int:
        return int(self.builder.CreateString(text))

    def vector(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def floats(self, values: Sequence[float]) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def table(
        self,
        fields: int,
        children: dict[int, int],
        types: dict[int, int] | None = None,
        numbers: dict[int, int] | None = None,
    ) -> int:
        """A table; `children`, `types` (bytes) and `numbers` (uint32) by field number."""
        self.builder.StartObject(fields)
        for field, offset in children.items():
            self.builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, number in (numbers or {}).items():
            self.builder.PrependUint32Slot(field, number, 0)
        for field, number in (types or {}).items():
            self.builder.PrependUint8Slot(field, number, 0)
        return int(self.builder.EndObject())

    def tensor(self, name: str, description: str, kind: int, properties: int, units: Sequence[int] = ()) -> int:
        content = self.table(CONTENT_FIELDS, {CONTENT_PROPERTIES: properties}, {CONTENT_TYPE: kind})
        children = {TENSOR_NAME: self.text(name), TENSOR_DESCRIPTION: self.text(description), TENSOR_CONTENT: content}
        if units:
            children[TENSOR_UNITS] = self.vector(units)
        return self.table(TENSOR_FIELDS, children)


def metadata_buffer(spec: ModelSpec, outputs: Sequence[str], name: str, licence: str) -> bytes:
    """The metadata's own flatbuffer.

    Args:
        spec: of the file.
        outputs: names of the outputs in the graph's order, e.g. "score_8".
        name: of the model.
        licence: of the weights; "" where it is not known: then the field is absent.
    """
    writer = _Writer()
    size = writer.table(SIZE_FIELDS, {}, numbers={SIZE_WIDTH: spec.input_width, SIZE_HEIGHT: spec.input_height})
    normalization = {NORMALIZATION_MEAN: writer.floats(spec.mean), NORMALIZATION_STD: writer.floats([1.0] * 3)}
    unit = writer.table(
        UNIT_FIELDS,
        {UNIT_OPTIONS: writer.table(NORMALIZATION_FIELDS, normalization)},
        {UNIT_TYPE: NORMALIZATION},
    )
    # The format knows RGB and grey only, so the colour space stays unknown and the description says the order.
    image = writer.tensor(
        "image",
        f"{spec.color_order}, 0-255, letterboxed to the top left; the mean is in the same order",
        IMAGE,
        writer.table(IMAGE_FIELDS, {IMAGE_SIZE: size}),
        [unit],
    )
    described = [
        writer.tensor(output, DESCRIPTIONS[output.partition("_")[0]], FEATURE, writer.table(0, {}))
        for output in outputs
    ]
    subgraph = writer.table(
        SUBGRAPH_FIELDS, {SUBGRAPH_INPUTS: writer.vector([image]), SUBGRAPH_OUTPUTS: writer.vector(described)}
    )
    fields = {
        MODEL_NAME: writer.text(name),
        MODEL_DESCRIPTION: writer.text(f"RetinaFace: faces with five landmarks. Weights: {spec.source}"),
        MODEL_SUBGRAPHS: writer.vector([subgraph]),
    }
    if licence:
        fields[MODEL_LICENSE] = writer.text(licence)
    writer.builder.Finish(writer.table(MODEL_FIELDS, fields), IDENTIFIER)
    return bytes(writer.builder.Output())


def add_standard_metadata(content: bytes, spec: ModelSpec, licence: str = "") -> bytes:
    """A .tflite flatbuffer with the metadata buffer in it; same input, same bytes.

    Args:
        content: the flatbuffer, before `tflite.spec.attach_spec`. Metadata it has already is replaced.
        spec: what will be attached.
        licence: of the weights, as far as known.
    """
    editor = Editor(content)
    model: Any = editor.model
    names = {int(item.tensorIndex): item.name for item in model.signatureDefs[0].outputs}
    outputs = [_plain(names[int(index)]) for index in editor.graph.outputs]
    name = f"RetinaFace {spec.input_width}×{spec.input_height} {spec.quantization}"
    buffer = editor.schema.BufferT()
    buffer.data = np.frombuffer(metadata_buffer(spec, outputs, name, licence), np.uint8)
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if _plain(entry.name) == BUFFER_NAME:
            model.buffers[entry.buffer] = buffer
            break
    else:
        entry = editor.schema.MetadataT()
        entry.name, entry.buffer = BUFFER_NAME, len(model.buffers)
        model.metadata.append(entry)
        model.buffers.append(buffer)
    editor.changed = True
    return editor.content()


def _plain(text: bytes | str) -> str:
    return text.decode() if isinstance(text, bytes) else text
