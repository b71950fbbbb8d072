"""A parsed set in another format: labels below a folder, pictures beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from rf_keras.labels import coco, retinaface, voc, wider, yolo
from rf_keras.labels.model import LabelError, Sample
from tflite.files import free_name, write_text

Named = Sequence[tuple[str, Sample]]
FORMATS: dict[str, Callable[[Named, Path], dict[Path, str]]] = {
    "coco": coco.write,
    "yolo": yolo.write,
    "voc": voc.write,
    "wider": wider.write,
    "label": retinaface.write,
}
WITHOUT_IGNORED = ("label",)
WITHOUT_POINTS = ("wider",)
PLACEMENTS = ("link", "copy", "none")


def names_of(samples: Sequence[Sample], root: Path | None = None) -> list[tuple[str, Sample]]:
    """Names below a folder of pictures, with /, unlike each other also without their suffixes.

    Args:
        samples: the pictures.
        root: that names begin at; None: the deepest folder that holds them all.
    """
    paths = [Path(os.path.abspath(sample.image)) for sample in samples]  # noqa: PTH100 (links stay)
    top = root or Path(os.path.commonpath([path.parent for path in paths]))
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    named = []
    for path, sample in zip(paths, samples, strict=True):
        name = path.relative_to(top)
        stem = free_name(name.with_suffix(""), taken, numbers)
        named.append((PurePosixPath(stem.parent, stem.name + path.suffix).as_posix(), sample))
    return named


def write_set(samples: Sequence[Sample], folder: Path, form: str, pictures: str = "link") -> list[str]:
    """Write a set.

    Args:
        samples: of `read_labels`, with their sizes.
        folder: to write into; new or empty.
        form: one of `FORMATS`.
        pictures: "link" to them, "copy" them, or "none".

    Returns:
        what the format cannot hold, a line each.

    Raises:
        LabelError: the folder holds something, or there is nothing to write.
        OSError: it cannot be written.
    """
    if not samples:
        raise LabelError(f"{folder}: no picture to write, expected at least one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabelError(f"{folder}: is there already, expected a new or an empty folder")
    named = names_of(samples)
    images = folder / (voc.IMAGES if form == "voc" else "images")
    for name, sample in named if pictures != "none" else ():
        target = images / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(sample.image, target, pictures)
    # The file of the whole set comes last: with it the set is whole.
    for path, text in sorted(FORMATS[form](named, folder).items(), key=lambda item: -len(item[0].parts)):
        write_text(path, text)
    lost = []
    ignored = sum(len(sample.ignored) for sample in samples)
    points = sum(int((sample.landmarks != -1).any(axis=(1, 2)).sum()) for sample in samples)
    if ignored and form in WITHOUT_IGNORED:
        lost.append(f"{ignored} regions to ignore are left out: the format has none")
    if points and form in WITHOUT_POINTS:
        lost.append(f"points of {points} faces are left out: the format has none")
    return lost


def _place(source: Path, target: Path, how: str) -> None:
    if how == "link":
        try:
            target.symlink_to(source.resolve())
        except (OSError, NotImplementedError):  # file systems without links
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
