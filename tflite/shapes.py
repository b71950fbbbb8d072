"""Which input shape suits a picture: the model's own, or one with a shorter side."""

from __future__ import annotations

MULTIPLE = 32  # pixels: the coarsest stride
SMALLEST, LARGEST = 64, 1280  # pixels per side: what a size that is asked for may be
# What a side may be shortened to: cameras give 16:9, 3:2 and 4:3. Few, as another shape costs half the time of a
# detection.
PARTS = ((3, 5), (7, 10), (3, 4), (1, 1))
AUTO, OWN = "auto", "own"

InputSize = str | tuple[int, int] | None


def shortened(side: int) -> list[int]:
    """3/5, 7/10, 3/4 and all of a side in pixels, each up to a multiple of 32: of 640, 384, 448, 480 and 640."""
    return [-(-side * part // (whole * MULTIPLE)) * MULTIPLE for part, whole in PARTS]


def auto_shape(image_height: int, image_width: int, height: int, width: int) -> tuple[int, int]:
    """The smallest of a model's shapes that holds the letterboxed picture at the model's own scale.

    The scale is that of `preprocess.letterbox_size` for height × width, and for the shape the very same: what is cut
    off would have been filled with the mean.

    Args:
        image_height, image_width: of the picture in pixels, at least 1.
        height, width: of the model's own input in pixels, multiples of 32.

    Returns:
        (height, width) in pixels, multiples of 32: one side is the model's own, the other one of `shortened`.
    """
    # Whole numbers: in float, 384 rows could come out as 384.0000001 and take 480.
    if height * image_width <= width * image_height:
        return height, next(side for side in shortened(width) if side * image_height >= image_width * height)
    return next(side for side in shortened(height) if side * image_width >= image_height * width), width


def parse_input_size(text: str) -> InputSize:
    """Read "auto", "own" (None: the model's), "N" or "HEIGHTxWIDTH".

    Raises:
        ValueError: anything else; one line.
    """
    if text in (AUTO, OWN):
        return AUTO if text == AUTO else None
    sides = text.split("x")
    if 1 <= len(sides) <= 2 and all(side.isascii() and side.isdecimal() and len(side) < 6 for side in sides):
        return check_input_size((int(sides[0]), int(sides[-1])))
    raise ValueError(f"input size is {text!r}, expected auto, own, or HEIGHTxWIDTH such as 480x640")


def check_input_size(size: InputSize) -> InputSize:
    """The size itself.

    Raises:
        ValueError: it is neither "auto", nor None, nor (height, width) of multiples of 32 from 64 to 1280.
    """
    if size is None or size == AUTO:
        return size
    if not isinstance(size, str) and len(size) == 2:
        height, width = size
        if all(type(side) is int and SMALLEST <= side <= LARGEST and side % MULTIPLE == 0 for side in size):
            return height, width
    raise ValueError(
        f"input size is {size!r}, expected 'auto' or (height, width), multiples of {MULTIPLE} from {SMALLEST} to "
        f"{LARGEST} pixels"
    )


def size_text(size: InputSize) -> str:
    """As `parse_input_size` reads it."""
    if size is None:
        return OWN
    return size if isinstance(size, str) else f"{size[0]}x{size[1]}"
