"""Rewrites of an int8 file: the same sums, the same file from outside, and other files left alone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from quantization import export
from quantization.export import to_tflite
from quantization.graph import FoldedNetwork
from quantization.rewrite import Editor, builtin_of, pair_columns, paired_kernel, repeat_by_concatenation, rewrite
from quantization.tflite_graph import read_graph
from quantization.verify import FileRunner
from tflite.spec import ModelSpec

from .conftest import SIZE

MEAN = ModelSpec.mean


def test_kernel_by_hand() -> None:
    kernel = np.arange(1, 10, dtype=np.int8).reshape(1, 3, 3, 1)  # rows 1 2 3, 4 5 6, 7 8 9
    expected = [[[0, 1], [2, 3]], [[0, 4], [5, 6]], [[0, 7], [8, 9]]]  # row, pair, half
    np.testing.assert_array_equal(paired_kernel(kernel), [expected])


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 5).map(lambda half: 2 * half),
    width=st.integers(1, 5).map(lambda half: 2 * half),
    channels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_same_sums(height: int, width: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(-128, 128, (1, height, width, channels)).astype(np.float32)
    kernel = rng.integers(-127, 128, (5, 3, 3, channels)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = tf.nn.conv2d(padded, kernel.transpose(1, 2, 3, 0), [1, 2, 2, 1], "VALID")
    pairs = np.pad(image.reshape(1, height, width // 2, 2 * channels), ((0, 0), (1, 0), (1, 0), (0, 0)))
    found = tf.nn.conv2d(pairs, paired_kernel(kernel).transpose(1, 2, 3, 0), [1, 2, 1, 1], "VALID")
    np.testing.assert_array_equal(found, expected)  # whole numbers below 2²⁴: exact in float32


@pytest.fixture(scope="module")
def original(simulated: keras.Model, folded: FoldedNetwork) -> bytes:
    """The file as TensorFlow's converter leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "rewrite", lambda content: content)
        return to_tflite(simulated, folded.config, "int8")


def rewritten(original: bytes, change: Callable[[Editor], None]) -> bytes:
    editor = Editor(original)
    change(editor)
    return editor.content()


def test_the_same_file_from_outside(original: bytes, int8_file: bytes, images: np.ndarray) -> None:
    paired, joined = (rewritten(original, change) for change in (pair_columns, repeat_by_concatenation))
    names = [op.name for op in read_graph(original).operations]
    enlarged = ["CONCATENATION", "CONCATENATION", "RESHAPE"]
    in_their_place = [enlarged if name == "RESIZE_NEAREST_NEIGHBOR" else [name] for name in names]
    assert [op.name for op in read_graph(paired).operations] == ["RESHAPE", *names]
    assert [op.name for op in read_graph(joined).operations] == [name for part in in_their_place for name in part]
    graph = read_graph(paired)
    assert graph.tensors[graph.operations[2].inputs[1]].shape[1:] == (3, 2, 6)

    expected = [FileRunner(original, MEAN)(image) for image in images[:4]]
    assert len(np.unique(expected[0]["box_8"])) > 10, "it does say something"
    for content in (paired, joined, int8_file):
        runner = FileRunner(content, MEAN)
        for image, values in zip(images, expected, strict=False):
            found = runner(image)
            assert list(found) == list(values)
            for name in values:
                np.testing.assert_array_equal(found[name], values[name], err_msg=name)


def test_xnnpack_runs_it_in_one_part(original: bytes, int8_file: bytes) -> None:
    def parts(content: bytes) -> int:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())

    assert (parts(original), parts(int8_file)) == (3, 1)


def test_other_files_are_left_alone(original: bytes, int8_file: bytes, folded: FoldedNetwork) -> None:
    assert rewrite(original) == int8_file
    assert rewrite(int8_file) == int8_file, "there is nothing left to do"
    in_float = to_tflite(folded.model, folded.config, "fp32")
    assert rewrite(in_float) == in_float
    assert {"RESHAPE", "RESIZE_NEAREST_NEIGHBOR"} & set(read_graph(in_float).op_counts()) == {"RESIZE_NEAREST_NEIGHBOR"}


