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


class MemberError(ValueError):
    """What is wrong with a member, in one line without the file's name."""


def read_member(archive: zipfile.ZipFile, member: str, most: int) -> bytes:
    """The contents of a member.

    Raises:
        MemberError: it is larger than `most` bytes (the size that an archive declares need not be true), or compressed
            in a way that can take more memory.
        KeyError: there is none; and whatever `zipfile` raises for damaged archives.
    """
    info = archive.getinfo(member)
    # The other methods decompress a block to its end, however much that is.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MemberError(f"{member} is compressed by method {info.compress_type}, expected none or deflate")
    with archive.open(info) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise MemberError(f"{member} is larger than {most} bytes")
    return data


def with_member(content: bytes, member: str, data: str | bytes) -> bytes:
    """`content` with a member added to its zip archive, or appended as one (same input, same bytes)."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        # A fixed date keeps exports byte-equal from run to run.
        archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()
