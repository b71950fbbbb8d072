"""Input sizes as users write them: `640`, or `480x640` (height × width)."""

from __future__ import annotations

MULTIPLE = 32  # coarsest stride: each side of the input is a multiple of it
LARGEST_SIDE = 8192


def fixed_sides(text: str) -> tuple[int, int] | None:
    """Height and width in pixels, multiples of 32; None where `text` names no such size."""
    parts = text.split("x")
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    height, width = int(parts[0]), int(parts[-1])
    fits = all(0 < side <= LARGEST_SIDE and side % MULTIPLE == 0 for side in (height, width))
    return (height, width) if fits else None
