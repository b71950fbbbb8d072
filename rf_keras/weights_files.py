"""Weights files before they are opened, and those in the repository, which an installed package has none of: 9 MB."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("rf_keras") / "weights"
HDF5_START = b"\x89HDF\r\n\x1a\n"


def is_shipped(path: Path) -> bool:
    """Whether a weights file is one of those that came with the package or the checkout."""
    folder = path.resolve().parent
    return any(folder == place.resolve() for place in (Path(__file__).parent / "weights", FOLDER))


def shipped_weights(name: str) -> Path | None:
    """Path of a weights file beside this package, or in a checkout that is the working folder; None without one."""
    places = (Path(__file__).parent / "weights", FOLDER)
    return next((place / name for place in places if (place / name).is_file()), None)


def is_hdf5(path: Path) -> bool:
    """Whether a regular file starts as HDF5."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_START)) == HDF5_START
    except OSError:
        return False
