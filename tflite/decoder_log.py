"""What a video decoder prints about damage: kept from the terminal, and known to the program."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

STDERR = 2
# FFmpeg's lines: [mpeg4 @ 0x55d0c8] header damaged
COMPLAINT = re.compile(rb"\[[^\]\n@]+ @ (?:0x)?[0-9A-Fa-f]+\] *([^\n]+)")
MOST_KEPT = 1 << 16  # bytes: looked at for one frame, and passed on at the end
MOST_HELD = 1 << 22  # bytes on disk


class DecoderLog:
    """A context manager that takes what C libraries write to stderr, and hands out what FFmpeg says of each frame.

    OpenCV hides from its caller that a frame was damaged: FFmpeg fills the hole and prints a line. Python's own stderr
    stays where it was. What is not of FFmpeg is passed on at the end.

    Attributes:
        first: FFmpeg's first complaint, None without any.
    """

    def __init__(self) -> None:
        self.first: str | None = None
        self._rest = b""
        self._read = 0  # bytes that were looked at
        self._torn = False  # the next line may lack its start
        self._held: int | None = None
        self._kept = -1
        self._python: Any = None

    def __enter__(self) -> DecoderLog:
        try:
            self._kept = os.dup(STDERR)
        except OSError:  # no stderr at all
            return self
        handle, name = tempfile.mkstemp(prefix="decoder.")
        self._held, self._name = handle, Path(name)
        self._reader = self._name.open("rb", buffering=0)  # with a place of its own in the file
        self._python = sys.stderr
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or a stand-in that is no file
            if self._python.fileno() == STDERR:
                self._python.flush()
                sys.stderr = open(
                    self._kept,
                    "w",
                    encoding=self._python.encoding,
                    errors=self._python.errors,
                    closefd=False,
                    buffering=1,
                )
        os.dup2(self._held, STDERR)
        return self

    def complaint(self) -> str | None:
        """What FFmpeg has said since the last call, its first line; None if nothing."""
        lines = self._new_lines()
        complaints = [match for line in lines if (match := COMPLAINT.match(line))]
        if len(self._rest) < MOST_KEPT:
            self._rest += b"".join(line for line in lines if not COMPLAINT.match(line))
        if not complaints:
            return None
        said = complaints[0][1].decode("utf-8", "replace").strip()
        self.first = self.first or said
        return said

    def _new_lines(self) -> list[bytes]:
        """Whole lines only: FFmpeg writes one in several parts, in threads of its own."""
        if self._held is None:
            return []
        size = os.fstat(self._held).st_size
        self._reader.seek(self._read)
        text = self._reader.read(MOST_KEPT) if size > self._read else b""
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        lines = text.splitlines(keepends=True)
        if self._torn and lines:
            lines, self._torn = lines[1:], False
        if size > MOST_HELD:
            # The place to write at is shared by all who write: it goes back to the start.
            os.ftruncate(self._held, 0)
            os.lseek(self._held, 0, os.SEEK_SET)
            self._read, self._torn = 0, True
        return lines

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._held is None:
            return
        self.complaint()
        os.dup2(self._kept, STDERR)
        if sys.stderr is not self._python:
            sys.stderr.flush()
            sys.stderr = self._python
        with contextlib.suppress(OSError):
            os.write(STDERR, self._rest)
        os.close(self._kept)
        self._reader.close()
        os.close(self._held)
        self._held = None
        with contextlib.suppress(OSError):
            self._name.unlink()


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Nothing that C libraries write to stderr is seen: for trying what may fail, such as a codec."""
    try:
        kept = os.dup(STDERR)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
