"""From a folder or a label file of any known format to samples: find, parse, look at the pictures, check."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rf_keras.labels import answers, coco, retinaface, voc, wider, yolo
from rf_keras.labels.checks import check_labels
from rf_keras.labels.model import (
    LABEL_FILE,
    UNKNOWN,
    Face,
    LabelError,
    Labels,
    NoLabels,
    Record,
    Sample,
    read_lines,
    read_text,
)
from rf_keras.labels.pictures import NAMED, NearMatches, find_root, looks, place_of, tell_missing
from tflite.images import IMAGE_SUFFIXES

MAX_MISSING = 0.05
EXPECTED = (
    f"{LABEL_FILE}, labelv2.txt, {wider.OFFICIAL_GLOB}, COCO JSON, YOLO's {yolo.FILE} or labels/, or Pascal VOC's "
    f"{voc.FOLDER}/"
)
YAML = (".yaml", ".yml")


def read_labels(
    data_dir: str | Path,
    max_missing: float = MAX_MISSING,
    *,
    split: str = "train",
    classes: Sequence[str] = (),
    least_score: float = 0.0,
) -> list[Sample]:
    """The labelled images of a folder or of a label file, in the order of the labels.

    Args:
        data_dir: folder with pictures and labels of any format that `find_labels` knows, or a label file.
        max_missing: largest share (0 to 1) of labelled images that may be missing or unreadable, and one at least
            unless it is 0; those are named in a warning and left out.
        split: the part of a YOLO `data.yaml` to take, "train" or "val".
        classes: names of the classes that are faces; empty: those that are called so, or the only one.
        least_score: of a detector's answers, those to take.

    Returns:
        Samples; images without a face are kept (negatives), boxes under a pixel are dropped.

    Raises:
        LabelError: no labels, a malformed line, too many missing images, or labels that cannot be right.
    """
    if not 0 <= max_missing <= 1:
        raise LabelError(f"max_missing is {max_missing}, expected a share between 0 and 1")
    labels = parse(Path(data_dir), split, classes, least_score)
    records = _merged(labels)
    root = find_root([record.name for record in records], labels.roots)
    places = {record.name: _picture(root, record) for record in records}
    _tell_absent(labels, root, [record for record in records if places[record.name] is None], len(records), max_missing)
    here = [(record, path) for record in records if (path := places[record.name]) is not None]
    found = looks([path for _, path in here], max_missing, str(labels.path))
    here = [(record, path) for record, path in here if path in found]
    sizes = [found[path].size for _, path in here]
    if labels.form == "shares":
        here = [(_in_pixels(record, size), path) for (record, path), size in zip(here, sizes, strict=True)]
    check_labels(labels, [record for record, _ in here], sizes)
    return [_make_sample(path, record.faces, found[path].size, found[path].plain) for record, path in here]


def describe(data_dir: str | Path) -> str:
    """The labels' format, as a plan states it; empty where there are none."""
    path = Path(data_dir)
    try:
        kind, file = find_labels(path)
    except LabelError:
        return ""
    if kind == "text":
        return parse_text(file, ()).kind
    if kind == "JSON":
        return _parse_json(file, path, (), 0.0).kind
    return kind


def find_labels(path: Path) -> tuple[str, Any]:
    """What format the labels of a folder or file have, and the file, files or folder that hold them.

    In a folder, in this order: `label.txt`, `labelv2.txt`, WIDER FACE's official file (also in `wider_face_split/`
    beside), `data.yaml`, COCO JSON in it or in `annotations/`, YOLO's `labels/` beside `images/`, Pascal VOC.

    Raises:
        NoLabels: there is none of them.
        LabelError: there are several of the same format.
    """
    if path.is_file():
        suffix = path.suffix.lower()
        return ("YOLO txt" if suffix in YAML else "JSON" if suffix in (".json", ".jsonl") else "text"), path
    if not path.is_dir():
        raise NoLabels(f"{path}: no such folder, expected one with pictures and labels ({EXPECTED})")
    for name in (LABEL_FILE, "labelv2.txt"):
        if (path / name).is_file():
            return "text", path / name
    official = sorted(path.glob(wider.OFFICIAL_GLOB))
    if not official:
        part = path.resolve().name.removeprefix("WIDER_")
        official = sorted((path.parent / "wider_face_split").glob(f"wider_face_{part}_bbx_gt.txt"))
    if official:
        return "text", _only(path, official)
    if (description := yolo.yaml_of(path)) is not None:
        return "YOLO txt", description
    documents = [
        p for p in (*sorted(path.glob("*.json")), *sorted((path / "annotations").glob("*.json"))) if _is_set(p)
    ]
    if documents:
        return "COCO JSON", _only(path, documents)
    for images in (path / "images", path):
        if images.is_dir() and yolo.label_folder(images):
            return "YOLO txt", images
    if files := voc.find_files(path):
        return "Pascal VOC", files
    raise NoLabels(f"{path}: no labels, expected {EXPECTED}")


def _only(folder: Path, found: Sequence[Path]) -> Path:
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise LabelError(f"{folder}: {len(found)} label files ({names}), expected one; name the file to use")
    return found[0]


