"""What a disk holds after a power cut: files that were synced as they are now, under names that were synced after."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

File = tuple[int, int, int]  # device, inode, time of the last change of the contents


class Disk:
    """A context manager that watches `os.fsync`."""

    def __init__(self) -> None:
        self._files: set[File] = set()
        self._names: set[tuple[int, str, File]] = set()  # inode of the folder, name, what it was when that was synced

    def __enter__(self) -> Disk:
        self._sync, os.fsync = os.fsync, self._record
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.fsync = self._sync

    def _record(self, handle: int) -> None:
        self._sync(handle)
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            self._files.add(identity(os.fstat(handle)))
            return
        folder = os.fstat(handle).st_ino
        for entry in os.scandir(handle):
            found = identity(entry.stat())
            if found in self._files:
                self._names.add((folder, entry.name, found))

    def lost(self, folder: Path) -> list[str]:
        """Files below a folder that a power cut now could take, or leave incomplete; paths within it."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [
            str(path.relative_to(folder))
            for path in files
            if (path.parent.stat().st_ino, path.name, identity(path.stat())) not in self._names
        ]


def identity(found: os.stat_result) -> File:
    return found.st_dev, found.st_ino, found.st_mtime_ns