def changed(array: np.ndarray, at: int, value: int) -> np.ndarray:
    """A copy, as what the file holds is read-only."""
    copy = array.copy()
    copy[at] = value
    return copy


def odd_width(editor: Editor) -> None:
    image = editor.graph.tensors[editor.graph.inputs[0]]
    image.shape = changed(image.shape, 2, SIZE - 1)


def odd_height(editor: Editor) -> None:
    image = editor.graph.tensors[editor.graph.inputs[0]]
    image.shape = changed(image.shape, 1, SIZE - 1)


def another_row_stride(editor: Editor) -> None:
    editor.graph.operators[1].builtinOptions.strideH = 1


def another_column_stride(editor: Editor) -> None:
    editor.graph.operators[1].builtinOptions.strideW = 1


def another_padding(editor: Editor) -> None:
    editor.graph.operators[1].builtinOptions.padding = editor.schema.Padding.SAME


def higher_kernel(editor: Editor) -> None:
    kernel = editor.graph.tensors[editor.graph.operators[1].inputs[1]]
    kernel.shape = changed(kernel.shape, 1, 5)


def wider_kernel(editor: Editor) -> None:
    kernel = editor.graph.tensors[editor.graph.operators[1].inputs[1]]
    kernel.shape = changed(kernel.shape, 2, 5)


def another_type(editor: Editor) -> None:
    editor.graph.tensors[editor.graph.inputs[0]].type = editor.schema.TensorType.UINT8


def another_first_op(editor: Editor) -> None:
    del editor.graph.operators[0]


def another_margin(editor: Editor) -> None:
    pad = editor.graph.operators[0]
    pad.inputs = changed(pad.inputs, 1, editor.constant("margins", [[0, 0], [0, 1], [0, 1], [0, 0]]))


OTHER_FIRST_CONVS = [
    *(odd_width, odd_height, another_row_stride, another_column_stride, another_padding),
    *(higher_kernel, wider_kernel, another_type, another_first_op, another_margin),
]


@pytest.mark.parametrize("change", OTHER_FIRST_CONVS)
def test_other_first_convs_are_left_alone(change: Callable[[Editor], None], original: bytes) -> None:
    editor = Editor(original)
    change(editor)
    pair_columns(editor)
    assert not editor.changed and editor.content() == original


@pytest.mark.parametrize("side", [1, 2])
def test_other_enlargements_are_left_alone(original: bytes, side: int) -> None:
    editor = Editor(original)
    for operation in editor.graph.operators:
        if editor.builtin(operation) == editor.schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR:
            large = editor.graph.tensors[operation.outputs[0]]
            large.shape = changed(large.shape, side, large.shape[side] + 1)
    repeat_by_concatenation(editor)
    assert not editor.changed


def test_op_codes_of_old_and_new_writers() -> None:
    """Codes above 127 stand in the new field alone, behind a placeholder; old writers know only the deprecated one."""
    assert builtin_of(SimpleNamespace(builtinCode=0, deprecatedBuiltinCode=34)) == 34
    assert builtin_of(SimpleNamespace(builtinCode=150, deprecatedBuiltinCode=127)) == 150


def test_an_op_code_too_old_for_int8_is_not_used(original: bytes) -> None:
    editor = Editor(original)
    for code in editor.model.operatorCodes:
        if builtin_of(code) == editor.schema.BuiltinOperator.CONCATENATION:
            code.version = 1
    added = editor.model.operatorCodes[editor.concatenation([0, 0], 1, axis=3).opcodeIndex]
    assert (builtin_of(added), added.version) == (editor.schema.BuiltinOperator.CONCATENATION, 2)