def _is_set(path: Path) -> bool:
    try:
        return coco.is_coco(_json(path))
    except LabelError:
        return False


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(f"{path}: no JSON ({error}), expected COCO's or a detector's answers") from None


def parse(path: Path, split: str = "train", classes: Sequence[str] = (), least_score: float = 0.0) -> Labels:
    """Read labels without a look at the pictures; arguments and errors as `read_labels`."""
    kind, found = find_labels(path)
    if kind == "YOLO txt":
        return yolo.parse(found, split, classes)
    if kind == "Pascal VOC":
        return voc.parse(path, found, classes)
    if kind == "text":
        return parse_text(found, _roots(found, path))
    return _parse_json(found, path, classes, least_score)


def parse_text(path: Path, roots: Sequence[Path]) -> Labels:
    """`label.txt`, `labelv2.txt` or WIDER FACE's file, told apart by the first line."""
    lines = read_lines(path)
    first = next((line for line in lines if line.strip()), "")
    official = path.match(wider.OFFICIAL_GLOB) or (first and not first.startswith("#") and len(first.split()) == 1)
    return (wider if official else retinaface).parse(path, lines, roots)


def _parse_json(path: Path, given: Path, classes: Sequence[str], least_score: float) -> Labels:
    if path.suffix.lower() == ".jsonl":
        rows: list[answers.Answer] = []
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                try:
                    document = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise LabelError(f"{path}:{number}: no JSON ({error}), expected a detector's answer") from None
                if not answers.is_line(document):
                    raise LabelError(f"{path}:{number}: expected an object with file and faces")
                rows.append((document["file"], document["faces"], f"{path}:{number}"))
        return answers.parse(path, rows, least_score)
    document = _json(path)
    if coco.is_coco(document):
        return coco.parse(path, document, _roots(path, given), classes, least_score)
    if (found := answers.answers_of(document)) is not None:
        return answers.parse(path, [(name, faces, f"{path}: {name}") for name, faces in found], least_score)
    raise LabelError(
        f"{path}: {type(document).__name__}, expected COCO's images and annotations or a detector's answers"
    )


def _roots(file: Path, given: Path) -> list[Path]:
    """Folders that may hold the pictures of a label file, the likeliest first."""
    folder = given if given.is_dir() else file.parent
    beside = file.parent.parent
    part = file.stem.removeprefix("instances_")  # COCO's annotations/instances_train2017.json: train2017/
    # The last is where a detector ran that wrote COCO JSON.
    return [folder / "images", folder, beside / "images", beside / part, beside, beside / "images" / part, Path()]


def _merged(labels: Labels) -> list[Record]:
    """One record per picture; a header per face is a picture that is named again and again."""
    records: dict[str, Record] = {}
    repeated: list[tuple[Record, Record]] = []
    for record in labels.records:
        before = records.get(record.name)
        if before is None:
            records[record.name] = record
            continue
        known = {(face.box, face.points) for face in before.faces}
        new = [face for face in record.faces if (face.box, face.points) not in known]
        records[record.name] = replace(before, faces=[*before.faces, *new])
        repeated.append((before, record))
    if repeated:
        first, again = repeated[0]
        logging.getLogger(__name__).warning(
            "%s: %d pictures are named again, the first, %s, at %s and %s; their faces are taken together",
            *(labels.path, len({again.name for _, again in repeated}), first.name, first.place, again.place),
        )
    return list(records.values())


def _picture(root: Path, record: Record) -> Path | None:
    if (path := place_of(root, record.name)) is not None:
        return path
    tries = (root / f"{stem}{suffix}" for stem in record.stems for suffix in IMAGE_SUFFIXES)
    return next((path for path in tries if path.is_file()), None)


def _tell_absent(labels: Labels, root: Path, absent: Sequence[Record], total: int, max_missing: float) -> None:
    """Raises: LabelError: too many pictures are missing."""
    if not absent:
        return
    names = ", ".join(record.name for record in absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
    near = NearMatches(root if root.is_dir() else labels.path if labels.path.is_dir() else labels.path.parent)
    hint = near.propose(absent[0].name)
    text = f"{labels.path}: {len(absent)} of {total} images are missing from {root} ({names}{hint and f'; {hint}'})"
    tell_missing(text, len(absent), total, max_missing)


def _in_pixels(record: Record, size: tuple[int, int]) -> Record:
    scale = np.array(size, float)

    def scaled(values: Sequence[float]) -> Any:
        return tuple((np.reshape(values, (-1, 2)) * scale).ravel().tolist())

    faces = [
        replace(face, box=scaled(face.box), points=None if face.points is None else scaled(face.points))
        for face in record.faces
    ]
    return replace(record, faces=faces)


def _make_sample(image: Path, faces: Sequence[Face], size: tuple[int, int], plain: bool) -> Sample:
    unknown = (UNKNOWN,) * 10
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    landmarks = np.array([face.points or unknown for face in faces], np.float32).reshape(-1, 5, 2)
    ignored = np.array([face.ignored for face in faces], bool)
    keep = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return Sample(image, boxes[keep & ~ignored], landmarks[keep & ~ignored], boxes[keep & ignored], size, plain)
