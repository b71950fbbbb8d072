"""Pictures as files: read one, write one."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from tflite.files import replacing
from tflite.heif import formats_of
from tflite.messages import one_line, printable

# Named so that Pillow never hands a file to a plugin that runs another program (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
    *(".jfif", ".jpe", ".mpo", ".avif"),
)
HEIF_SUFFIXES = (".heic", ".heif", ".hif")  # where pillow-heif is installed
LARGEST_PIXELS = 256_000_000  # three quarters of a GB in memory; the largest sensors of phones have 200 million
HEAD = 256  # bytes that tell the formats in MP4's container apart
END_OF_JPEG = b"\xff\xd9"
ORIENTATION = 0x0112  # EXIF's and TIFF's tag
BITS_PER_SAMPLE, LARGEST_SAMPLE = 258, 281  # TIFF's tags
DEPTHS = (8, 10, 12, 14, 16)  # bits of grey that cameras and scanners put into 16
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ImageError(ValueError):
    """The picture cannot be read; the message is one line that names file, finding and expectation."""


_limit = threading.Lock()


@contextlib.contextmanager
def _own_limit() -> Iterator[None]:
    """Without Pillow's limit of pixels, which is below what phones take: `open_image` has ours."""
    with _limit:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def open_image(source: BinaryIO) -> ImageFile.ImageFile:
    """A picture of one of `FORMATS`, AVIF or HEIC of which only the header is read.

    Raises:
        ValueError: it has more than `LARGEST_PIXELS`, or needs a package that is not installed.
        Exception: anything that Pillow's readers raise on what is no picture.
    """
    extra = formats_of(source.read(HEAD))
    source.seek(0)
    with _own_limit():
        image = Image.open(source, formats=(*FORMATS, *extra))
    width, height = image.size
    if width * height > LARGEST_PIXELS:
        raise ValueError(f"{width}×{height} pixels are more than the {LARGEST_PIXELS // 10**6} million read here")
    return image


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it is damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing about the orientation; the pixels are fine
        return 1
    return value if value in range(1, 9) else 1


def _load(image: Image.Image) -> None:
    usual = Image.MAX_IMAGE_PIXELS
    if usual is not None and image.width * image.height > usual:
        with _own_limit():  # readers of some formats look at it again
            image.load()
    else:
        image.load()


def _decode(data: bytes) -> np.ndarray:
    try:
        return _decode_whole(data)
    except OSError:
        if not data.startswith(b"\xff\xd8"):
            raise
        # Viewers read a JPEG that lacks its end marker alone. Where pixels are missing, too, what follows the data
        # is taken for them: then other fillings give other pictures.
        start = data.rstrip(b"\xff")
        picture = _decode_whole(start + END_OF_JPEG)
        for filling in (b"\0" * 64, b"\x55" * 64, b"\xaa" * 64):
            if not np.array_equal(picture, _decode_whole(start + filling + END_OF_JPEG)):
                raise
        return picture


def _decode_whole(data: bytes) -> np.ndarray:
    image = open_image(io.BytesIO(data))
    coding = str(next((tile.args for tile in image.tile), ""))
    _load(image)  # the first frame; raises on truncated data, which OpenCV would fill with grey
    if ";16" in coding and image.mode in ("RGB", "RGBA"):
        # Pillow keeps the high bytes of 16-bit colour: of 14 bits and fewer little is left in them.
        high = np.asarray(image.convert("RGB"))
        if high.max(initial=0) < 64:
            deep = 256 * high.astype(np.uint16) + np.asarray(_low_bytes(data).convert("RGB"))
            return _upright(cv2.cvtColor(_eight_bits(deep, image), cv2.COLOR_RGB2BGR), orientation_of(image))
    return _upright_bgr(image)


def _low_bytes(data: bytes) -> ImageFile.ImageFile:
    """A picture of 16-bit colour by the low bytes: those that the other byte order has for the high ones."""
    image = open_image(io.BytesIO(data))
    swapped = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}

    def other_order(mode: str) -> str:
        name, _, order = mode.partition(";")
        return f"{name};{swapped[order]}" if order in swapped else mode

    tiles = []
    for codec, extents, offset, coding in image.tile:
        parts = (coding,) if isinstance(coding, str) else tuple(coding or ())
        changed = (other_order(parts[0]), *parts[1:])
        args = changed[0] if isinstance(coding, str) else changed
        tiles.append(type(image.tile[0])(codec, extents, offset, args))
    image.tile = tiles
    _load(image)
    return image


