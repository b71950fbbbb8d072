"""The faces of all pictures as a file: JSON, JSON lines, COCO, YOLO or CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

from tflite.files import is_special, write_text
from tflite.postprocess import Detections
from tflite.spec import LANDMARK_NAMES

JSON, JSONL, COCO, YOLO, CSV = "json", "jsonl", "coco", "yolo", "csv"
FORMATS = (JSON, JSONL, COCO, YOLO, CSV)
BY_SUFFIX = {".json": JSON, ".jsonl": JSONL, ".csv": CSV}  # where --format does not say
LEFT = "left and right are those of the picture, not of the person"
LEFT_UPRIGHT = "left and right are those of the picture turned so that the face is upright, not of the person"
COLUMNS = (
    *("file", "frame", "time", "width", "height", "face", "track", "score", "x1", "y1", "x2", "y2"),
    *(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy"),
)


class Record(NamedTuple):
    """The faces of one picture or frame.

    Attributes:
        file: as given on the command line.
        name: relative path for a file of its own, with the picture's suffix.
        width, height: of the picture in pixels.
        found: its faces.
        frame, seconds: of a video; None for a picture.
        tracks: number of each face's track; None without tracking.
        mesh, pose: whether JSON has them (`Detections.to_list`).
    """

    file: str
    name: Path
    width: int
    height: int
    found: Detections
    frame: int | None = None
    seconds: float | None = None
    tracks: list[int] | None = None
    mesh: bool = False
    pose: bool = False

    @property
    def place(self) -> dict[str, Any]:
        """Frame and time of a video's frame, else nothing."""
        return {} if self.frame is None else {"frame": self.frame, "time": round(self.seconds or 0.0, 4)}

    def faces(self) -> list[dict[str, Any]]:
        """`Detections.to_list`, with the track of each face where there is tracking."""
        faces = self.found.to_list(self.mesh, self.pose)
        if self.tracks is not None:
            for face, track in zip(faces, self.tracks, strict=True):
                face["track"] = track
        return faces

    def named(self) -> dict[str, Any]:
        """JSON-ready: file, width, height, faces whose landmarks have names."""
        faces = self.faces()
        for face in faces:
            face["landmarks"] = dict(zip(LANDMARK_NAMES, face["landmarks"], strict=True))
        return {"file": self.file, **self.place, "width": self.width, "height": self.height, "faces": faces}


class FacesFile(Protocol):
    """Takes each picture's faces; `finish` is called once, also at an early end that the user asked for."""

    def add(self, record: Record) -> None: ...
    def finish(self) -> None: ...


Put = Callable[[str], None]  # takes the whole text of a document, or one more part of lines


class JsonFile:
    """{"landmarks": names, "left": what left means, "images": [`Record.named`]}."""

    def __init__(self, put: Put, left: str) -> None:
        self._put, self._left = put, left
        self._images: list[str] = []

    def add(self, record: Record) -> None:
        self._images.append(json.dumps(record.named()))

    def finish(self) -> None:
        head = f'{{"landmarks": {json.dumps(LANDMARK_NAMES)},\n"left": {json.dumps(self._left)},\n"images": ['
        self._put(head + ",".join(f"\n {image}" for image in self._images) + "]}\n")


class CocoFile:
    """Images, annotations with keypoints (`Detections.to_coco`) and the one category."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, record: Record) -> None:
        number = len(self._images) + 1
        name = record.file if record.frame is None else f"{record.file}#{record.frame}"
        image = {"id": number, "file_name": name, "width": record.width, "height": record.height}
        self._images.append({**image, **record.place})
        annotations = record.found.to_coco(number, len(self._annotations) + 1)
        for i, track in enumerate(record.tracks or ()):
            annotations[i]["track_id"] = track
        self._annotations += annotations

    def finish(self) -> None:
        category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": LANDMARK_NAMES, "skeleton": []}
        document = {"images": self._images, "annotations": self._annotations, "categories": [category]}
        self._put(json.dumps(document) + "\n")


class LinesFile:
    """`Record.named` as a line per picture."""

    def __init__(self, put: Put) -> None:
        self._put = put

    def add(self, record: Record) -> None:
        self._put(json.dumps(record.named()) + "\n")

    def finish(self) -> None:
        pass


class CsvFile:
    """A row per face (`COLUMNS`); pictures without a face have none.

    Args:
        header: write the row of names first.
    """

    def __init__(self, put: Put, header: bool) -> None:
        self._put, self._header = put, header

    def add(self, record: Record) -> None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if self._header:
            rows.writerow(COLUMNS)
            self._header = False
        place = record.place
        for i, face in enumerate(record.faces()):
            points = [value for point in face["landmarks"] for value in point]
            head = [record.file, place.get("frame"), place.get("time"), record.width, record.height]
            rows.writerow([*head, i, face.get("track"), face["score"], *face["box"], *points])
        self._put(text.getvalue())

    def finish(self) -> None:
        pass


class YoloFolder:
    """A text file per picture, of its name: a line per face, class 0, box and points as shares of the picture.

    The layout of YOLO's pose data sets (kpt_shape: [5, 3], flip_idx: [1, 0, 2, 4, 3]): centre x, y, width, height, then
    x, y, visibility of each point: 2, or 0 0 0 where it lies outside the picture.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, record: Record) -> None:
        write_text(self._folder / yolo_name(record.name), yolo_text(record))

    def finish(self) -> None:
        pass


def yolo_name(name: Path) -> Path:
    """Of the text file for a picture or frame of this name."""
    return name.with_suffix(".txt")


def yolo_text(record: Record) -> str:
    """The lines of one picture."""
    size = np.array((record.width, record.height), np.float64)
    lines = []
    for box, points in zip(record.found.boxes.astype(np.float64), record.found.landmarks / size, strict=True):
        centre, side = (box[:2] + box[2:]) / 2 / size, (box[2:] - box[:2]) / size
        inside = ((points >= 0) & (points <= 1)).all(axis=1)
        triples = [f"{x:.6f} {y:.6f} 2" if ok else "0 0 0" for (x, y), ok in zip(points, inside, strict=True)]
        lines.append(" ".join(["0", *(f"{value:.6f}" for value in (*centre, *side)), *triples]) + "\n")
    return "".join(lines)


def format_of(path: str, chosen: str | None) -> str | None:
    """The format of a file for faces: as chosen, else by its suffix; None where that says nothing."""
    return chosen or BY_SUFFIX.get(Path(path).suffix.lower())


def append_to(path: Path, stack: contextlib.ExitStack) -> IO[str]:
    """The file open for lines; a cut last line, of a command that was killed, is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = not is_special(path) and ends_in_a_line(path)
    lines = stack.enter_context(path.open("a", encoding="utf-8"))
    if cut:
        lines.write("\n")
    return lines


def ends_in_a_line(path: Path) -> bool:
    """Whether the last line of a file, if there is one, lacks its end: of a command that was killed."""
    try:
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
    except FileNotFoundError:
        return False
