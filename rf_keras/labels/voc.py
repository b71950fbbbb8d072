"""Pascal VOC: an XML file per picture, usually below `Annotations/`.

Boxes are read as the continuous corners that today's tools write. Points are VOC's parts, named as `LANDMARK_NAMES`;
objects marked difficult are ignored.
"""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from rf_keras.labels.model import (
    LARGEST_SMALL_FILE,
    Face,
    LabelError,
    Labels,
    Record,
    Sample,
    box_of_corners,
    classes_of_faces,
    decimal,
    five_points,
    order_of_points,
)
from tflite.spec import LANDMARK_NAMES

FOLDER, IMAGES = "Annotations", "JPEGImages"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
DEEPEST = 32  # elements within one another


def read_xml(path: Path) -> Xml.Element:
    """A small XML file of a stranger: no document type, thus no entities to expand, and no deep nesting.

    Raises:
        LabelError: anything else.
    """

    def no_type(*_: object) -> None:
        raise ValueError("a document type or entities")

    def begin(tag: str, attributes: dict[str, str]) -> None:
        depth.append(tag)
        if len(depth) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        depth.pop()
        builder.end(tag)

    depth: list[str] = []
    builder, parser = Xml.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = no_type
    try:
        if (size := path.stat().st_size) > LARGEST_SMALL_FILE:
            raise ValueError(f"{size} bytes")
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except (OSError, ValueError, expat.ExpatError, AssertionError) as error:
        raise LabelError(f"{path}: {error}, expected a Pascal VOC annotation") from None


def find_files(folder: Path) -> list[Path]:
    """The XML files of a set, sorted."""
    for name in (FOLDER, FOLDER.lower(), "."):
        if found := sorted((folder / name).rglob("*.xml")):
            return found
    return []


def parse(folder: Path, files: Sequence[Path], chosen: Sequence[str] = ()) -> Labels:
    """Args:
        folder: that holds pictures and annotations.
        files: of `find_files`.
        chosen: names of the classes that are faces.

    Raises:
        LabelError: a malformed file.
    """
    documents = [(path, read_xml(path)) for path in files]
    names = sorted({_text(item, "name") for _, root in documents for item in root.iter("object")})
    numbered = dict(enumerate(names))
    wanted, ignored = classes_of_faces(numbered, chosen, str(folder)) if names else (set(), set())
    faces, crowds = ({numbered[i] for i in group} for group in (wanted, ignored))
    top = next((folder / name for name in (FOLDER, FOLDER.lower()) if (folder / name).is_dir()), folder)
    records = []
    for path, root in documents:
        if root.tag != "annotation":
            raise LabelError(f"{path}: element {root.tag[:40]!r}, expected 'annotation'")
        below = path.parent.relative_to(top) if path.is_relative_to(top) else Path()
        own = (below / path.stem).as_posix()
        found = [
            _face(f"{path}: object {number}", item, crowds)
            for number, item in enumerate(root.findall("object"), 1)
            if _text(item, "name") in faces | crowds
        ]
        name = _text(root, "filename").replace("\\", "/").rpartition("/")[2] or f"{path.stem}.jpg"
        records.append(Record((below / name).as_posix(), found, str(path), _size(root), (own,)))
    return Labels("Pascal VOC", folder, "corners", records, [folder / IMAGES, folder / "images", folder, top])


def _text(element: Xml.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _size(root: Xml.Element) -> tuple[int, int] | None:
    sides = [_text(root, f"size/{name}") for name in ("width", "height")]
    if not all(side.isascii() and side.isdecimal() and len(side) < 10 for side in sides) or "0" in sides:
        return None
    return int(sides[0]), int(sides[1])


def _corners(place: str, element: Xml.Element | None) -> list[float]:
    if element is None:
        raise LabelError(f"{place}: no bndbox, expected {', '.join(CORNERS)}")
    try:
        return [float(_text(element, name)) for name in CORNERS]
    except ValueError as error:
        raise LabelError(f"{place}: {error}, expected numbers in {', '.join(CORNERS)}") from None


def _face(place: str, item: Xml.Element, crowds: set[str]) -> Face:
    box = box_of_corners(place, _corners(place, item.find("bndbox")))
    parts = item.findall("part")
    order = order_of_points([_text(part, "name") for part in parts])
    points = None
    if parts and order is not None:
        spots = [_corners(place, parts[index].find("bndbox")) for index in order]
        points = five_points(place, [v for x1, y1, x2, y2 in spots for v in ((x1 + x2) / 2, (y1 + y2) / 2)])
    return Face(box, points, _text(item, "difficult") == "1" or _text(item, "name") in crowds, place)


def write(named: Sequence[tuple[str, Sample]], folder: Path) -> dict[Path, str]:
    """`Annotations/`, path → text."""
    files = {}
    for name, sample in named:
        width, height = sample.size or (0, 0)
        lines = ["<annotation>", f"  <folder>{IMAGES}</folder>", f"  <filename>{escape(Path(name).name)}</filename>"]
        lines += [f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
        for boxes, difficult in ((sample.boxes, 0), (sample.ignored, 1)):
            for row, box in enumerate(boxes):
                lines += ["  <object>", "    <name>face</name>", f"    <difficult>{difficult}</difficult>"]
                lines.append(f"    {_bndbox(box)}")
                if not difficult and (sample.landmarks[row] != -1).any():
                    for part, point in zip(LANDMARK_NAMES, sample.landmarks[row], strict=True):
                        lines.append(f"    <part><name>{part}</name>{_bndbox(np.tile(point, 2))}</part>")
                lines.append("  </object>")
        files[folder / FOLDER / Path(name).with_suffix(".xml")] = "\n".join([*lines, "</annotation>"]) + "\n"
    return files


def _bndbox(corners: np.ndarray) -> str:
    inner = "".join(f"<{name}>{decimal(value)}</{name}>" for name, value in zip(CORNERS, corners, strict=True))
    return f"<bndbox>{inner}</bndbox>"
