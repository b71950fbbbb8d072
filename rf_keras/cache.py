"""Where files lie that are made or fetched once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME` (else `~/.cache`) `/retinaface-keras`; may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retinaface-keras"
