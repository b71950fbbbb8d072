"""From an image array to the network's input: letterbox, and one table from pixel to input value."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

AFFINE_TRIAL_WIDTH = 157  # pixels: several SIMD registers of 64 bytes and a remainder, also with three channels


def letterbox_size(image_height: int, image_width: int, height: int, width: int) -> tuple[int, int, float]:
    """Size in pixels (rows, columns) of the picture inside the input, and the scale = min(H/h, W/w)."""
    scale = min(height / image_height, width / image_width)
    rows = min(max(int(image_height * scale + 0.5), 1), height)
    columns = min(max(int(image_width * scale + 0.5), 1), width)
    return rows, columns, scale


def _resize_into(image: np.ndarray, out: np.ndarray) -> None:
    """Bilinear; OpenCV writes through a view, but returns another array where it cannot."""
    resized = cv2.resize(image, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    if not np.shares_memory(resized, out):
        out[...] = resized


def shrink(image: np.ndarray, rows: int, columns: int, buffers: list[np.ndarray] | None = None) -> np.ndarray:
    """The picture halved (means of 2×2 pixels, halves up) while it is at least twice `rows` × `columns`.

    Bilinear interpolation looks at 2×2 pixels wherever it lands and skips the others: of a photo ten times as large as
    the input it sees one pixel in 25, which small faces do not survive. An odd last row or column is dropped.

    Args:
        image: uint8 [h, w, 3].
        buffers: the halved pictures of an earlier call, written over where they have the size; those of this one
            take their place. Arrays so large would otherwise be mapped afresh each time.

    Returns:
        uint8 [h', w', 3], `image` itself where it is too small to halve.
    """
    buffers = [] if buffers is None else buffers
    step = 0
    while image.shape[0] >= 2 * rows and image.shape[1] >= 2 * columns:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]
        out = buffers[step] if step < len(buffers) else None
        image = cv2.resize(even, (width, height), dst=out, interpolation=cv2.INTER_AREA)
        buffers[step : step + 1] = [image]
        step += 1
    del buffers[step:]
    return image


def pad_row(mean: Sequence[float], width: int) -> np.ndarray:
    """uint8 [width, 3], the letterbox's fill: the mean, rounded half up."""
    return np.tile(np.floor(np.asarray(mean, np.float64) + 0.5).astype(np.uint8), (width, 1))


def _pad(out: np.ndarray, rows: int, columns: int, row: np.ndarray) -> None:
    # Whole rows, not one pixel broadcast: NumPy's loop over 3 values took 0.9 ms for a quarter of 640×640, this 0.01.
    out[rows:] = row
    out[:rows, columns:] = row[columns:]


def letterbox(
    image: np.ndarray,
    height: int,
    width: int,
    mean: Sequence[float],
    out: np.ndarray | None = None,
    *,
    antialias: bool = False,
) -> tuple[np.ndarray, float]:
    """Scale to fit, bilinear, aligned to the top left; the rest is filled with the rounded mean.

    Args:
        image: uint8 [h, w, 3] with h, w ≥ 1.
        height, width: size of the result in pixels.
        mean: per channel, 0-255.
        out: uint8 [height, width, 3] to write into, C-contiguous; a new array by default.
        antialias: `shrink` first (`ModelSpec.antialias`).

    Returns:
        uint8 [height, width, 3] (`out` itself if given), and the scale: letterboxed = scale · original.
    """
    rows, columns, scale = letterbox_size(image.shape[0], image.shape[1], height, width)
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    _resize_into(shrink(image, rows, columns) if antialias else image, out[:rows, :columns])
    _pad(out, rows, columns, pad_row(mean, width))
    return out, scale


def input_table(mean: Sequence[float], scale: float, zero_point: int, dtype: np.dtype | type) -> np.ndarray:
    """The network's input value for each pixel value: mean and quantization in one table.

    Args:
        mean: per channel, 0-255, subtracted from the pixel.
        scale, zero_point: quantization of an int8 input; ignored for float32.
        dtype: int8 or float32, the input's.

    Returns:
        [256, 3] of `dtype`: `table[pixel, channel]`.
    """
    values = np.arange(256, dtype=np.float64)[:, None] - np.asarray(mean, np.float64)  # [256, 3]
    if np.dtype(dtype) == np.float32:
        return values.astype(np.float32)
    limits = np.iinfo(np.dtype(dtype))
    # floor(x + 0.5), because Java and Kotlin round halves up where NumPy rounds them to even.
    return np.clip(np.floor(values / scale + 0.5) + zero_point, limits.min, limits.max).astype(dtype)


