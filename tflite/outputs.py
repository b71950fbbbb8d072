"""Where a command's outputs go, settled before the first byte: writable, none of them an input or another output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tflite.files import free_name, is_special
from tflite.images import IMAGE_SUFFIXES, WRITABLE
from tflite.messages import printable
from tflite.video import VIDEO_SUFFIXES

CROP_NAME = re.compile(r"(.*)_\d+\.png", re.DOTALL)  # of `crop_name`
NO_TEXT = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, ".tflite", ".keras")


class UsageError(ValueError):
    """Flags that do not fit together; the message is one line."""


def crop_name(name: Path, face: int) -> Path:
    """File of the crop of a face, by the name of its picture."""
    return name.parent / f"{name.name}_{face}.png"


class OutputPlan:
    """Every file that a command reads or writes; `claim` refuses an output that would destroy one of them.

    Two paths are one file if they are equal without links, or if both exist and are the same for the system.
    """

    def __init__(self) -> None:
        self._owners: dict[object, str] = {}  # path or (device, inode) → what it is
        self._crops: dict[tuple[Path, str], str] = {}  # (folder, start of the name) → what is cropped
        self._folders: dict[Path, Path] = {}  # without links: of thousands of files in one, it is looked up once

    def _real(self, path: Path) -> Path:
        """The path without links."""
        if path.is_symlink():
            return Path(os.path.realpath(path))
        if path.parent not in self._folders:
            self._folders[path.parent] = Path(os.path.realpath(path.parent))
        return self._folders[path.parent] / path.name

    def _keys(self, path: Path) -> Iterator[object]:
        yield self._real(path)
        try:
            found = path.stat()
        except OSError:
            return
        yield found.st_dev, found.st_ino

    def protect(self, path: Path, what: str) -> None:
        """A file that is read, e.g. `what` = "the input a.jpg"."""
        if not is_special(path):
            for key in self._keys(path):
                self._owners[key] = what

    def owner(self, path: Path) -> str | None:
        """What has this file already; None if it is free, or a pipe or a device, which nothing is lost in."""
        if is_special(path):
            return None
        for key in self._keys(path):
            if key in self._owners:
                return self._owners[key]
        real = self._real(path)
        match = CROP_NAME.fullmatch(real.name)
        return self._crops.get((real.parent, match[1])) if match else None

    def claim(self, path: Path, what: str) -> None:
        """Take `path` for an output.

        Raises:
            UsageError: it is an input or another output.
        """
        owner = self.owner(path)
        if owner is not None:
            raise UsageError(f"{what}: {printable(path)} would overwrite {owner}; expected another name or folder")
        self.protect(path, what)

    def claim_crops(self, folder: Path, names: dict[str, Path]) -> None:
        """Take the crops of all faces, however many there will be.

        Args:
            folder: the crops go there.
            names: input → its name below the folder.

        Raises:
            UsageError: one could be an input or another output.
        """
        for source, name in names.items():
            real = self._real(folder / crop_name(name, 0))
            match = CROP_NAME.fullmatch(real.name)
            assert match is not None
            self._crops[real.parent, match[1]] = f"a crop of {printable(source)}"
        for key, owner in self._owners.items():
            if isinstance(key, Path) and (match := CROP_NAME.fullmatch(key.name)):
                source = self._crops.get((key.parent, match[1]), "")
                if source:
                    raise UsageError(f"--crops: {source} would overwrite {owner}; expected another folder")


def check_file(flag: str, path: Path) -> None:
    """That a file can be written.

    Raises:
        UsageError: it is a folder, below a file, or in a folder that this user may not write to.
    """
    if is_special(path):
        return
    if path.is_dir():
        raise UsageError(f"{flag} {printable(path)} is a folder, expected a file")
    _check_parents(flag, path, Path(os.path.realpath(path)).parent)


def check_text_file(flag: str, path: Path) -> None:
    """As `check_file`, and that the name is not that of a picture, a video or a model."""
    if path.suffix.lower() in NO_TEXT:
        raise UsageError(f"{flag} {printable(path)}: expected a file for text, such as faces{'.' + flag.lstrip('-')}")
    check_file(flag, path)


def check_folder(flag: str, path: Path) -> None:
    """That files can be written into a folder, which may not exist yet; raises as `check_file`."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{flag} {printable(path)} is a file, expected a folder")
    _check_parents(flag, path, Path(os.path.realpath(path)))


def _check_parents(flag: str, path: Path, folder: Path) -> None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{flag} {printable(path)}: {printable(folder)} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{flag} {printable(path)}: no permission to write in {printable(folder)}")


def annotated_names(output: Path, names: dict[str, Path], plan: OutputPlan) -> dict[str, Path]:
    """Files for the annotated images in a folder, one for each input.

    A format that OpenCV cannot write becomes .png. If that name is taken by another input's, a number is added.

    Args:
        output: the folder.
        names: input → its name below the folder.
        plan: claims them.

    Raises:
        UsageError: one would overwrite an input or an output.
    """
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    found = {}
    for source, name in names.items():
        wanted = output / (name if name.suffix.lower() in WRITABLE else name.with_name(name.name + ".png"))
        found[source] = free_name(wanted, taken, numbers)
        plan.claim(found[source], f"--output of {printable(source)}")
    return found