def _eight_bits(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Samples of other depths → uint8, scaled by what the file says of them, else by what holds the largest.

    Whole numbers: bits per sample as TIFF has it, or the fewest of `DEPTHS`; up to 255 they are grey levels already.
    Floating point: up to 1 (with some glare) it is the share of white, up to 255 grey levels.
    """
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, posinf=0, neginf=0)
        largest = float(pixels.max(initial=0))
        if largest <= 4:
            return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        bits = 8 if largest < 256 else max(int(largest).bit_length(), 16)
        return np.rint(np.clip(pixels / 2 ** (bits - 8), 0, 255)).astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    declared = int(np.max(tags.get(BITS_PER_SAMPLE, 0))), int(np.max(tags.get(LARGEST_SAMPLE, 0))).bit_length()
    largest = int(pixels.max(initial=0))
    if image.format == "PPM":  # Pillow scales to 16 bits itself
        bits = 16
    else:
        bits = next((b for b in declared if 8 < b < 16), 0) or next((b for b in DEPTHS if largest < 2**b), 0)
    return np.clip(pixels >> (max(bits, largest.bit_length()) - 8), 0, 255).astype(np.uint8)


def _upright_bgr(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of a loaded picture, which stays as it is."""
    orientation = orientation_of(image)
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion clips at 255 instead of scaling.
        return _upright(cv2.cvtColor(_eight_bits(np.asarray(image), image), cv2.COLOR_GRAY2BGR), orientation)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion of palette with transparency
    if image.mode != "RGB":  # Pillow would copy
        image = image.convert("RGB")
    return _upright(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR), orientation)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels [H, W, 3], turned and mirrored as EXIF's orientation (1 to 8) says."""
    if orientation >= 5:
        image = cv2.transpose(image)
    # Along y, x, both: those that are left to mirror.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


def read_image(source: str | Path | bytes, name: str | None = None) -> np.ndarray:
    """Read a picture the way a viewer shows it.

    EXIF orientation is applied, grey and palette become colour, samples of 10 to 16 bits and floating point become 8
    (`_eight_bits`), alpha is dropped, of an animation the first frame counts. A file that does not decode to its end is
    an error: faces in the missing part would be lost. A JPEG may lack its end marker.

    Args:
        source: path, or the encoded file's bytes.
        name: what to call it in errors; the path by default.

    Returns:
        uint8 [H, W, 3], BGR, C-contiguous.

    Raises:
        ImageError: missing, empty, truncated, no picture, more than `LARGEST_PIXELS`, or a format not in `FORMATS`.
    """
    name = name or ("image" if isinstance(source, bytes) else printable(source))
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{name}: cannot read the file ({reason})") from error
    if not data:
        raise ImageError(f"{name}: the file is empty, expected an image")
    try:
        return _decode(data)
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error, … on damaged files
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"{len(data)} bytes of no known image format"
        else:
            reason = one_line(error)
        raise ImageError(
            f"{name}: cannot decode ({reason}), expected a complete image ({', '.join(FORMATS)})"
        ) from error


def image_array(image: np.ndarray | str | os.PathLike[str] | Image.Image) -> np.ndarray:
    """What `FaceDetector.detect` accepts, as an array.

    Args:
        image: uint8 BGR [H, W, 3], any size from 1×1; a path, read by `read_image`; or a Pillow image, whose EXIF
            orientation is applied.

    Returns:
        uint8 [H, W, 3], BGR; an array is returned itself.

    Raises:
        ImageError: a path or a Pillow image that cannot be read.
        ValueError: an array of another type or shape, or something else.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} {list(image.shape)}, expected a uint8 BGR array [H, W, 3]")
        if not image.size:
            raise ValueError(f"image is empty ({image.shape[1]}×{image.shape[0]}), expected at least 1×1")
        return image
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        try:
            image.load()
            return _upright_bgr(image)
        except Exception as error:  # as in read_image
            raise ImageError(f"image: cannot decode ({one_line(error)}), expected a complete Pillow image") from error
    raise ValueError(f"image is {type(image).__name__}, expected a path, a Pillow image or a uint8 BGR array [H, W, 3]")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a uint8 BGR image in the format of the suffix.

    Raises:
        ImageError: OpenCV cannot write that format.
    """
    try:
        ok, data = cv2.imencode(path.suffix or ".", image)
    except cv2.error:
        ok = False
    if not ok:
        raise ImageError(f"{path}: cannot write this image format, expected e.g. .jpg or .png")
    with replacing(path, durable=False) as temporary:
        temporary.write_bytes(data.tobytes())
