"""What a weights file tells of how it came to be: `parts` of its meta facts, one for each run, the first one first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PART = ("what", "images", "sizes", "data", "teacher")
TRAINED, TUNED = "trained by rf_keras.train", "fine-tuned by rf_keras.train"  # sources


def part(what: str, images: int, sizes: Sequence[int], data_dirs: Sequence[str], teacher: str) -> dict[str, Any]:
    """One run: what it was, images seen, their sides in pixels, its data folders' names and its teacher's file name."""
    names = [Path(folder).name for folder in data_dirs]
    return dict(zip(PART, (what, images, list(sizes), names, Path(teacher).name), strict=True))


def images_seen(parts: Sequence[dict[str, Any]]) -> int:
    """Images of all parts together."""
    return sum(int(one["images"]) for one in parts)


def parts_of(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts that a weights file's meta facts hold; of files older than parts, the training that made them."""
    training = meta.get("train") or {}
    if meta.get("parts") or not training:
        return list(meta.get("parts") or [])
    teacher = (training.get("distillation") or {}).get("teacher") or training.get("teacher") or ""
    sizes = [size for size in (training.get("size"), *training.get("more_sizes", ())) if size]
    return [part("training", int(meta.get("images_seen") or 0), sizes, training.get("data_dirs") or (), teacher)]


def source_after(meta: dict[str, Any]) -> str:
    """What weights say of their source that are trained on from a file with these meta facts."""
    source = str(meta.get("source") or TRAINED)
    return source if source.endswith((TRAINED, TUNED)) else f"{source}; {TUNED}"


def read_history(path: Path) -> list[dict[str, Any]]:
    """Parts from a JSON file, for weights that came to be elsewhere.

    Raises:
        ValueError: it is no list of objects with the keys of `PART`.
    """
    try:
        parts = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    try:
        return check_parts(parts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_parts(parts: Any) -> list[dict[str, Any]]:
    """`parts`, as a file holds them.

    Raises:
        ValueError: no list of objects with the keys of `PART` and values of their kinds.
    """
    kinds = dict(zip(PART, (str, int, list, list, str), strict=True))
    entries: list[Any] = parts if isinstance(parts, list) else [None]
    for one in entries:
        fits = isinstance(one, dict) and sorted(one) == sorted(PART)
        if not fits or any(type(one[name]) is not kind for name, kind in kinds.items()):
            raise ValueError(f"parts: expected a list of objects with {', '.join(PART)}")
    return entries
