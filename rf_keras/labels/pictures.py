"""A look at pictures before they are used: which can be read, how large they are, which TensorFlow decodes alike."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rf_keras.labels.model import LabelError
from tflite.images import END_OF_JPEG, ImageError, open_image, orientation_of, read_image

START_OF_SCAN = b"\xff\xda"
PNG_END = b"IEND\xaeB`\x82"
PLAIN_MODES = ("L", "RGB")
MOST_FILES = 500_000  # of a folder, to look for near matches in
NAMED = 3  # pictures that a message names


class Look(NamedTuple):
    """Width and height of the upright picture, and whether TensorFlow's decoder reads it as `read_image` does."""

    size: tuple[int, int]
    plain: bool


def look_at(path: Path) -> Look:
    """What the header says, where the file ends as a whole one does; else the picture is decoded.

    Raises:
        ImageError: it cannot be read.
    """
    plain = False
    try:
        with path.open("rb") as file:
            file.seek(-min(os.fstat(file.fileno()).st_size, len(PNG_END)), os.SEEK_END)
            end = file.read()
            file.seek(0)
            with open_image(file) as image:
                orientation, jpeg = orientation_of(image), image.format in ("JPEG", "MPO")
                plain = jpeg and orientation == 1 and image.mode in PLAIN_MODES
                if (jpeg and end.endswith(END_OF_JPEG)) or (image.format == "PNG" and end == PNG_END):
                    return Look(image.size if orientation < 5 else image.size[::-1], plain)
    except Exception:  # whatever it is, reading says it in one line, or reads it
        plain = False
    height, width, _ = read_image(path).shape
    if plain:  # phones append what is theirs; TensorFlow asks for the end marker alone
        data = path.read_bytes()
        plain = data.rfind(END_OF_JPEG) > data.rfind(START_OF_SCAN)
    return Look((width, height), plain)


def looks(paths: Sequence[Path], max_missing: float, where: str) -> dict[Path, Look]:
    """`look_at` each; those that cannot be read are named in a warning and left out.

    Raises:
        LabelError: they are more than `allowed`, or all.
    """
    found, errors = {}, []
    for path in paths:
        try:
            found[path] = look_at(path)
        except ImageError as error:
            errors.append(str(error))
    if errors:
        tell_missing(
            f"{where}: {len(errors)} of {len(paths)} pictures cannot be read ({_some(errors)})",
            len(errors),
            len(paths),
            max_missing,
        )
    return found


def allowed(max_missing: float, count: int) -> int:
    """How many of `count` pictures may be missing or unreadable: that share, but one at least unless it is 0."""
    return max(1, int(max_missing * count + 1e-9)) if max_missing else 0


def tell_missing(text: str, missing: int, count: int, max_missing: float) -> None:
    """Warn of pictures that are left out.

    Raises:
        LabelError: more than `allowed`, or all.
    """
    if missing > allowed(max_missing, count) or missing == count:
        raise LabelError(f"{text}, expected at most {max_missing:.0%} (--max_missing)")
    logging.getLogger(__name__).warning("%s; going on without them", text)


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:NAMED]) + ("; …" if len(texts) > NAMED else "")


def find_root(names: Sequence[str], roots: Sequence[Path]) -> Path:
    """The folder that holds most of the named pictures."""
    few = names[:: max(1, len(names) // 200)]
    return max(roots, key=lambda root: sum(place_of(root, name) is not None for name in few))


def place_of(root: Path, name: str) -> Path | None:
    """The picture of a name, also where it has Windows' separators; None where there is none."""
    for form in (name, name.replace("\\", "/")) if "\\" in name else (name,):
        if os.path.isfile(path := root / form):  # noqa: PTH113 (Path.is_file raises on names that are too long)
            return path
    return None


class NearMatches:
    """Proposes files for names that are not there: another case, Unicode form, folder or suffix."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, list[Path]] | None = None

    def propose(self, name: str) -> str:
        """`there is …, which differs in case` or empty."""
        wanted = Path(name.replace("\\", "/"))
        same, stems = self._found(_folded(wanted.name)), self._found(_folded(wanted.stem) + ".")
        if candidates := same or stems:
            best = max(candidates, key=lambda path: _common_end(path, wanted))
            return f"there is {best.as_posix()}, {_difference(wanted, best)}"
        return ""

    def _found(self, key: str) -> list[Path]:
        if self._names is None:
            self._names = {}
            count = 0
            for top, _, files in os.walk(self._root):
                for file in files:
                    path = Path(top, file).relative_to(self._root)
                    for one in (_folded(file), _folded(path.stem) + "."):
                        self._names.setdefault(one, []).append(path)
                count += len(files)
                if count > MOST_FILES:
                    break
        return self._names.get(key, [])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _common_end(path: Path, wanted: Path) -> int:
    pairs = zip(reversed(path.parts), reversed(wanted.parts), strict=False)
    return sum(_folded(a) == _folded(b) for a, b in pairs)


def _difference(wanted: Path, found: Path) -> str:
    def composed(path: Path) -> str:
        return unicodedata.normalize("NFC", path.as_posix())

    if composed(wanted) == composed(found):
        return "in another Unicode form (NFC, NFD)"
    if composed(wanted).casefold() == composed(found).casefold():
        return "which differs in case"
    if _folded(wanted.name) == _folded(found.name):
        return "in another folder"
    return "with another suffix"
