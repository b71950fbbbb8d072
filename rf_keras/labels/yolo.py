"""YOLO: a text file per picture below `labels/`, in shares of its width and height, perhaps with a `data.yaml`.

A line per face: class, centre x y, width, height, then perhaps five points, as x y or as x y visibility.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rf_keras.labels.model import (
    LARGEST_SMALL_FILE,
    UNKNOWN,
    Box,
    Face,
    LabelError,
    Labels,
    Record,
    Sample,
    classes_of_faces,
    five_points,
    listed,
    numbers,
    read_lines,
    read_text,
)
from tflite.finding import images_below
from tflite.images import IMAGE_SUFFIXES

COUNTS = (5, 15, 20)
FILE = "data.yaml"
CLASSES = "classes.txt"  # the names of the classes, a line each
VISIBLE = 2


def yaml_of(folder: Path) -> Path | None:
    """The description of a set in a folder."""
    for path in (folder / FILE, *sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))):
        if path.is_file() and re.search(r"^(train|val|names)\s*:", read_text(path, LARGEST_SMALL_FILE), re.M):
            return path
    return None


def label_folder(images: Path) -> Path | None:
    """Where the labels of a folder of pictures lie: the folder of the same name with `labels` for `images`."""
    parts = images.absolute().parts
    at = next((i for i in range(len(parts) - 1, -1, -1) if parts[i] == "images"), None)
    if at is None:
        return None
    folder = Path(*parts[:at], "labels", *parts[at + 1 :])
    return folder if folder.is_dir() and next(folder.rglob("*.txt"), None) else None


def parse(path: Path, split: str, chosen: Sequence[str] = ()) -> Labels:
    """Args:
        path: a `data.yaml`, or a folder of pictures that `label_folder` knows.
        split: the part of a `data.yaml` to take, "train" or "val".
        chosen: names of the classes that are faces.

    Raises:
        LabelError: a malformed file or no picture.
    """
    if path.is_dir():
        folders, names, root = [path], {}, path
        labels = label_folder(path) or path
        beside = (labels / CLASSES, labels.parent / CLASSES, path.parent / CLASSES)
        classes = [file for file in beside if file.is_file()]
        if classes:
            lines = read_lines(classes[0], LARGEST_SMALL_FILE)
            names = {i: line.strip() for i, line in enumerate(lines) if line.strip()}
    else:
        settings = read_yaml(read_text(path, LARGEST_SMALL_FILE))
        folders, root = _folders(path, settings, split)
        names = _names(path, settings.get("names") or {})
    wanted, ignored = classes_of_faces(names, chosen, str(path)) if names else (None, set[int]())
    records, classes_seen = [], set[int]()
    for image, label in _pairs(folders, path):
        shown = image.relative_to(root) if image.is_relative_to(root) else image
        faces = []
        for place, values in _rows(label):
            number = int(values[0])
            classes_seen.add(number)
            if wanted is None or number in wanted | ignored:
                faces.append(Face(_box(place, values), _points(place, values), number in ignored, place))
        records.append(Record(shown.as_posix(), faces, str(label), stems=(shown.with_suffix("").as_posix(),)))
    if wanted is None and len(classes_seen) > 1:
        found = ", ".join(map(str, sorted(classes_seen)[:9]))
        raise LabelError(f"{path}: classes {found} without names, expected one, or names in {FILE} or {CLASSES}")
    if not records:
        raise LabelError(f"{path}: no picture, expected some beside labels/")
    return Labels("YOLO txt", path, "shares", records, [root])


def _names(path: Path, given: Any) -> dict[int, str]:
    given = [given] if isinstance(given, str) else given
    rows = given.items() if isinstance(given, dict) else enumerate(given)
    try:
        return {int(number): str(name) for number, name in rows}
    except ValueError as error:
        raise LabelError(f"{path}: names: {error}, expected the classes' numbers and names") from None


def _folders(path: Path, settings: dict[str, Any], split: str) -> tuple[list[Path], Path]:
    """Folders or lists of pictures of a split, and the folder that names begin at."""
    base = Path(str(settings.get("path") or "."))
    root = next((r for r in (path.parent / base, base) if r.is_dir()), path.parent)
    given = settings.get(split) or settings.get({"val": "valid"}.get(split, split))
    if not given:
        raise LabelError(f"{path}: no {split!r}, expected a folder of pictures")
    folders = []
    for one in given if isinstance(given, list) else [given]:
        name = str(one)
        # Roboflow writes ../train/images for train/images.
        tries = [root / name, root / re.sub(r"^(\.\./)+", "", name), path.parent / name]
        found = next((t for t in tries if t.exists()), None)
        if found is None:
            raise LabelError(f"{path}: {split} is {name!r}, expected a folder below {root}")
        folders.append(found)
    return folders, root


def _pairs(folders: Sequence[Path], source: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures and their label files, which need not exist: no faces; then label files without a picture."""
    beside_of = functools.lru_cache(label_folder)
    for folder in folders:
        if folder.is_file():
            lines = [line.strip() for line in read_lines(folder) if line.strip()]
            images = [folder.parent / line for line in lines]
        else:
            errors: list[str] = []
            images = images_below(folder, errors)
            if errors:
                raise LabelError(errors[0])
        seen = set()
        for image in images:
            beside = image.with_suffix(".txt")
            labels = beside_of(image.parent)
            label = labels / beside.name if labels else beside
            seen.add(label.resolve())
            yield image, label
        labels = label_folder(folder) if folder.is_dir() else None
        for label in sorted(labels.rglob("*.txt")) if labels else ():
            if label.resolve() not in seen and label.name != CLASSES:
                assert labels is not None
                yield folder / label.relative_to(labels).with_suffix(IMAGE_SUFFIXES[0]), label


