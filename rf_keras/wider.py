"""Reads face labels: RetinaFace's `label.txt` and WIDER FACE's official `wider_face_*_bbx_gt.txt`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LABEL_FILE = "label.txt"
OFFICIAL_GLOB = "wider_face_*_bbx_gt.txt"
UNKNOWN = -1.0  # every landmark coordinate of a face whose landmarks are not known

# `label.txt`: x y w h, then perhaps five landmarks "x y flag" and a confidence. Validation files stop after the box.
LABEL_COUNTS = (4, 20)
# Official: x y w h blur expression illumination invalid occlusion pose.
OFFICIAL_COUNT = 10
OFFICIAL_INVALID = 7


class LabelError(ValueError):
    """Labels cannot be used; the message is one line: place, what was found, what was expected."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled image.

    Attributes:
        image: path of the image file.
        boxes: float32 [N, 4], x1, y1, x2, y2 in image pixels; may leave the image slightly, as WIDER's do.
        landmarks: float32 [N, 5, 2], x, y in image pixels in the order of `LANDMARK_NAMES`; all −1 where unknown.
    """

    image: Path
    boxes: np.ndarray
    landmarks: np.ndarray


def read_labels(data_dir: str | Path, max_missing: float = 0.0) -> list[Sample]:
    """The labelled images of a folder, in the order of its label file.

    Args:
        data_dir: folder with `images/` and either `label.txt` or `wider_face_*_bbx_gt.txt`. The official layout works
            too: `WIDER_train` with `wider_face_split/` beside it. Or the path of a label file beside `images/`.
        max_missing: largest share (0 to 1) of labelled images that may be missing on disk; those are named in a
            warning and left out.

    Returns:
        Samples; images without a face are kept (negatives), boxes without area and WIDER's `invalid` faces are dropped.

    Raises:
        LabelError: no label file, a malformed line, a negative or non-finite box, or too many missing images.
    """
    if not 0 <= max_missing <= 1:
        raise LabelError(f"max_missing is {max_missing}, expected a share between 0 and 1")
    label_file, image_dir = find_labels(Path(data_dir))
    official = label_file.name != LABEL_FILE and label_file.match(OFFICIAL_GLOB)
    try:
        lines = label_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{label_file}: cannot be read as text ({error}), expected a label file") from None
    parse = _parse_official if official else _parse_labels
    samples = [_make_sample(image_dir / name, rows) for name, rows in parse(label_file, lines)]
    if not samples:
        expected = "an image path per block" if official else "lines '# relative/path.jpg'"
        raise LabelError(f"{label_file}: names no image, expected {expected}")
    return _without_missing(samples, label_file, image_dir, max_missing)


def find_labels(data_dir: Path) -> tuple[Path, Path]:
    """(label file, image folder) of a data folder or label file; LabelError where there is none or no single one."""
    if data_dir.is_file():
        return data_dir, data_dir.parent / "images"
    if not data_dir.is_dir():
        raise LabelError(f"{data_dir}: no such folder, expected one with images/ and {LABEL_FILE} or {OFFICIAL_GLOB}")
    if (data_dir / LABEL_FILE).is_file():
        return data_dir / LABEL_FILE, data_dir / "images"
    found = sorted(data_dir.glob(OFFICIAL_GLOB))
    if not found:
        split = data_dir.resolve().name.removeprefix("WIDER_")
        found = sorted((data_dir.parent / "wider_face_split").glob(f"wider_face_{split}_bbx_gt.txt"))
    if not found:
        raise LabelError(f"{data_dir}: no label file, expected {LABEL_FILE} or {OFFICIAL_GLOB} beside images/")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise LabelError(f"{data_dir}: {len(found)} label files ({names}), expected one; name the file to use")
    return found[0], data_dir / "images"


def format_label(boxes: np.ndarray, landmarks: np.ndarray, confidence: float = 1.0) -> Iterator[str]:
    """The lines of `label.txt` for one image's faces; inverse of what `read_labels` parses (to 0.01 px)."""
    for (x1, y1, x2, y2), points in zip(boxes, landmarks, strict=True):
        flag = UNKNOWN if (points == UNKNOWN).all() else 0.0
        marks = " ".join(f"{x:.2f} {y:.2f} {flag:.1f}" for x, y in points)
        yield f"{x1:.2f} {y1:.2f} {x2 - x1:.2f} {y2 - y1:.2f} {marks} {confidence:.2f}"


