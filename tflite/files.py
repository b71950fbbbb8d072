"""Input paths of the commands, and output files that are either complete or absent."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from tflite.preprocess import IMAGE_SUFFIXES, ImageError


def expand_inputs(arguments: Sequence[str]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files named by paths, folders (searched recursively for `IMAGE_SUFFIXES`) and glob patterns.

    Returns:
        (path, name for the output relative to an output folder) in the order given, folders and patterns sorted, each
        file once and each name once; and one line for each argument that gives no file.
    """
    found: dict[Path, Path] = {}
    taken: set[Path] = set()
    errors = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            matches = [(p, p.relative_to(path)) for p in inside]
            if not matches:
                errors.append(f"{argument}: no image in the folder, expected {' '.join(IMAGE_SUFFIXES)}")
        elif glob.has_magic(argument) and not path.exists():
            paths = map(Path, sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207 (Path.glob takes no absolute one)
            matches = [(p, Path(p.name)) for p in paths if p.is_file()]
            if not matches:
                errors.append(f"{argument}: no file matches the pattern")
        else:
            matches = [(path, Path(path.name))]
        for p, name in matches:
            if p not in found:
                found[p] = _free(name, taken)
                taken.add(found[p])
    return list(found.items()), errors


def _free(name: Path, taken: set[Path]) -> Path:
    """`name`, or with a number where another folder's file has it already: outputs must not overwrite each other."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = name.with_name(f"{name.stem}_{number}{name.suffix}")
    return candidate


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path with the same suffix in the same folder; renamed to `path` at the end, removed on an error.

    Folders are made. A killed command leaves the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a uint8 BGR image in the format of the suffix.

    Raises:
        ImageError: OpenCV cannot write that format.
    """
    try:
        ok, data = cv2.imencode(path.suffix or ".", image)
    except cv2.error:
        ok = False
    if not ok:
        raise ImageError(f"{path}: cannot write this image format, expected e.g. .jpg or .png")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
