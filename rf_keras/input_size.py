"""Input sizes as users write them: `640`, or `480x640` (height × width)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tflite.preprocess import letterbox
from tflite.shapes import AUTO, auto_shape

MULTIPLE = 32  # coarsest stride: each side of the input is a multiple of it
LARGEST_SIDE = 8192
DEFAULT_SIZE = 640  # pixels


def fixed_sides(text: str) -> tuple[int, int] | None:
    """Height and width in pixels, multiples of 32; None where `text` names no such size."""
    parts = text.split("x")
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    height, width = int(parts[0]), int(parts[-1])
    fits = all(0 < side <= LARGEST_SIDE and side % MULTIPLE == 0 for side in (height, width))
    return (height, width) if fits else None


@dataclass(frozen=True)
class InputSize:
    """How an image becomes a network input.

    Attributes:
        fixed: letterbox into this height and width in pixels (the devices' contract); None for the others.
        short, long: scale so that the short side is `short` pixels, or less if the long side would exceed `long`; None
            keeps the original size. Either is padded with the mean to multiples of 32.
        auto: letterbox at the scale of a square of `DEFAULT_SIZE`, into the smallest of its shapes that holds the
            picture (`tflite.shapes.auto_shape`).
    """

    fixed: tuple[int, int] | None = None
    short: int | None = None
    long: int | None = None
    auto: bool = False

    @classmethod
    def square(cls, side: int) -> InputSize:
        """Letterbox into a square."""
        return cls(fixed=(side, side))

    def __str__(self) -> str:
        if self.fixed is not None:
            height, width = self.fixed
            return str(height) if height == width else f"{height}x{width}"
        if self.auto:
            return AUTO
        return "original" if self.short is None else f"{self.short},{self.long}"

    def apply(self, image: np.ndarray, mean: tuple[float, ...], antialias: bool = False) -> tuple[np.ndarray, float]:
        """uint8 BGR [h, w, 3] → uint8 [H, W, 3] and scale (input = scale · image); `antialias`: as `letterbox`'s."""
        if self.fixed is not None:
            return letterbox(image, *self.fixed, mean, antialias=antialias)
        if self.auto:
            height, width = auto_shape(image.shape[0], image.shape[1], DEFAULT_SIZE, DEFAULT_SIZE)
            return letterbox(image, height, width, mean, antialias=antialias)
        scale = 1.0
        height, width = image.shape[:2]
        if self.short is not None and self.long is not None:
            scale = min(self.short / min(height, width), self.long / max(height, width))
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            height, width = image.shape[:2]
        fill = tuple(round(value) for value in mean)
        padded = cv2.copyMakeBorder(image, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_CONSTANT, value=fill)
        return padded, scale


def parse_size(text: str) -> InputSize:
    """Read `640`, `480x640`, `auto`, `original` or `1600,2150`.

    Raises:
        ValueError: anything else.
    """
    if text in ("original", AUTO):
        return InputSize(auto=text == AUTO)
    if "," in text:
        numbers = [int(part) for part in text.split(",") if part.isascii() and part.isdigit()]
        if len(numbers) == 2 and text.count(",") == 1 and 0 < numbers[0] <= numbers[1] <= LARGEST_SIDE:
            return InputSize(short=numbers[0], long=numbers[1])
    elif sides := fixed_sides(text):
        return InputSize(fixed=sides)
    raise ValueError(
        f"size is {text!r}, expected a multiple of {MULTIPLE} (letterbox), HEIGHTxWIDTH of such, 'auto', 'original', "
        "or SHORT,LONG like 1600,2150"
    )
