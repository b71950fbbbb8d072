"""Answers of `python -m tflite.detect --json` or `--jsonl` as labels: pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rf_keras.labels.model import Face, LabelError, Labels, Record, box_of_corners, five_points
from tflite.spec import LANDMARK_NAMES

Answer = tuple[str, Any, str]  # picture, its faces, place


def answers_of(document: Any) -> list[tuple[str, Any]] | None:
    """Pictures and their faces in a JSON document of the detector, a list of `images` or picture → list of faces; None
    in another document."""
    if not isinstance(document, dict) or not document:
        return None
    images = document.get("images")
    if isinstance(images, list) and images and all(map(is_line, images)):
        return [(one["file"], one["faces"]) for one in images]
    return list(document.items()) if all(isinstance(value, list) for value in document.values()) else None


def is_line(document: Any) -> bool:
    """Whether a JSON document is a line of --jsonl, or one of a document's `images`."""
    return isinstance(document, dict) and isinstance(document.get("file"), str) and "faces" in document


def parse(path: Path, answers: Sequence[Answer], least_score: float = 0.0) -> Labels:
    """Args:
        answers: of each picture.
        least_score: faces below are left out.

    Raises:
        LabelError: a face that lacks box or score.
    """
    records = []
    for name, found, place in answers:
        try:
            faces = list(_faces(place, found, least_score))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, LabelError):
                raise
            raise LabelError(f"{place}: {type(error).__name__} {error}, expected box, score and landmarks") from None
        records.append(Record(name, faces, place))
    # Names are as the detector's command line had them.
    return Labels("answers of a detector", path, "corners", records, [Path(), path.parent])


def _faces(place: str, found: Sequence[Any], least_score: float) -> Iterator[Face]:
    for number, one in enumerate(found, 1):
        if float(one["score"]) < least_score:
            continue
        here = f"{place}, face {number}"
        marks = one.get("landmarks") or ()
        marks = [marks[name] for name in LANDMARK_NAMES] if isinstance(marks, dict) else marks
        points = [float(value) for point in marks for value in point]
        box = box_of_corners(here, [float(value) for value in one["box"]])
        yield Face(box, five_points(here, points) if len(points) == 10 else None, place=here)
