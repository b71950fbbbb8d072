"""Pictures as files: read one, write one."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

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
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ImageError(ValueError):
    """The picture cannot be read; the message is one line that names file, finding and expectation."""


def _decode(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data), formats=(*FORMATS, *formats_of(data)))
    image.load()  # the first frame; raises on truncated data, which OpenCV would fill with grey
    return _upright_bgr(image)


def _upright_bgr(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of a loaded picture, which stays as it is."""
    # Damaged EXIF says nothing about the orientation; the pixels are fine.
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling.
        pixels = np.asarray(image, np.float64)
        scale = 256 if pixels.size and pixels.max() > 255 else 1
        grey = np.clip(np.nan_to_num(pixels / scale), 0, 255).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion of palette with transparency
    if image.mode != "RGB":  # Pillow would copy
        image = image.convert("RGB")
    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)


def read_image(source: str | Path | bytes, name: str | None = None) -> np.ndarray:
    """Read a picture the way a viewer shows it.

    EXIF orientation is applied, grey and palette become colour, 16 bits become 8, alpha is dropped, of an animation the
    first frame counts. A file that does not decode to its end is an error: faces in the missing part would be lost.

    Args:
        source: path, or the encoded file's bytes.
        name: what to call it in errors; the path by default.

    Returns:
        uint8 [H, W, 3], BGR, C-contiguous.

    Raises:
        ImageError: missing, empty, truncated, no picture, or a format not in `FORMATS`.
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
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
