"""Answers of `python -m tflite.detect --json` or `--jsonl` as labels: pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rf_keras.labels.model import Face, LabelError, Labels, Record, box_of_corners, five_points

Answer = tuple[str, Any, str]  # picture, its faces, place


def is_answers(document: Any) -> bool:
    """Whether a JSON document is what the detector writes: picture → list of faces."""
    return isinstance(document, dict) and bool(document) and all(isinstance(v, list) for v in document.values())


def is_line(document: Any) -> bool:
    """Whether a JSON document is a line of --jsonl."""
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
        points = [float(value) for point in one.get("landmarks") or () for value in point]
        box = box_of_corners(here, [float(value) for value in one["box"]])
        yield Face(box, five_points(here, points) if len(points) == 10 else None, place=here)
