"""Labels that cannot be right: noticed with the first place and the count, refused where it is most of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rf_keras.labels.model import LabelError, Labels, Record, Sample, listed

SHARES = 1.5  # pixels: boxes that end before are shares of the picture
BEYOND = 0.1  # of a box's side, and two pixels: by that much annotators draw past the edge
FAR_POINT = 0.5  # of a box's side, that a point may lie outside of it
FACE_SHAPE = 0.8  # width ÷ height
FEW_FACES = 10  # with fewer, eyes in the wrong order may be a turned photo


class Faces:
    """All faces of a set in one array each.

    Args:
        records: with faces in pixels.
        sizes: width and height of each record's picture.
    """

    def __init__(self, records: Sequence[Record], sizes: Sequence[tuple[int, int]]) -> None:
        every = [(face, size) for record, size in zip(records, sizes, strict=True) for face in record.faces]
        self.places = [face.place for face, _ in every]
        self.boxes = np.array([face.box for face, _ in every], np.float64).reshape(-1, 4)
        self.limits = np.array([size for _, size in every], np.float64).reshape(-1, 2)
        self.sides = self.boxes[:, 2:] - self.boxes[:, :2]
        known = [face.points if face.points else (np.nan,) * 10 for face, _ in every]
        self.points = np.array(known, np.float64).reshape(-1, 5, 2)

    def __len__(self) -> int:
        return len(self.boxes)


def check_labels(labels: Labels, records: Sequence[Record], sizes: Sequence[tuple[int, int]]) -> None:
    """Look for what cannot be right in a set.

    Args:
        labels: for the names of file and form.
        records: those whose pictures are there, with faces in pixels.
        sizes: width and height of each one's upright picture.

    Raises:
        LabelError: it is most of them.
    """
    _check_sizes(labels, records, sizes)
    faces = Faces(records, sizes)
    if not len(faces):
        return
    expected = {"sizes": "pixels x y w h", "corners": "pixels x1 y1 x2 y2", "shares": "shares of the picture, 0 to 1"}
    where, form = labels.path, expected[labels.form]

    def notice(wrong: Any, what: str, out_of: int | None = None) -> None:
        """Raises: LabelError: they are most."""
        total, count = out_of or len(faces), int(wrong.sum())
        if not count:
            return
        first = int(wrong.argmax())
        box = faces.boxes[first] if labels.form != "sizes" else [*faces.boxes[first, :2], *faces.sides[first]]
        width, height = faces.limits[first].astype(int)
        text = f"{count} of {total} {what}, the first at {faces.places[first]} ({listed(box)} in {width}×{height})"
        _tell(where, f"{text}, expected {form}", count, total)

    ends, limits = faces.boxes[:, 2:], faces.limits
    low, high = np.clip(faces.boxes[:, :2], 0, faces.limits), np.clip(faces.boxes[:, 2:], 0, faces.limits)
    if labels.form == "shares":
        notice(
            (np.abs(faces.boxes) > SHARES * np.tile(faces.limits, 2)).any(axis=1),
            "boxes are no shares of their picture",
        )
    else:
        notice(np.all((ends <= SHARES) & (limits > 2 * SHARES), axis=1), "boxes lie between 0 and 1")
    if labels.form == "sizes":
        _check_corners(labels, faces)
    inside = np.prod(high - low, axis=1)
    notice(np.asarray(2 * inside < np.prod(faces.sides, axis=1)), "boxes lie outside their picture")
    notice(np.any(faces.sides < 1, axis=1), "boxes are under 1 pixel and are left out")
    known = np.isfinite(faces.points).all(axis=(1, 2))
    if known.any():
        reach = FAR_POINT * faces.sides[:, None] + 2
        outside = (faces.points < faces.boxes[:, None, :2] - reach) | (faces.points > faces.boxes[:, None, 2:] + reach)
        notice(known & outside.any(axis=(1, 2)), "faces have points outside their box", int(known.sum()))
        crossed = known & (faces.points[:, 0, 0] > faces.points[:, 1, 0])
        if crossed.sum() > known.sum() / 2 and known.sum() >= FEW_FACES:
            first = faces.places[int(crossed.argmax())]
            _warn(
                where,
                f"in {crossed.sum()} of {known.sum()} faces the first eye is right of the second, first at {first}; "
                "expected the left of the picture first",
            )


def _check_corners(labels: Labels, faces: Faces) -> None:
    """x1 y1 x2 y2 where x y w h is expected: then each width exceeds its x, each height its y.

    Raises:
        LabelError: and most boxes leave their picture.
    """
    corners = faces.sides  # what was read as sizes
    sides = corners - faces.boxes[:, :2]
    both = ((sides > 0) & (corners > 0) & (corners <= faces.limits + 1)).all(axis=1)
    if both.mean() < 0.95:
        return
    slack = np.maximum(2, BEYOND * faces.sides)
    leaving = (faces.boxes[:, 2:] > faces.limits + slack).any(axis=1)

    def unlike_a_face(sides: np.ndarray) -> float:
        return float(np.abs(np.log(sides[:, 0] / sides[:, 1] / FACE_SHAPE)).mean())

    first = f"{faces.places[0]} ({listed([*faces.boxes[0, :2], *corners[0]])})"
    text = f"{len(faces)} boxes look like corners x1 y1 x2 y2, the first at {first}, expected x y w h"
    if leaving.mean() > 0.5:
        raise LabelError(f"{labels.path}: {text}: {int(leaving.sum())} leave their picture")
    if unlike_a_face(sides[both]) + 0.1 < unlike_a_face(corners[both]):
        _warn(labels.path, text)


def _check_sizes(labels: Labels, records: Sequence[Record], sizes: Sequence[tuple[int, int]]) -> None:
    """Raises: LabelError: most pictures have another size than the labels say."""
    stated = [(record, size) for record, size in zip(records, sizes, strict=True) if record.size]
    other = [(record, size) for record, size in stated if record.size != size]
    if not other:
        return
    record, size = other[0]
    assert record.size is not None
    turned = record.size == size[::-1]
    why = "its EXIF turns it, and labels are of what a viewer shows" if turned else "boxes are of that size"
    text = (
        f"{len(other)} of {len(stated)} pictures have another size than their labels say, the first at {record.place}: "
        f"{record.size[0]}×{record.size[1]}, found {size[0]}×{size[1]} ({why})"
    )
    _tell(labels.path, text, len(other), len(stated))


def check_apart(training: Sequence[Sample], validation: Sequence[Sample]) -> None:
    """Notice pictures that are in both, by their bytes.

    Raises:
        LabelError: most of the validation pictures are.
    """
    by_size: dict[int, list[Path]] = {}
    for sample in training:
        by_size.setdefault(sample.image.stat().st_size, []).append(sample.image)
    hashes: dict[Path, bytes] = {}

    def content(path: Path) -> bytes:
        if path not in hashes:
            hashes[path] = hashlib.sha256(path.read_bytes()).digest()
        return hashes[path]

    shared: list[tuple[Path, Path]] = []
    for sample in validation:
        like = by_size.get(sample.image.stat().st_size, ())
        twin = next((path for path in like if content(path) == content(sample.image)), None)
        if twin is not None:
            shared.append((sample.image, twin))
    if shared:
        text = (
            f"{len(shared)} of {len(validation)} validation pictures are in training, too, the first as {shared[0][1]}"
        )
        _tell(shared[0][0], text, len(shared), len(validation))


def _tell(where: object, text: str, count: int, total: int) -> None:
    """Raises: LabelError: the count is more than half of the total."""
    if 2 * count > total:
        raise LabelError(f"{where}: {text}")
    _warn(where, text)


def _warn(where: object, text: str) -> None:
    logging.getLogger(__name__).warning("%s: %s", where, text)
