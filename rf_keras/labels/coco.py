"""COCO JSON: images, annotations (bbox x y w h, iscrowd or ignore, keypoints) and categories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rf_keras.labels.model import (
    Face,
    LabelError,
    Labels,
    Record,
    Sample,
    box_of_size,
    classes_of_faces,
    exact,
    five_points,
    order_of_points,
)
from tflite.spec import LANDMARK_NAMES

VISIBLE = 2
FILE = "annotations.json"


def is_coco(document: Any) -> bool:
    """Whether a JSON document has the parts of the format."""
    return isinstance(document, dict) and isinstance(document.get("images"), list) and "annotations" in document


def parse(
    path: Path, document: Any, roots: Sequence[Path], chosen: Sequence[str] = (), least_score: float = 0.0
) -> Labels:
    """Args:
        document: the JSON.
        roots: see `Labels`.
        chosen: names of the classes that are faces.
        least_score: of annotations that have one, a detector's, those to take.

    Raises:
        LabelError: parts that are missing or of another type; names the annotation.
    """
    faces: dict[Any, list[Face]] = {}
    try:
        categories = {one["id"]: one for one in document.get("categories", ())}
        wanted, ignored = set(categories), set[Any]()
        if categories:
            wanted, ignored = classes_of_faces({i: str(c["name"]) for i, c in categories.items()}, chosen, str(path))
        images = {one["id"]: one for one in document["images"]}
        faces = {number: [] for number in images}
        for number, one in enumerate(document["annotations"], 1):
            place = f"{path}: annotation {one.get('id', number)}"
            category = one.get("category_id")
            if (categories and category not in wanted | ignored) or float(one.get("score", 1)) < least_score:
                continue
            if one["image_id"] not in faces:
                raise LabelError(f"{place}: image_id {one['image_id']}, which no image has")
            faces[one["image_id"]].append(_face(place, one, categories.get(category, {}), category in ignored))
        records = [
            Record(str(one["file_name"]), faces[number], f"{path}: image {number}", _size(one))
            for number, one in images.items()
        ]
    except LabelError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise LabelError(f"{path}: {reason}, expected COCO's images, annotations and categories") from None
    if not records:
        raise LabelError(f"{path}: names no image, expected some in 'images'")
    return Labels("COCO JSON", path, "sizes", records, roots)


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if width and height else None


def _face(place: str, one: Mapping[str, Any], category: Mapping[str, Any], ignored: bool) -> Face:
    values = [float(value) for value in one["bbox"]]
    if len(values) != 4:
        raise LabelError(f"{place}: bbox of {len(values)} values, expected x y w h")
    box = box_of_size(place, values)
    return Face(box, _points(place, one, category), bool(ignored or one.get("iscrowd") or one.get("ignore")), place)


def _points(place: str, one: Mapping[str, Any], category: Mapping[str, Any]) -> tuple[float, ...] | None:
    flat = [float(value) for value in one.get("keypoints") or ()]
    names = [str(name) for name in category.get("keypoints") or [""] * (len(flat) // 3)]
    order = order_of_points(names)
    if not flat or order is None:
        return None
    if len(flat) != 3 * len(names):
        raise LabelError(f"{place}: {len(flat)} keypoint values, expected x y v of {len(names)} points")
    picked = [flat[3 * index : 3 * index + 3] for index in order]
    return five_points(place, [v for x, y, _ in picked for v in (x, y)], [bool(v) for _, _, v in picked])


def write(named: Sequence[tuple[str, Sample]], folder: Path) -> dict[Path, str]:
    """`annotations.json`, path → text."""
    return {folder / FILE: json.dumps(document_of(named), indent=1, ensure_ascii=False) + "\n"}


def document_of(named: Sequence[tuple[str, Sample]]) -> dict[str, Any]:
    """The document; images and annotations are numbered from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, sample) in enumerate(named, 1):
        width, height = sample.size or (0, 0)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for boxes, crowd in ((sample.boxes, 0), (sample.ignored, 1)):
            for row, (x1, y1, x2, y2) in enumerate(boxes.astype(float).tolist()):
                size = exact(x2 - x1), exact(y2 - y1)
                one: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
                one |= {"bbox": [exact(x1), exact(y1), *size], "area": exact(size[0] * size[1]), "iscrowd": crowd}
                if not crowd and (sample.landmarks[row] != -1).any():
                    points = sample.landmarks[row].tolist()
                    one["keypoints"] = [value for x, y in points for value in (exact(x), exact(y), VISIBLE)]
                    one["num_keypoints"] = len(points)
                annotations.append(one)
    category = {"id": 1, "name": "face", "keypoints": list(LANDMARK_NAMES)}
    return {"images": images, "annotations": annotations, "categories": [category]}
