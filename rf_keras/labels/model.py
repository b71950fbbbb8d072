"""What every label format is read into, and what its readers share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

UNKNOWN = -1.0  # every landmark coordinate of a face whose landmarks are not known
LABEL_FILE = "label.txt"
LARGEST_FILE = 1 << 29  # bytes of one label file: WIDER FACE's have 10 million
LARGEST_SMALL_FILE = 1 << 22  # bytes of a file that labels one picture
IGNORE_CLASSES = ("ignore", "ignored")
POINTS = 10  # coordinates of five landmarks

Box = tuple[float, float, float, float]


class LabelError(ValueError):
    """Labels cannot be used; the message is one line: place, what was found, what was expected."""


class NoLabels(LabelError):
    """There are no labels at all, or none of a known format."""


@dataclass(frozen=True)
class Face:
    """One labelled face.

    Attributes:
        box: x1 y1 x2 y2.
        points: x y of each of `LANDMARK_NAMES`; None where they are not known.
        ignored: neither a face to find nor background: a crowd, or one that even people cannot tell.
        place: file and line of it, for messages.
    """

    box: Box
    points: tuple[float, ...] | None = None
    ignored: bool = False
    place: str = ""


@dataclass(frozen=True)
class Record:
    """The faces of one picture as a label file has them.

    Attributes:
        name: path of the picture below one of `Labels.roots`, or absolute.
        faces: in pixels, or in shares of width and height where `Labels.form` is "shares".
        place: where the file begins to speak of it.
        size: width and height that the file states.
        stems: further names that the picture may have, without the suffix.
    """

    name: str
    faces: Sequence[Face]
    place: str
    size: tuple[int, int] | None = None
    stems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """A parsed set.

    Attributes:
        kind: the format's name for people.
        path: file or folder that was read.
        form: how boxes are written: "sizes" (x y w h), "corners" (x1 y1 x2 y2) or "shares" (of the picture, 0 to 1).
        records: pictures in the order of the file.
        roots: folders that may hold the pictures, the likeliest first.
    """

    kind: str
    path: Path
    form: str
    records: list[Record]
    roots: Sequence[Path]


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled image.

    Attributes:
        image: path of the image file.
        boxes: float32 [N, 4], x1, y1, x2, y2 in pixels of the upright image; may leave it slightly, as WIDER's do.
        landmarks: float32 [N, 5, 2], x, y in the same pixels in the order of `LANDMARK_NAMES`; all −1 where unknown.
        ignored: float32 [M, 4], regions that are neither faces to find nor background.
        size: width and height of the upright image; None where nobody has looked.
        plain: a whole JPEG of grey or YCbCr that needs no turning: TensorFlow's decoder reads it as `read_image` does.
    """

    image: Path
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray = field(default_factory=_no_boxes)
    size: tuple[int, int] | None = None
    plain: bool = False


def read_lines(path: Path, largest: int = LARGEST_FILE) -> list[str]:
    """The lines of a label file, without their ends; `read_text`'s errors."""
    return read_text(path, largest).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_text(path: Path, largest: int = LARGEST_FILE) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        LabelError: it cannot be read, is no text, or has more than `largest` bytes.
    """
    try:
        if (size := path.stat().st_size) > largest:
            raise LabelError(f"{path}: {size} bytes, expected a label file of at most {largest}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read as text ({error}), expected a label file") from None


def numbers(place: str, fields: Sequence[str], counts: Sequence[int]) -> list[float]:
    """The fields of a line as numbers.

    Raises:
        LabelError: not as many as one of `counts`, or no numbers.
    """
    expected = " or ".join(map(str, counts))
    if len(fields) not in counts:
        raise LabelError(f"{place}: {len(fields)} values, expected {expected}")
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise LabelError(f"{place}: {error}, expected {expected} numbers") from None


def box_of_size(place: str, values: Sequence[float]) -> Box:
    """x y w h → x1 y1 x2 y2.

    Raises:
        LabelError: not finite, or a negative size.
    """
    x, y, width, height = values
    if not all(map(math.isfinite, values)) or width < 0 or height < 0:
        raise LabelError(f"{place}: box {listed(values)}, expected finite x y w h with w, h >= 0")
    return x, y, x + width, y + height


def box_of_corners(place: str, values: Sequence[float]) -> Box:
    """x1 y1 x2 y2, checked.

    Raises:
        LabelError: not finite, or a corner that is on the wrong side of the other.
    """
    x1, y1, x2, y2 = values
    if not all(map(math.isfinite, values)) or x2 < x1 or y2 < y1:
        raise LabelError(f"{place}: box {listed(values)}, expected finite x1 y1 x2 y2 with x2 >= x1 and y2 >= y1")
    return x1, y1, x2, y2


def five_points(place: str, values: Sequence[float], known: Sequence[bool] = (True,) * 5) -> tuple[float, ...] | None:
    """Ten coordinates; None where a point is not known: the loss takes a face's five points or none.

    Raises:
        LabelError: one is not finite.
    """
    if not all(map(math.isfinite, values)):
        raise LabelError(f"{place}: a landmark is not finite, expected pixels, or -1 for all where unknown")
    here = all(known) and all(tuple(values[i : i + 2]) != (UNKNOWN, UNKNOWN) for i in range(0, POINTS, 2))
    return tuple(values) if here else None


def listed(values: Sequence[float]) -> str:
    """Numbers for a message."""
    return " ".join(f"{value:g}" for value in values)


def exact(value: float) -> float:
    """The shortest decimal number that is this one in float32: what is written and read again is the same."""
    return float(str(np.float32(value)))


def decimal(value: float) -> str:
    """`exact` as text, without a trailing .0."""
    return f"{exact(value):.12g}"


def classes_of_faces(names: Mapping[int, str], chosen: Sequence[str], place: str) -> tuple[set[int], set[int]]:
    """Which classes of a set of things are faces, and which are regions to ignore.

    Args:
        names: class → its name.
        chosen: names that the user wants; empty: those with "face" in them, else the only class.
        place: file, for messages.

    Raises:
        LabelError: none is a face, or a chosen one is unknown.
    """
    ignored = {number for number, name in names.items() if name.lower() in IGNORE_CLASSES}
    known = ", ".join(names.values())
    if chosen:
        if unknown := [name for name in chosen if name not in names.values()]:
            raise LabelError(f"{place}: no class {unknown[0]!r}, expected some of {known}")
        return {number for number, name in names.items() if name in chosen}, ignored
    rest = {number: name for number, name in names.items() if number not in ignored}
    faces = {number for number, name in rest.items() if "face" in name.lower()}
    if not faces and len(rest) == 1:
        faces = set(rest)
    if not faces:
        raise LabelError(
            f"{place}: classes {known}, none of them named face; convert it first: "
            "python -m rf_keras.labels … --classes NAME,NAME"
        )
    return faces, ignored


def order_of_points(names: Sequence[str]) -> list[int] | None:
    """Where the five landmarks stand among named points; None where they are not among them.

    Five points of other names are taken in their order.
    """

    def find(kind: Sequence[str], side: str) -> int | None:
        return next((i for i, n in enumerate(lower) if any(k in n for k in kind) and side in n), None)

    lower = [name.lower() for name in names]
    mouth = ("mouth", "lip")
    wanted = (("eye",), "left"), (("eye",), "right"), (("nose",), ""), (mouth, "left"), (mouth, "right")
    found = [find(*one) for one in wanted]
    if len({index for index in found if index is not None}) == len(wanted):
        return [index for index in found if index is not None]
    return list(range(5)) if len(names) == 5 else None
