"""Rewrites of a file: the same sums, the same file from outside, at every shape, and other files left alone."""

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
from quantization.rewrite import Editor, builtin_of, enlarge_by_copies, pair_columns, paired_kernel, rewrite
from quantization.simulate import Ranges, simulate
from quantization.tflite_graph import read_graph
from quantization.verify import FileRunner
from rf_keras.config import ModelConfig
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


def unchanged(model: keras.Model, config: ModelConfig, kind: str) -> bytes:
    """The file as TensorFlow's converter leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "rewrite", lambda content: content)
        return to_tflite(model, config, kind)


@pytest.fixture(scope="module")
def original(simulated: keras.Model, folded: FoldedNetwork) -> bytes:
    return unchanged(simulated, folded.config, "int8")


@pytest.fixture(scope="module")
def original_float(folded: FoldedNetwork) -> bytes:
    return unchanged(folded.model, folded.config, "fp32")


def rewritten(original: bytes, change: Callable[[Editor], None]) -> bytes:
    editor = Editor(original)
    change(editor)
    return editor.content()


def outputs(content: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    """Raw outputs for an input [1, H, W, 3] of any H and W, which the interpreter is resized to."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, image)
    interpreter.invoke()
    details = interpreter.get_signature_runner().get_output_details()
    return {name: interpreter.get_tensor(one["index"]) for name, one in details.items()}


def assert_same_outputs(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert len(np.unique(expected["box_8"])) > 10, "it does say something"
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_same_file_from_outside(original: bytes, int8_file: bytes, images: np.ndarray) -> None:
    paired, enlarged = (rewritten(original, change) for change in (pair_columns, enlarge_by_copies))
    names = [op.name for op in read_graph(original).operations]
    copies = ["CONCATENATION", "DEPTH_TO_SPACE"]
    in_their_place = [copies if name == "RESIZE_NEAREST_NEIGHBOR" else [name] for name in names]
    view = ["SHAPE", "STRIDED_SLICE", "CONCATENATION", "RESHAPE"]
    assert [op.name for op in read_graph(paired).operations] == [*view, *names]
    assert [op.name for op in read_graph(enlarged).operations] == [name for part in in_their_place for name in part]
    graph = read_graph(paired)
    assert graph.tensors[graph.operations[len(view) + 1].inputs[1]].shape[1:] == (3, 2, 6)

    expected = [FileRunner(original, MEAN)(image) for image in images[:4]]
    for content in (paired, enlarged, int8_file):
        runner = FileRunner(content, MEAN)
        for image, values in zip(images, expected, strict=False):
            found = runner(image)
            assert list(found) == list(values)
            assert_same_outputs(found, values)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (160, 64), (96, 128)])
def test_resized_it_equals_a_file_of_that_shape(
    height: int, width: int, int8_file: bytes, folded: FoldedNetwork, ranges: Ranges
) -> None:
    of_that_shape = unchanged(simulate(folded, ranges, height=height, width=width), folded.config, "int8")
    assert read_graph(of_that_shape).tensors[read_graph(of_that_shape).inputs[0]].shape == (1, height, width, 3)
    image = np.random.default_rng(height).integers(-128, 128, (1, height, width, 3), np.int8)
    found = outputs(int8_file, image)
    assert found["score_16"].shape == (1, height // 16, width // 16, 2)
    assert_same_outputs(found, outputs(of_that_shape, image))


def test_back_and_forth(int8_file: bytes) -> None:
    """One interpreter, resized again and again, has the outputs of one that never was."""
    interpreter = Interpreter(model_content=int8_file, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    for height, width in ((64, 64), (128, 96), (64, 64), (96, 320), (128, 96)):
        image = np.random.default_rng(width).integers(-128, 128, (1, height, width, 3), np.int8)
        interpreter.resize_tensor_input(index, image.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        details = interpreter.get_signature_runner().get_output_details()
        found = {name: interpreter.get_tensor(one["index"]) for name, one in details.items()}
        assert_same_outputs(found, outputs(int8_file, image))


def test_no_constant_holds_a_height_or_a_width(original: bytes, int8_file: bytes) -> None:
    def sizes(content: bytes) -> set[int]:
        """Values of all constants without a scale that ops read: of what is neither a weight nor a bias."""
        graph = read_graph(content)
        used = [graph.tensors[index] for operation in graph.operations for index in operation.inputs]
        constants = [tensor.constant for tensor in used if not tensor.scales.size]
        return {int(v) for values in constants if values is not None for v in values.ravel()}

    sides = {SIZE // stride for stride in (1, 2, 4, 8, 16, 32)} - {2}  # 2 is also a step, a block and a margin
    assert sizes(original) & sides == {SIZE // 16, SIZE // 8}
    assert sizes(int8_file) == {-1, 0, 1, 2, 6}


def test_xnnpack_runs_it_in_one_part(original: bytes, int8_file: bytes) -> None:
    def parts(content: bytes) -> int:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())

    assert (parts(original), parts(int8_file)) == (3, 1)


def test_float_files_too(original_float: bytes, images: np.ndarray) -> None:
    content = rewrite(original_float)
    assert {"RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE"} & set(read_graph(content).op_counts()) == {
        "DEPTH_TO_SPACE"
    }
    image = images[:1].astype(np.float32) - np.asarray(MEAN, np.float32)
    assert_same_outputs(outputs(content, image), outputs(original_float, image))
    wide = np.concatenate((image, image), axis=2)
    assert outputs(content, wide)["box_32"].shape == (1, SIZE // 32, 2 * SIZE // 32, 8)


def test_nothing_is_left_to_do(original: bytes, int8_file: bytes) -> None:
    assert rewrite(original) == int8_file
    assert rewrite(int8_file) == int8_file


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
    enlarge_by_copies(editor)
    assert not editor.changed


def test_enlargements_of_other_types_are_left_alone(original: bytes) -> None:
    editor = Editor(original)
    for operation in editor.graph.operators:
        if editor.builtin(operation) == editor.schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR:
            editor.graph.tensors[operation.inputs[0]].type = editor.schema.TensorType.UINT8
    enlarge_by_copies(editor)
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
    added = editor.model.operatorCodes[editor.operation("CONCATENATION", 2, [0, 0], 1, axis=3).opcodeIndex]
    assert (builtin_of(added), added.version) == (editor.schema.BuiltinOperator.CONCATENATION, 2)
