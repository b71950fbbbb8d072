"""The weights in the repository. An installed package has none: they are 9 MB, and only training needs them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("rf_keras") / "weights"


def is_shipped(path: Path) -> bool:
    """Whether a weights file is one of those that came with the package or the checkout."""
    folder = path.resolve().parent
    return any(folder == place.resolve() for place in (Path(__file__).parent / "weights", FOLDER))


def shipped_weights(name: str) -> Path | None:
    """Path of a weights file beside this package, or in a checkout that is the working folder; None without one."""
    places = (Path(__file__).parent / "weights", FOLDER)
    return next((place / name for place in places if (place / name).is_file()), None)
