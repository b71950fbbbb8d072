"""Pictures as files: read one, write one, find those that paths, folders and patterns name."""

from __future__ import annotations

import contextlib
import glob
import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from tflite.files import free_name, replacing
from tflite.messages import one_line, printable

# Named so that Pillow never hands a file to a plugin that runs another program (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ImageError(ValueError):
    """The picture cannot be read; the message is one line that names file, finding and expectation."""


def _decode(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
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
    with replacing(path, durable=False) as temporary:
        temporary.write_bytes(data.tobytes())


def expand_inputs(arguments: Sequence[str]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files named by paths, folders (searched recursively for `IMAGE_SUFFIXES`) and glob patterns.

    Returns:
        (path, name for the output relative to an output folder) in the order given, folders and patterns sorted, each
        file once and each name once; and one line for each argument that gives no file, and for each folder that
        cannot be read.
    """
    found: dict[Path, Path] = {}
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    errors: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            unreadable: list[str] = []
            matches = [(p, p.relative_to(path)) for p in images_below(path, unreadable)]
            errors += unreadable
            if not matches and not unreadable:
                errors.append(f"{printable(argument)}: no image in the folder, expected {' '.join(IMAGE_SUFFIXES)}")
        elif glob.has_magic(argument) and not path.exists():
            paths = map(Path, sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207 (Path.glob takes no absolute one)
            matches = [(p, Path(p.name)) for p in paths if p.is_file()]
            if not matches:
                errors.append(f"{printable(argument)}: no file matches the pattern")
        else:
            matches = [(path, Path(path.name))]
        for p, name in matches:
            if p not in found:
                found[p] = free_name(name, taken, numbers)
    return list(found.items()), errors


def images_below(folder: Path, errors: list[str]) -> list[Path]:
    """Files with `IMAGE_SUFFIXES` in the folder and below it, sorted; a line in `errors` for each unreadable folder."""

    def note(error: OSError) -> None:
        errors.append(f"{printable(error.filename)}: cannot read the folder ({error.strerror})")

    below = (Path(top) / name for top, _, names in os.walk(folder, onerror=note) for name in names)
    return sorted(path for path in below if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
