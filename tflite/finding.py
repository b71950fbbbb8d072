"""Find the pictures that paths, folders and patterns name; which suffixes are pictures, which are videos."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tflite.files import free_name
from tflite.images import HEIF_SUFFIXES, IMAGE_SUFFIXES
from tflite.messages import printable

VIDEO_INPUTS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
    *(".ts", ".mts", ".m2ts", ".mjpg", ".mjpeg"),
)
NUMBERED = re.compile(r"%(0\d{1,2})?d")  # as in frame_%03d.jpg
SKIPPED_FOLDERS = ("__MACOSX",)  # with hidden ones: copies and previews that no user means
JPEG_START = b"\xff\xd8\xff"
MAX_SUFFIXES = 6  # named of what is passed over


@dataclass
class Found:
    """What arguments name.

    Attributes:
        pictures: (path, name for the output relative to an output folder), each file once and each name once.
        errors: a line for each argument that gives no file, and for each folder that cannot be read.
        notes: a line for each folder or pattern: how many pictures it gives, and what is passed over.
    """

    pictures: list[tuple[Path, Path]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def heif_installed() -> bool:
    """Whether HEIC pictures, as iPhones write them, can be read."""
    return importlib.util.find_spec("pillow_heif") is not None


def find_pictures(arguments: Sequence[str]) -> Found:
    """Files named by paths, folders (searched recursively), glob patterns and numbered names such as frame_%03d.jpg.

    In the order given; folders and patterns sorted, numbered names by number.
    """
    result = Found()
    found: dict[Path, Path] = {}
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            matches = [(p, p.relative_to(path)) for p in _folder(path, argument, result)]
        elif glob.has_magic(argument) and not path.exists():
            matches = _named([Path(p) for p in sorted(glob.glob(argument, recursive=True))])  # noqa: PTH207 (Path.glob takes no absolute one)
            _tell(argument, "pattern", matches, "no file matches the pattern", result)
        elif NUMBERED.search(path.name) and not path.exists():
            matches = _named(_numbered(path))
            _tell(argument, "numbered name", matches, "no file has such a name with a number", result)
        else:
            matches = [(path, Path(path.name))]
        for p, name in matches:
            if p not in found:
                found[p] = free_name(name, taken, numbers)
    result.pictures = list(found.items())
    return result


def expand_inputs(arguments: Sequence[str]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """`find_pictures` without its notes: (path, name for the output) of each picture, and the errors."""
    found = find_pictures(arguments)
    return found.pictures, found.errors


def _named(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    return [(path, Path(path.name)) for path in paths if path.is_file()]


def _tell(argument: str, kind: str, matches: Sequence[object], none: str, result: Found) -> None:
    if matches:
        result.notes.append(f"{printable(argument)}: a {kind} of {_count(len(matches), 'file')}")
    else:
        result.errors.append(f"{printable(argument)}: {none}")


def _numbered(pattern: Path) -> list[Path]:
    """Existing files of a name with %d or %03d in it, by number."""
    placeholder = NUMBERED.search(pattern.name)
    assert placeholder is not None
    width = int(placeholder[1] or 1)
    before, after = pattern.name[: placeholder.start()], pattern.name[placeholder.end() :]
    shape = re.compile(rf"{re.escape(before)}(\d{{{width},}}){re.escape(after)}", re.ASCII)
    try:
        names = os.listdir(pattern.parent)  # noqa: PTH208 (names are all that is needed)
    except OSError:
        return []
    found = [(int(match[1]), name) for name in names if (match := shape.fullmatch(name))]
    return [pattern.parent / name for _, name in sorted(found)]


def _folder(folder: Path, argument: str, result: Found) -> list[Path]:
    unreadable: list[str] = []
    passed: Counter[str] = Counter()
    pictures = images_below(folder, unreadable, passed)
    result.errors += unreadable
    if pictures:
        line = f"{printable(argument)}: a folder with {_count(len(pictures), 'picture')}"
        result.notes.append(line + (f"; {_passed_over(passed)}" if passed else ""))
    elif not unreadable:
        found = f" ({_passed_over(passed)})" if passed else ""
        result.errors.append(
            f"{printable(argument)}: no image in the folder{found}, expected {' '.join(IMAGE_SUFFIXES)}"
        )
    return pictures


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _passed_over(passed: Counter[str]) -> str:
    """What is passed over, by suffix, the most frequent first, with the remedy where there is one."""
    shown = passed.most_common(MAX_SUFFIXES)
    rest = sum(passed.values()) - sum(count for _, count in shown)
    named = [f"{count} {printable(suffix) or 'without suffix'}" for suffix, count in shown]
    line = "passed over: " + ", ".join([*named, f"{rest} of other suffixes"] if rest else named)
    if any(suffix in HEIF_SUFFIXES for suffix in passed):
        line += " (pip install pillow-heif to read HEIC)"
    if any(suffix in VIDEO_INPUTS for suffix in passed):
        line += " (give videos by their own names)"
    return line


def images_below(folder: Path, errors: list[str], passed: Counter[str] | None = None) -> list[Path]:
    """Pictures in the folder and below it, sorted.

    Those are files with `IMAGE_SUFFIXES`, HEIC files where pillow-heif is installed, and JPEGs without a suffix.
    Hidden files and folders are skipped, as are `SKIPPED_FOLDERS`.

    Args:
        errors: takes a line for each folder that cannot be read.
        passed: counts other files by their suffix in lower case.
    """

    def note(error: OSError) -> None:
        errors.append(f"{printable(error.filename)}: cannot read the folder ({error.strerror})")

    suffixes = (*IMAGE_SUFFIXES, *(HEIF_SUFFIXES if heif_installed() else ()))
    pictures = []
    for top, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS]
        for name in names:
            path = Path(top) / name
            if name.startswith(".") or not path.is_file():
                continue
            suffix = path.suffix.lower()
            if suffix in suffixes or (not suffix and _starts_as_jpeg(path)):
                pictures.append(path)
            elif passed is not None:
                passed[suffix] += 1
    return sorted(pictures)


def _starts_as_jpeg(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(JPEG_START)) == JPEG_START
    except OSError:
        return False
