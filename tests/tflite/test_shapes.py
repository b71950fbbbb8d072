"""The input's shape for a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite.preprocess import letterbox_size
from tflite.shapes import auto_shape, check_input_size, parse_input_size, size_text

SIDES = st.integers(1, 20_000)
OWN = st.integers(2, 40).map(lambda count: 32 * count)


@pytest.mark.parametrize(
    ("image", "own", "expected"),
    [
        ((480, 640), (640, 640), (480, 640)),
        ((720, 1280), (640, 640), (384, 640)),  # 360 rows
        ((1280, 720), (640, 640), (640, 384)),
        ((3000, 4000), (320, 320), (256, 320)),  # 240 rows
        ((577, 1000), (640, 640), (384, 640)),  # 369.28
        ((601, 1000), (640, 640), (416, 640)),  # 384.64: would round to 385
        ((6004, 10000), (640, 640), (416, 640)),  # 384.256 would round to 384, where the scale would be another
        ((6000, 10000), (640, 640), (384, 640)),
        ((1, 5000), (640, 640), (64, 640)),
        ((5000, 1), (640, 640), (640, 64)),
        ((1, 1), (640, 640), (640, 640)),
        ((100, 100), (384, 640), (384, 384)),
        ((1, 100), (32, 640), (32, 640)),  # never larger than the model's own
    ],
)
def test_by_hand(image: tuple[int, int], own: tuple[int, int], expected: tuple[int, int]) -> None:
    assert auto_shape(*image, *own) == expected


@given(height=SIDES, width=SIDES, own_height=OWN, own_width=OWN)
def test_the_letterboxed_picture_is_the_same(height: int, width: int, own_height: int, own_width: int) -> None:
    rows, columns = auto_shape(height, width, own_height, own_width)
    assert rows % 32 == columns % 32 == 0
    assert 64 <= rows <= own_height and 64 <= columns <= own_width
    assert rows == own_height or columns == own_width
    assert letterbox_size(height, width, rows, columns) == letterbox_size(height, width, own_height, own_width)
    if rows > 64:
        smaller = letterbox_size(height, width, rows - 32, columns)
        assert smaller != letterbox_size(height, width, rows, columns), "the smallest"
    if columns > 64:
        assert letterbox_size(height, width, rows, columns - 32) != letterbox_size(height, width, rows, columns)


@pytest.mark.parametrize(
    ("text", "size"),
    [("auto", "auto"), ("own", None), ("640", (640, 640)), ("480x640", (480, 640)), ("64x1280", (64, 1280))],
)
def test_parse(text: str, size: object) -> None:
    assert parse_input_size(text) == size
    assert parse_input_size(size_text(parse_input_size(text))) == size


@pytest.mark.parametrize("text", ["", "x", "640x", "480x640x3", "-64", "650", "32", "1312", "64x٦٤", "1e3", "AUTO"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"input size is .*, expected"):
        parse_input_size(text)


def test_check_passes_on() -> None:
    assert check_input_size((64, 96)) == (64, 96)
    assert check_input_size(None) is None