def _rows(label: Path) -> Iterator[tuple[str, list[float]]]:
    if not label.is_file():
        return
    for number, line in enumerate(read_lines(label, LARGEST_SMALL_FILE), 1):
        if line.strip():
            place = f"{label}:{number}"
            values = numbers(place, line.split(), COUNTS)
            if not np.isfinite(values).all() or values[0] != int(values[0]) or min(values[3:5]) < 0:
                raise LabelError(f"{place}: {listed(values[:5])}, expected a class, centre x y, width and height >= 0")
            yield place, values


def _box(place: str, values: Sequence[float]) -> Box:
    x, y, width, height = values[1:5]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _points(place: str, values: Sequence[float]) -> tuple[float, ...] | None:
    if len(values) == 5:
        return None
    step = (len(values) - 5) // 5
    points = [values[at : at + step] for at in range(5, len(values), step)]
    known = [len(p) == 2 or p[2] > 0 for p in points]
    return five_points(
        place, [value for p in points for value in p[:2]], [k and p[0] >= 0 for k, p in zip(known, points, strict=True)]
    )


def read_yaml(text: str) -> dict[str, Any]:
    """The few forms of YAML that a `data.yaml` has: `key: value`, with lists and maps in one line or below the key."""
    found: dict[str, Any] = {}
    key = ""
    for line in text.split("\n"):
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if not bare.strip() or bare.strip() == "---":
            continue
        if bare[0] not in " \t-":
            key, _, value = bare.partition(":")
            key, found[key] = key.strip(), _value(value.strip())
        elif key:
            item = bare.strip()
            if item.startswith("- "):
                found[key] = [*(found[key] or []), _value(item[2:].strip())]
            elif ":" in item and isinstance(found[key] or {}, dict):
                name, _, value = item.partition(":")
                found[key] = {**(found[key] or {}), _value(name.strip()): _value(value.strip())}
    return found


def _value(text: str) -> Any:
    if text[:1] == "[" and text[-1:] == "]":
        return [_value(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    if text[:1] == "{" and text[-1:] == "}":
        pairs = [part.partition(":") for part in text[1:-1].split(",") if part.strip()]
        return {_value(name.strip()): _value(value.strip()) for name, _, value in pairs}
    return text.strip("'\"")


def write(named: Sequence[tuple[str, Sample]], folder: Path) -> dict[Path, str]:
    """`data.yaml` and `labels/`, path → text. Regions to ignore get a class of their own, if there are any."""
    ignores = any(len(sample.ignored) for _, sample in named)
    names = ["face", *(["ignore"] if ignores else [])]
    head = ["train: images", "val: images", "kpt_shape: [5, 3]", "flip_idx: [1, 0, 2, 4, 3]", "names:"]
    files = {folder / FILE: "\n".join(head + [f"  {i}: {name}" for i, name in enumerate(names)]) + "\n"}
    for name, sample in named:
        assert sample.size is not None
        scale = np.array(sample.size, float)
        lines = []
        for box, points in zip(sample.boxes, sample.landmarks, strict=True):
            marks = points / scale
            seen = VISIBLE if (points != UNKNOWN).any() else 0
            flat = " ".join(f"{x * bool(seen)!r} {y * bool(seen)!r} {seen}" for x, y in marks.tolist())
            lines.append(f"0 {_centred(box, scale)} {flat}")
        lines += [f"1 {_centred(box, scale)}" + " 0 0 0" * 5 for box in sample.ignored]
        files[folder / "labels" / Path(name).with_suffix(".txt")] = "".join(line + "\n" for line in lines)
    return files


def _centred(box: np.ndarray, scale: np.ndarray) -> str:
    low, high = box[:2].astype(float) / scale, box[2:].astype(float) / scale
    return " ".join(repr(float(value)) for value in (*(low + high) / 2, *(high - low)))
