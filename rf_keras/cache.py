"""Where files lie that are made or fetched once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME` (else `~/.cache`) `/retinaface-keras`; may not exist yet.

    Raises:
        ValueError: there is neither, as for a user whom the system does not know.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if not given:
        try:
            given = str(Path.home() / ".cache")
        except RuntimeError as error:
            raise ValueError("this user has no home folder to keep files in: set XDG_CACHE_HOME to one") from error
    return Path(given) / "retinaface-keras"
