"""RetinaFace's `label.txt` and `labelv2.txt` of SCRFD and YuNet.

`label.txt`: a line `# relative/path.jpg`, then a line per face: x y w h, then perhaps five landmarks "x y flag" and a
confidence (validation files stop after the box). `labelv2.txt`: the first line also has width and height, boxes are
x1 y1 x2 y2, and five landmarks follow, or one number that is 1 where the face is to be ignored, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rf_keras.labels.model import (
    LABEL_FILE,
    UNKNOWN,
    Face,
    LabelError,
    Labels,
    Record,
    Sample,
    box_of_corners,
    box_of_size,
    decimal,
    five_points,
    numbers,
)

COUNTS = (4, 20)
COUNTS_V2 = (4, 5, 19, 20)
HEADER_V2 = re.compile(r"#\s*(.*\S)\s+(\d+)\s+(\d+)\s*")
FIRST_HEADERS = 1000  # enough to tell the two


def parse(path: Path, lines: Sequence[str], roots: Sequence[Path]) -> Labels:
    """Either format, told apart by the first lines.

    Raises:
        LabelError: a malformed line.
    """
    headers = [line for line in lines if line.startswith("#")][:FIRST_HEADERS]
    counts = {len(line.split()) for line in lines[:FIRST_HEADERS] if line.strip() and not line.startswith("#")}
    second = bool(headers) and all(map(HEADER_V2.fullmatch, headers)) and counts.isdisjoint({20})
    records = list(_records(path, lines, second))
    if not records:
        raise LabelError(f"{path}: names no image, expected lines '# relative/path.jpg'")
    return Labels("labelv2.txt" if second else LABEL_FILE, path, "corners" if second else "sizes", records, roots)


def _records(path: Path, lines: Sequence[str], second: bool) -> Iterator[Record]:
    record: Record | None = None
    faces: list[Face] = []
    for number, line in enumerate(lines, 1):
        line, place = line.strip(), f"{path}:{number}"
        if line.startswith("#"):
            if record:
                yield record
            name, size = line[1:].strip(), None
            if second and (header := HEADER_V2.fullmatch(line)):
                name, size = header[1], (int(header[2]), int(header[3]))
            if not name:
                raise LabelError(f"{place}: '#' without a path, expected '# relative/path.jpg'")
            faces = []
            record = Record(name, faces, place, size)
        elif line:
            if not record:
                raise LabelError(f"{place}: a face before any image, expected a line '# relative/path.jpg' first")
            faces.append(_face_v2(place, line) if second else _face(place, line))
    if record:
        yield record


def _face(place: str, line: str) -> Face:
    values = numbers(place, line.split(), COUNTS)
    return Face(box_of_size(place, values[:4]), _landmarks(place, values[4:]), place=place)


def _face_v2(place: str, line: str) -> Face:
    values = numbers(place, line.split(), COUNTS_V2)
    return Face(
        box_of_corners(place, values[:4]), _landmarks(place, values[4:]), len(values) == 5 and values[4] == 1, place
    )


def _landmarks(place: str, values: Sequence[float]) -> tuple[float, ...] | None:
    if len(values) < 15:
        return None
    return five_points(place, [value for start in range(0, 15, 3) for value in values[start : start + 2]])


def format_label(boxes: np.ndarray, landmarks: np.ndarray, confidence: float = 1.0) -> Iterator[str]:
    """The lines of `label.txt` for one image's faces; inverse of what is read, exact for points."""
    for (x1, y1, x2, y2), points in zip(boxes.astype(float), landmarks, strict=True):
        flag = UNKNOWN if (points == UNKNOWN).all() else 0.0
        marks = " ".join(f"{decimal(x)} {decimal(y)} {flag:.1f}" for x, y in points)
        yield f"{decimal(x1)} {decimal(y1)} {decimal(x2 - x1)} {decimal(y2 - y1)} {marks} {confidence:.2f}"


def write(named: Sequence[tuple[str, Sample]], folder: Path) -> dict[Path, str]:
    """`label.txt`, path → text; the format has no flag for what is to be ignored."""
    lines: list[str] = []
    for name, sample in named:
        lines += [f"# {name}", *format_label(sample.boxes, sample.landmarks)]
    return {folder / LABEL_FILE: "\n".join(lines) + "\n"}
