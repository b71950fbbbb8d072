"""The input's shape for a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite.preprocess import letterbox_size
from tflite.shapes import auto_shape, check_input_size, parse_input_size, shortened, size_text

SIDES = st.integers(1, 20_000)
OWN = st.integers(1, 40).map(lambda count: 32 * count)


@pytest.mark.parametrize(
    ("image", "own", "expected"),
    [
        ((480, 640), (640, 640), (480, 640)),
        ((720, 1280), (640, 640), (384, 640)),  # 360 rows
        ((1280, 720), (640, 640), (640, 384)),
        ((3000, 4000), (320, 320), (256, 320)),  # 240 rows
        ((577, 1000), (640, 640), (384, 640)),  # 369.28
        ((601, 1000), (640, 640), (448, 640)),  # 384.64: would round to 385
        ((6004, 10000), (640, 640), (448, 640)),  # 384.256 would round to 384, where the scale would be another
        ((6000, 10000), (640, 640), (384, 640)),
        ((2, 3), (640, 640), (448, 640)),  # 427 rows
        ((7501, 10000), (640, 640), (640, 640)),  # 480.064
        ((1, 5000), (640, 640), (384, 640)),
        ((7001, 10000), (640, 640), (480, 640)),  # 448.064
        ((5000, 1), (640, 640), (640, 384)),
        ((1, 1), (640, 640), (640, 640)),
        ((9, 16), (320, 320), (192, 320)),
        ((16, 9), (1280, 1280), (1280, 768)),
        ((100, 100), (384, 640), (384, 384)),  # 3/5 of 640
        ((1, 100), (384, 640), (256, 640)),  # 230.4, 3/5 of 384
        ((1, 100), (32, 640), (32, 640)),  # never larger than the model's own
    ],
)
def test_by_hand(image: tuple[int, int], own: tuple[int, int], expected: tuple[int, int]) -> None:
    assert auto_shape(*image, *own) == expected


@given(height=SIDES, width=SIDES, own_height=OWN, own_width=OWN)
def test_the_smallest_that_holds_the_letterboxed_picture(
    height: int, width: int, own_height: int, own_width: int
) -> None:
    shape = auto_shape(height, width, own_height, own_width)
    letterboxed = letterbox_size(height, width, own_height, own_width)
    seven = {(own_height, side) for side in shortened(own_width)}
    seven |= {(side, own_width) for side in shortened(own_height)}
    assert len(seven) <= 7 and all(side % 32 == 0 for sides in seven for side in sides)
    same = [sides for sides in seven if letterbox_size(height, width, *sides) == letterboxed]
    assert shape in same
    assert shape[0] * shape[1] == min(rows * columns for rows, columns in same)
    assert auto_shape(width, height, own_width, own_height) == shape[::-1]


@given(side=OWN)
def test_what_a_side_is_shortened_to(side: int) -> None:
    *shorter, most = shortened(side)
    assert all(0 <= found - side * part < 32 for found, part in zip(shorter, (0.6, 0.7, 0.75), strict=True))
    assert most == side
    assert shortened(640) == [384, 448, 480, 640] and shortened(320) == [192, 224, 256, 320]


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
