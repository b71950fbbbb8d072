"""Where a command's outputs go, settled before the first byte: writable, none of them an input or another output."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from tflite.files import OPEN_FILES, free_name, is_special
from tflite.images import HEIF_SUFFIXES, IMAGE_SUFFIXES, WRITABLE
from tflite.messages import printable
from tflite.sources import FILE, VideoSource
from tflite.video_out import VIDEO_SUFFIXES

CROP_PATH = re.compile(r"(.*)_\d+\.png", re.DOTALL)  # of `crop_name`
NO_TEXT = (*IMAGE_SUFFIXES, *HEIF_SUFFIXES, *VIDEO_SUFFIXES, ".tflite", ".keras")


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
        self._owners: dict[str | tuple[int, int], str] = {}  # path or (device, inode) → what it is
        self._crops: dict[str, str] = {}  # start of the path of a picture's crops → what is cropped
        self._folders: dict[str, str] = {}  # without links: of thousands of files in one, it is looked up once

    def _keys(self, path: Path) -> list[str | tuple[int, int]]:
        """What the file is known by; nothing for a pipe or a device, in which nothing is lost."""
        text = str(path)
        folder, name = os.path.split(text)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = f"{self._folders[folder]}{os.sep}{name}"
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(text)
                found = path.stat()
        except OSError:  # not there yet
            return [real]
        if text.startswith(OPEN_FILES) or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return []
        return [real, (found.st_dev, found.st_ino)]

    def protect(self, path: Path, what: str) -> None:
        """A file that is read, e.g. `what` = "the input a.jpg"."""
        for key in self._keys(path):
            self._owners[key] = what

    def claim(self, path: Path, what: str) -> None:
        """Take `path` for an output.

        Raises:
            UsageError: it is an input or another output.
        """
        keys = self._keys(path)
        owner = next((self._owners[key] for key in keys if key in self._owners), None)
        if keys and owner is None and (match := CROP_PATH.fullmatch(str(keys[0]))):
            owner = self._crops.get(match[1])
        if owner is not None:
            raise UsageError(f"{what}: {printable(path)} would overwrite {owner}; expected another name or folder")
        for key in keys:
            self._owners[key] = what

    def claim_crops(self, folder: Path, names: dict[str, Path]) -> None:
        """Take the crops of all faces, however many there will be.

        Args:
            folder: the crops go there.
            names: input → its name below the folder.

        Raises:
            UsageError: one could be an input or another output.
        """
        for source, name in names.items():
            for key in self._keys(folder / crop_name(name, 0)):
                if isinstance(key, str) and (match := CROP_PATH.fullmatch(key)):
                    self._crops[match[1]] = f"a crop of {printable(source)}"
        for key, owner in self._owners.items():
            if isinstance(key, str) and (match := CROP_PATH.fullmatch(key)) and match[1] in self._crops:
                raise UsageError(f"--crops: {self._crops[match[1]]} would overwrite {owner}; expected another folder")


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


def names_of_videos(videos: Sequence[VideoSource]) -> dict[str, Path]:
    """Source → its name below an output folder, each once: that of the file, else of what it is."""
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    found = {}
    for video in videos:
        name = Path(video.name).name if video.kind == FILE else f"{video.kind}.mp4"
        if Path(name).suffix.lower() not in VIDEO_SUFFIXES:
            name += ".mp4"
        found[video.name] = free_name(Path(name), taken, numbers)
    return found


def is_folder_name(output: str) -> bool:
    """Whether an output that is no picture may be a folder: one that exists, or a name without a suffix.

    A name that ends in / is one, too.
    """
    path = Path(output)
    return path.is_dir() or not path.suffix or output.endswith(("/", os.sep))