Row = tuple[Sequence[float], Sequence[float]]  # x y w h; ten landmark coordinates
_NO_LANDMARKS = (UNKNOWN,) * 10


def _parse_labels(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    name = ""
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.startswith("#"):
            if name:
                yield name, rows
            name, rows = line[1:].strip(), []
            if not name:
                raise LabelError(f"{path}:{number}: '#' without a path, expected '# relative/path.jpg'")
        elif line:
            if not name:
                raise LabelError(
                    f"{path}:{number}: a face before any image, expected a line '# relative/path.jpg' first"
                )
            values = _numbers(path, number, line, LABEL_COUNTS)
            rows.append((_box(path, number, values), _landmarks(path, number, values)))
    if name:
        yield name, rows


def _parse_official(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        count_text = lines[at + 1].strip() if at + 1 < len(lines) else "the end of the file"
        if not count_text.isdecimal():
            raise LabelError(f"{path}:{at + 2}: {count_text!r} after {name}, expected its number of faces")
        count = int(count_text)
        # An image without faces has one line of zeros in its place.
        block = lines[at + 2 : at + 2 + max(count, 1)]
        if len(block) < count:
            raise LabelError(f"{path}:{at + 2}: {len(block)} faces follow for {name}, expected {count}")
        rows: list[Row] = []
        for number, line in enumerate(block[:count], at + 3):
            values = _numbers(path, number, line, (OFFICIAL_COUNT,))
            if values[OFFICIAL_INVALID] == 0:
                rows.append((_box(path, number, values), _NO_LANDMARKS))
        yield name, rows
        zeros = count == 0 and block and not any(value.strip("0") for value in block[0].split())
        at += 2 + (count or int(bool(zeros)))


def _numbers(path: Path, number: int, line: str, counts: Sequence[int]) -> list[float]:
    fields = line.split()
    expected = " or ".join(map(str, counts))
    if len(fields) not in counts:
        raise LabelError(f"{path}:{number}: {len(fields)} values, expected {expected}")
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise LabelError(f"{path}:{number}: {error}, expected {expected} numbers") from None


def _box(path: Path, number: int, values: Sequence[float]) -> Sequence[float]:
    box = values[:4]
    if not all(map(math.isfinite, box)) or box[2] < 0 or box[3] < 0:
        shown = " ".join(f"{value:g}" for value in box)
        raise LabelError(f"{path}:{number}: box {shown}, expected finite x y w h with w, h >= 0")
    return box


def _landmarks(path: Path, number: int, values: Sequence[float]) -> Sequence[float]:
    if len(values) == 4:
        return _NO_LANDMARKS
    points = [value for start in range(4, 19, 3) for value in values[start : start + 2]]
    if not all(map(math.isfinite, points)):
        raise LabelError(f"{path}:{number}: a landmark is not finite, expected pixels, or -1 for all where unknown")
    # The loss takes a face's five points or none: a face with one unknown point counts as unknown.
    known = all(points[i : i + 2] != [UNKNOWN, UNKNOWN] for i in range(0, 10, 2))
    return points if known else _NO_LANDMARKS


def _make_sample(image: Path, rows: Sequence[Row]) -> Sample:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    landmarks = np.array([points for _, points in rows], np.float32).reshape(-1, 5, 2)
    keep = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    boxes[:, 2:] += boxes[:, :2]
    return Sample(image, boxes[keep], landmarks[keep])


def _without_missing(samples: list[Sample], label_file: Path, image_dir: Path, max_missing: float) -> list[Sample]:
    here = [sample for sample in samples if sample.image.is_file()]
    missing = [sample.image for sample in samples if not sample.image.is_file()]
    if missing:
        names = ", ".join(str(path.relative_to(image_dir)) for path in missing[:3]) + (
            ", …" if len(missing) > 3 else ""
        )
        text = f"{label_file}: {len(missing)} of {len(samples)} images are missing from {image_dir} ({names})"
        if len(missing) > max_missing * len(samples) or not here:
            raise LabelError(f"{text}, expected at most {max_missing:.0%}")
        logging.getLogger(__name__).warning("%s; going on without them", text)
    return here
