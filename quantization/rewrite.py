"""Rewrites of a file that free it of its input's height and width, change its time and not one bit of its outputs.

The interpreter's own resize then makes any H×W of one file, as long as both are multiples of 32: convolutions infer
their shapes, and no constant that these rewrites leave behind holds a height or a width.

*Pairs of columns.* XNNPACK's kernels, by the names in its sources (`c8`, `c4`), multiply int8 channels in groups of
eight on x86 and on Arm with i8mm (four on Arm without), per position of the kernel. The image's three channels leave
most of a group empty, nine times over. Two pixels side by side are six channels, which is another view of the same
bytes, and a 3×3 kernel that moves by two pixels is then a 3×2 kernel that moves by one pair: six positions of six
channels. The added weights are 0, so every sum is what it was. The view's shape is computed from the image's; the
interpreters do that once, when they allocate.

*Enlargement by copies.* LiteRT 2.3.0 leaves RESIZE_NEAREST_NEIGHBOR out of what it gives to XNNPACK, which cuts the
network into three parts that run one by one, and the op's size is a constant. Four copies of each pixel as one pixel's
channels, laid out as a square, are the same enlargement by two.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from tflite.spec import FILE_IDENTIFIER


def builtin_of(code: Any) -> int:
    """Which builtin op (`schema.BuiltinOperator`) an op code means: old writers know only the deprecated field."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def rewrite(content: bytes) -> bytes:
    """A .tflite file (without appended metadata) with both rewrites where they fit, else as it is.

    Args:
        content: as TensorFlow's converter writes it. Pairs: its first two ops are a PAD of the image by one pixel on
            every side and a 3×3 CONV_2D of stride 2, as `backbones.conv_bn` makes them, both int8, and the image has
            even sides. Copies: each RESIZE_NEAREST_NEIGHBOR of int8 or float32 doubles both sides.

    Returns:
        A file with the same inputs and outputs, equal to the last bit.
    """
    editor = Editor(content)
    pair_columns(editor)
    enlarge_by_copies(editor)
    return editor.content()


class Editor:
    """The first subgraph of a .tflite file, to be changed in place (TensorFlow's object API)."""

    def __init__(self, content: bytes) -> None:
        from tensorflow.lite.python import schema_py_generated as schema

        self.schema: Any = schema
        self.model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph: Any = self.model.subgraphs[0]
        self._original, self.changed = content, False

    def content(self) -> bytes:
        """The file; the very bytes that were read where nothing was changed."""
        if not self.changed:
            return self._original
        builder = flatbuffers.Builder(len(self._original))
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def builtin(self, operation: Any) -> int:
        """Which builtin op it is (`schema.BuiltinOperator`)."""
        return builtin_of(self.model.operatorCodes[operation.opcodeIndex])

    def values(self, index: int, dtype: type) -> np.ndarray:
        """A constant tensor."""
        tensor = self.graph.tensors[index]
        return np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), dtype).reshape(tensor.shape)

    def constant(self, name: str, values: Any) -> int:
        """A new int32 constant; its index."""
        array, buffer = np.asarray(values, np.int32), self.schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return self._add(name, array.shape, self.schema.TensorType.INT32, None, len(self.model.buffers) - 1)

    def tensor(self, name: str, shape: tuple[int, ...], like: Any = None) -> int:
        """A new tensor with the type and scale of another, or of type int32; its index."""
        kind, quantization = (self.schema.TensorType.INT32, None) if like is None else (like.type, like.quantization)
        return self._add(name, shape, kind, quantization, 0)

    def _add(self, name: str, shape: tuple[int, ...], kind: int, quantization: Any, buffer: int) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array(shape, np.int32), buffer
        tensor.type, tensor.quantization = kind, quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operation(self, name: str, version: int, inputs: list[int], target: int, **options: Any) -> Any:
        """A new op.

        Args:
            name: as in `schema.BuiltinOperator`, e.g. "DEPTH_TO_SPACE".
            version: of its kernel.
            inputs, target: indices of its input tensors and of its output.
            options: fields of the schema's options of this op.
        """
        kind = "".join(part.capitalize() for part in name.split("_")) + "Options"
        operation = self.schema.OperatorT()
        operation.opcodeIndex = self._opcode(getattr(self.schema.BuiltinOperator, name), version)
        operation.inputs, operation.outputs = np.array(inputs, np.int32), np.array([target], np.int32)
        operation.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
        operation.builtinOptions = getattr(self.schema, f"{kind}T")()
        for field, value in options.items():
            setattr(operation.builtinOptions, field, value)
        return operation

    def _opcode(self, builtin: int, version: int) -> int:
        """Index of an op's code, added where the file has none."""
        for index, code in enumerate(self.model.operatorCodes):
            if builtin_of(code) == builtin and code.version >= version:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