def apply_table(image: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Write `table[pixel, channel]` of the uint8 [H, W, 3] `image` into `out` [H, W, 3] of the table's dtype."""
    result = cv2.LUT(image, table[:, None, :], dst=out)
    if not np.shares_memory(result, out):
        out[...] = result


def _apply_affine(image: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Write what `table_as_affine`'s matrix says of the uint8 [H, W, 3] `image` into the int8 [H, W, 3] `out`."""
    unsigned = out.view(np.uint8)
    result = cv2.transform(image, matrix, dst=unsigned)
    np.bitwise_xor(result, 128, out=unsigned)


def table_as_affine(table: np.ndarray, scale: float, zero_point: int, mean: Sequence[float]) -> np.ndarray | None:
    """The table as one affine map of OpenCV, or None where that is not exactly the same.

    OpenCV looks values up one by one, but from 5.0 on its affine maps use SIMD and take a fraction of the time (4.10:
    the same time). How it rounds is up to its version and the processor, so each value of each channel is tried, in
    rows long enough for the SIMD loop and for what it leaves over.

    Args:
        table: [256, 3] of `input_table`; with another dtype than int8 there is no such map.
        scale, zero_point, mean: what the table was made of.

    Returns:
        float64 [3, 4]: unsigned value (int8 value + 128) = matrix · (pixel, 1), rounded and clipped to 0-255.
    """
    if table.dtype != np.int8:
        return None
    offset = zero_point + 128 - np.asarray(mean, np.float64) / scale
    matrix = np.hstack((np.eye(3) / scale, offset[:, None]))  # [3, 4]
    shape = (256, AFFINE_TRIAL_WIDTH, 3)
    trial = np.ascontiguousarray(np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], shape))
    written = np.empty((256, AFFINE_TRIAL_WIDTH + 1, 3), np.int8)[:, :-1]  # rows with a gap, as in a letterbox
    _apply_affine(trial, matrix, written)
    return matrix if np.array_equal(written, np.broadcast_to(table[:, None], shape)) else None


@functools.lru_cache(maxsize=8)
def _tables(
    mean: tuple[float, ...], scale: float, zero_point: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray | None]:
    """`input_table` and `table_as_affine`: the trial takes a millisecond, and is one for all shapes of a model."""
    table = input_table(mean, scale, zero_point, dtype)
    return table, table_as_affine(table, scale, zero_point, mean)


class InputWriter:
    """Letterbox and table in one go for one input size: equal to `apply_table(letterbox(image))`, without its copies.

    The table runs over the picture only, and the fill goes straight into the input.

    Args:
        height, width: of the network's input in pixels.
        mean: per channel, 0-255.
        scale, zero_point, dtype: of the network's input, as `input_table` takes them.
        antialias: as in `letterbox`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        mean: Sequence[float],
        scale: float,
        zero_point: int,
        dtype: np.dtype | type,
        antialias: bool = False,
    ) -> None:
        self._antialias = antialias
        self._halved: list[np.ndarray] = []
        self._table, self._affine = _tables(tuple(mean), float(scale), int(zero_point), np.dtype(dtype))
        self._canvas = np.empty((height, width, 3), np.uint8)
        row = pad_row(mean, width)
        self._pad_row = self._table[row, np.arange(3)]  # [width, 3] of the input's type

    def resize(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """The picture at its size inside the input, a view valid until the next call, and the scale."""
        rows, columns, scale = letterbox_size(image.shape[0], image.shape[1], *self._canvas.shape[:2])
        if self._antialias:
            image = shrink(image, rows, columns, self._halved)
        if image.shape[:2] == (rows, columns):
            return image, scale
        picture = self._canvas[:rows, :columns]
        _resize_into(image, picture)
        return picture, scale

    def write(self, picture: np.ndarray, tensor: np.ndarray) -> None:
        """Fill `tensor` [height, width, 3] with what `resize` returned."""
        rows, columns = picture.shape[:2]
        if self._affine is None:
            apply_table(picture, self._table, tensor[:rows, :columns])
        else:
            _apply_affine(picture, self._affine, tensor[:rows, :columns])
        _pad(tensor, rows, columns, self._pad_row)
