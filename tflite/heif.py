"""Pictures in the container of MP4: AVIF and HEIC; which reader Pillow needs for them."""

from __future__ import annotations

import importlib

AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def brands(data: bytes) -> list[bytes]:
    """The brands of a file of this container, the main one first; none of another file."""
    if data[4:8] != b"ftyp":
        return []
    size = min(int.from_bytes(data[:4], "big"), 256)
    return [data[8:12], *(data[i : i + 4] for i in range(16, size, 4))]


def formats_of(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats besides the usual ones that may be tried on this file.

    Raises:
        ValueError: the picture needs a package that is not installed; one line that names it.
    """
    found = brands(data)
    if not found:
        return ()
    if any(brand in AVIF_BRANDS for brand in found):
        from PIL import features

        if not features.check("avif"):
            raise ValueError("an AVIF picture, which this Pillow does not read: pip install 'pillow>=11.3'")
        return ("AVIF",)
    if any(brand in HEIC_BRANDS for brand in found):
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise ValueError("a HEIC picture: pip install pillow-heif to read it") from None
        return ("HEIF",)
    return ()