def pair_columns(editor: Editor) -> None:
    """The first conv reads pairs of columns: RESHAPE [1, H, W, C] → [1, H, W/2, 2C], PAD of one row above and one pair
    on the left, CONV_2D of 3×2 with stride 2×1. The RESHAPE's shape is the image's own (1, H), then −1 and 2C."""
    graph, schema = editor.graph, editor.schema
    if [editor.builtin(op) for op in graph.operators[:2]] != [
        schema.BuiltinOperator.PAD,
        schema.BuiltinOperator.CONV_2D,
    ]:
        return
    pad, conv = graph.operators[:2]
    image, padded, kernel = (graph.tensors[i] for i in (pad.inputs[0], pad.outputs[0], conv.inputs[1]))
    _, height, width, channels = (int(side) for side in image.shape)
    options = conv.builtinOptions
    if (
        editor.values(pad.inputs[1], np.int32).tolist() != [[0, 0], [1, 1], [1, 1], [0, 0]]
        or {image.type, kernel.type} != {schema.TensorType.INT8}
        or tuple(kernel.shape[1:3]) != (3, 3)
        or (options.strideH, options.strideW, options.padding) != (2, 2, schema.Padding.VALID)
        or height % 2
        or width % 2
    ):
        return
    source = int(pad.inputs[0])
    pairs = editor.tensor("image_pairs", (1, height, width // 2, 2 * channels), image)
    graph.operators[:0] = view_of_pairs(editor, source, pairs, 2 * channels)
    margins = editor.constant("image_pairs/margins", [[0, 0], [1, 0], [1, 0], [0, 0]])
    pad.inputs = np.array([pairs, margins], np.int32)
    # Another name: `layer_error` compares tensors with the float network's by their names.
    padded.name, padded.shape = b"image_pairs/padded", np.array([1, height + 1, width // 2 + 1, 2 * channels], np.int32)
    paired = paired_kernel(editor.values(conv.inputs[1], np.int8))
    editor.model.buffers[kernel.buffer].data = np.frombuffer(paired.tobytes(), np.uint8)
    kernel.shape = np.array(paired.shape, np.int32)
    options.strideW = 1
    editor.changed = True


def view_of_pairs(editor: Editor, image: int, pairs: int, channels: int) -> list[Any]:
    """Ops that view `image` [1, H, W, C] as `pairs` [1, H, W/2, channels] for any H and even W: the image's SHAPE gives
    RESHAPE the 1 and the H, what else it needs is constant: −1 and the channels."""
    shape, rows, target = (
        editor.tensor(name, (length,))
        for name, length in (("image_shape", 4), ("image_shape/rows", 2), ("image_pairs/shape", 4))
    )
    span = [editor.constant(f"image_shape/{name}", [i]) for name, i in (("begin", 0), ("end", 2), ("step", 1))]
    rest = editor.constant("image_pairs/rest", [-1, channels])
    return [
        editor.operation("SHAPE", 1, [image], shape, outType=editor.schema.TensorType.INT32),
        editor.operation("STRIDED_SLICE", 1, [shape, *span], rows),
        editor.operation("CONCATENATION", 1, [rows, rest], target),
        editor.operation("RESHAPE", 1, [image, target], pairs),
    ]


def paired_kernel(kernel: np.ndarray) -> np.ndarray:
    """[N, 3, 3, C] → [N, 3, 2, 2C]: of columns −1, 0 and 1 about pixel 2x, −1 is the right half of pair x − 1, whose
    left half counts nothing, and 0 and 1 are pair x."""
    columns = np.pad(kernel, ((0, 0), (0, 0), (1, 0), (0, 0)))  # [N, 3, 4, C]
    return columns.reshape(*kernel.shape[:2], 2, 2 * kernel.shape[3])


def enlarge_by_copies(editor: Editor) -> None:
    """Each RESIZE_NEAREST_NEIGHBOR [1, H, W, C] → [1, 2H, 2W, C] becomes a CONCATENATION of four copies along the
    channels, and a DEPTH_TO_SPACE of blocks of 2×2."""
    graph, operators = editor.graph, []
    for operation in graph.operators:
        source, target = int(operation.inputs[0]), int(operation.outputs[0])
        small, large = graph.tensors[source], graph.tensors[target]
        if (
            editor.builtin(operation) != editor.schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
            or small.type not in (editor.schema.TensorType.INT8, editor.schema.TensorType.FLOAT32)
            or tuple(large.shape[1:3]) != (2 * small.shape[1], 2 * small.shape[2])
        ):
            operators.append(operation)
            continue
        _, height, width, channels = (int(side) for side in small.shape)
        copies = editor.tensor(f"{large.name.decode()}/copies", (1, height, width, 4 * channels), small)
        operators += [
            editor.operation("CONCATENATION", 2, [source] * 4, copies, axis=3),
            editor.operation("DEPTH_TO_SPACE", 1, [copies], target, blockSize=2),
        ]
        editor.changed = True
    graph.operators = operators
