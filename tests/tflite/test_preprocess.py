from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite import preprocess
from tflite.preprocess import InputWriter, apply_table, input_table, letterbox, shrink, table_as_affine

MEAN = (104.0, 117.0, 123.0)


def test_letterbox_geometry() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    out, scale = letterbox(image, 64, 80, (103.5, 117.4, 0.0))
    assert scale == 0.8
    assert (out[:40] == 200).all()
    assert (out[40:] == (104, 117, 0)).all()  # the mean, rounded half up


def test_letterbox_is_bilinear_and_reuses_its_output() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 50, 3), dtype=np.uint8)
    canvas = np.full((64, 64, 3), 7, np.uint8)
    out, scale = letterbox(image, 64, 64, MEAN, out=canvas)
    assert out is canvas
    columns = round(50 * scale)
    np.testing.assert_array_equal(out[:, :columns], cv2.resize(image, (columns, 64), interpolation=cv2.INTER_LINEAR))
    assert (out[:, columns:] == (104, 117, 123)).all()


def test_letterbox_copies_what_already_fits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    out, scale = letterbox(image, 64, 64, MEAN)
    assert scale == 1
    np.testing.assert_array_equal(out[:, :40], image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_letterbox_of_odd_shapes(shape: tuple[int, int]) -> None:
    out, scale = letterbox(np.full((*shape, 3), 9, np.uint8), 64, 96, MEAN)
    assert scale == min(64 / shape[0], 96 / shape[1])
    assert (out[0, 0] == 9).all()


def test_shrinking_takes_means_of_four_halves_up_and_drops_an_odd_rest() -> None:
    image = np.zeros((5, 7, 3), np.uint8)
    image[0, 0], image[1, 1] = (1, 2, 255), (0, 0, 255)  # sums 1, 2, 510: 0.25, 0.5, 127.5
    image[4], image[:, 6] = 99, 99
    small = shrink(image, 2, 3)
    expected = np.zeros((2, 3, 3), np.uint8)
    expected[0, 0] = (0, 1, 128)
    np.testing.assert_array_equal(small, expected)


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((100, 100), (51, 50), (100, 100)),  # one side is not twice as large
        ((100, 100), (50, 50), (50, 50)),
        ((101, 203), (25, 25), (25, 50)),
        ((4000, 3), (1, 1), (2000, 1)),  # the short side sets the end
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_shrinking_ends_below_twice_the_target(
    shape: tuple[int, int], target: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    small = shrink(image, *target)
    assert small.shape[:2] == expected and (small is image) == (shape == expected)


@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_shrinking_equals_plain_loops(rows: int, columns: int, to: int, wide: int, seed: int, view: bool) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    if view:
        image = image[::-1, ::-1, ::-1]
    expected = image.astype(int)
    while len(expected) >= 2 * to and expected.shape[1] >= 2 * wide:
        even = expected[: len(expected) // 2 * 2, : expected.shape[1] // 2 * 2]
        expected = (even[::2, ::2] + even[::2, 1::2] + even[1::2, ::2] + even[1::2, 1::2] + 2) // 4
    np.testing.assert_array_equal(shrink(image, to, wide), expected)


def test_buffers_of_earlier_photos_are_used_again_and_leave_no_trace() -> None:
    random = np.random.default_rng(1)
    buffers: list[np.ndarray] = []
    for shape in ((90, 120), (90, 120), (300, 301), (41, 40), (90, 120)):
        image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        np.testing.assert_array_equal(shrink(image, 20, 20, buffers), shrink(image, 20, 20))
    kept = [buffer.ctypes.data for buffer in buffers]
    assert len(kept) == 2
    shrink(image, 20, 20, buffers)
    assert kept == [buffer.ctypes.data for buffer in buffers]


def test_antialiased_letterbox_shrinks_before_it_interpolates() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 140, 3), dtype=np.uint8)
    out, scale = letterbox(image, 64, 64, MEAN, antialias=True)
    assert scale == 64 / 200
    np.testing.assert_array_equal(out, letterbox(shrink(image, 64, 45), 64, 64, MEAN)[0])
    # A chessboard of single pixels is an even grey to it, and whatever the grid hits without.
    board = np.repeat(np.indices((640, 640)).sum(axis=0)[..., None] % 2 * 255, 3, axis=2).astype(np.uint8)
    assert np.ptp(letterbox(board, 100, 100, MEAN, antialias=True)[0]) == 0
    assert np.ptp(letterbox(board, 100, 100, MEAN)[0]) > 100


def test_letterbox_takes_views() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    flipped, _ = letterbox(image[:, ::-1], 64, 64, MEAN)
    copied, _ = letterbox(np.ascontiguousarray(image[:, ::-1]), 64, 64, MEAN)
    np.testing.assert_array_equal(flipped, copied)


def test_table_equals_the_arithmetic() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = np.empty((16, 16, 3), np.float32)
    apply_table(image, input_table(MEAN, 0.0, 0, np.float32), out)
    np.testing.assert_array_equal(out, image - np.asarray(MEAN, np.float32))
    quantized = np.empty((16, 16, 3), np.int8)
    apply_table(image, input_table(MEAN, 1.0, -5, np.int8), quantized)
    np.testing.assert_array_equal(quantized, np.clip(image - np.array([104, 117, 123]) - 5, -128, 127))


def test_table_rounds_halves_up_and_saturates() -> None:
    table = input_table((0.5, 0.0, 0.0), 1.0, 0, np.int8)
    assert table[:3, 0].tolist() == [0, 1, 2]  # −0.5, 0.5, 1.5
    assert table[255, 1] == 127


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("affine", ["tried", "refused"])
@pytest.mark.parametrize(("dtype", "scale"), [(np.int8, 1.0785714387893677), (np.int8, 1.07), (np.float32, 0.0)])
def test_writer_equals_letterbox_and_table(
    dtype: type, scale: float, affine: str, antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer for images of all shapes in turn: nothing of an earlier one may remain, whichever way it writes."""
    if affine == "refused":
        monkeypatch.setattr(preprocess, "table_as_affine", lambda *_: None)
    table = input_table(MEAN, scale, -13, dtype)
    writer = InputWriter(64, 96, MEAN, scale, -13, dtype, antialias)
    tensor = np.zeros((64, 96, 3), dtype)
    random = np.random.default_rng(0)
    shapes = ((200, 300), (300, 200), (64, 96), (30, 96), (1, 1), (10, 2000), (64, 20))
    images = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    images += [images[2][:, ::-1], images[2][..., ::-1], np.asfortranarray(images[2])]  # views that are not resized
    for image in images:
        expected = np.empty_like(tensor)
        canvas, letterbox_scale = letterbox(image, 64, 96, MEAN, antialias=antialias)
        apply_table(canvas, table, expected)
        picture, written_scale = writer.resize(image)
        writer.write(picture, tensor)
        assert written_scale == letterbox_scale
        np.testing.assert_array_equal(tensor, expected)


@given(
    scale=st.floats(0.5, 4.0, width=32),
    zero_point=st.integers(-128, 127),
    mean=st.tuples(*[st.floats(0, 255, width=32)] * 3),
    width=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_affine_is_exact_or_refused(
    scale: float, zero_point: int, mean: tuple[float, float, float], width: int, seed: int
) -> None:
    table = input_table(mean, scale, zero_point, np.int8)
    if table_as_affine(table, scale, zero_point, mean) is None:
        return
    image = np.random.default_rng(seed).integers(0, 256, (16, width, 3), dtype=np.uint8)
    writer = InputWriter(16, width, mean, scale, zero_point, np.int8)
    written = np.empty(image.shape, np.int8)
    writer.write(image, written)
    np.testing.assert_array_equal(written, table[image, np.arange(3)])


def test_affine_serves_the_shipped_models() -> None:
    """With 151/140 no pixel's value is nearer to a half than 1/302, so how OpenCV rounds cannot matter."""
    scale = 151 / 140
    assert table_as_affine(input_table(MEAN, scale, -13, np.int8), scale, -13, MEAN) is not None


def test_affine_refuses_a_table_that_differs_in_one_value() -> None:
    scale = 1.0785714387893677
    table = input_table(MEAN, scale, -13, np.int8)
    for channel in range(3):
        changed = table.copy()
        changed[200, channel] += 1
        assert table_as_affine(changed, scale, -13, MEAN) is None
    assert table_as_affine(table.astype(np.float32), scale, -13, MEAN) is None
