"""WIDER FACE's official `wider_face_*_bbx_gt.txt`.

Per image its path, the number of its faces, and a line per face: x y w h blur expression illumination invalid occlusion
pose. Faces marked invalid are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rf_keras.labels.model import Face, LabelError, Labels, Record, Sample, box_of_size, decimal, numbers

OFFICIAL_GLOB = "wider_face_*_bbx_gt.txt"
COUNT = 10
INVALID = 7


def parse(path: Path, lines: Sequence[str], roots: Sequence[Path]) -> Labels:
    """Raises:
    LabelError: a malformed line.
    """
    records = list(_records(path, lines))
    if not records:
        raise LabelError(f"{path}: names no image, expected an image path per block")
    return Labels("WIDER FACE", path, "sizes", records, roots)


def _records(path: Path, lines: Sequence[str]) -> Iterator[Record]:
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        count_text = lines[at + 1].strip() if at + 1 < len(lines) else ""
        if not (count_text.isascii() and count_text.isdecimal() and len(count_text) < 10):
            found = repr(count_text[:40]) if count_text else "the end of the file"
            raise LabelError(f"{path}:{at + 2}: {found} after {name[:200]}, expected its number of faces")
        count = int(count_text)
        # An image without faces has one line of zeros in its place.
        block = lines[at + 2 : at + 2 + max(count, 1)]
        here = len([line for line in block if line.strip()])
        if here < count:
            raise LabelError(f"{path}:{at + 2}: {here} faces follow for {name}, expected {count}")
        faces = []
        for number, line in enumerate(block[:count], at + 3):
            place = f"{path}:{number}"
            values = numbers(place, line.split(), (COUNT,))
            faces.append(Face(box_of_size(place, values[:4]), ignored=values[INVALID] != 0, place=place))
        yield Record(name, faces, f"{path}:{at + 1}")
        zeros = count == 0 and block and block[0].split() and not any(v.strip("0") for v in block[0].split())
        at += 2 + (count or int(bool(zeros)))


def write(named: Sequence[tuple[str, Sample]], folder: Path) -> dict[Path, str]:
    """`wider_face_train_bbx_gt.txt`, path → text; the format has no points."""
    lines: list[str] = []

    def add(boxes: np.ndarray, invalid: int) -> None:
        for x1, y1, x2, y2 in boxes.astype(float):
            lines.append(f"{decimal(x1)} {decimal(y1)} {decimal(x2 - x1)} {decimal(y2 - y1)} 0 0 0 {invalid} 0 0")

    for name, sample in named:
        count = len(sample.boxes) + len(sample.ignored)
        lines += [name, str(count)]
        add(sample.boxes, 0)
        add(sample.ignored, 1)
        if not count:
            lines.append(" ".join("0" * COUNT))
    return {folder / "wider_face_train_bbx_gt.txt": "\n".join(lines) + "\n"}
