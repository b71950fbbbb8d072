"""Zip archives of unknown origin."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

MOST_MEMBERS = 1000
ENTRY = b"PK\x01\x02"  # begins each entry of the directory
BLOCK = 1 << 20


def open_zip(source: Path | bytes) -> zipfile.ZipFile:
    """A zip archive, for reading; its directory may not list more than `MOST_MEMBERS`.

    `zipfile` makes an object of each entry, ten times as large as the entry and without a limit.

    Raises:
        zipfile.BadZipFile: no archive, or one of more members; OSError: unreadable.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        count, tail = 0, b""
        while block := file.read(BLOCK):
            count += (tail + block).count(ENTRY)
            tail = block[1 - len(ENTRY) :]
    if count > MOST_MEMBERS:
        raise zipfile.BadZipFile(f"{count} members or what looks like them, expected {MOST_MEMBERS} at most")
    return zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
