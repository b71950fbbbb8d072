"""What a video decoder prints about damage: kept from the terminal, and known to the program."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

STDERR = 2
# FFmpeg's lines: [mpeg4 @ 0x55d0c8] header damaged
COMPLAINT = re.compile(rb"\[[^\]\n@]+ @ (?:0x)?[0-9A-Fa-f]+\] *([^\n]+)")
LONGEST_READ = 1 << 16  # bytes of one frame's lines that are looked at


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
        self._held: IO[bytes] | None = None
        self._kept = -1
        self._python: Any = None

    def __enter__(self) -> DecoderLog:
        try:
            self._kept = os.dup(STDERR)
        except OSError:  # no stderr at all
            return self
        self._held = tempfile.TemporaryFile()
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
        os.dup2(self._held.fileno(), STDERR)
        return self

    def complaint(self) -> str | None:
        """What FFmpeg has said since the last call, its first line; None if nothing."""
        if self._held is None:
            return None
        handle = self._held.fileno()
        if not (size := os.fstat(handle).st_size):
            return None
        os.lseek(handle, 0, os.SEEK_SET)
        text = os.read(handle, min(size, LONGEST_READ))
        # The place to write at is shared by all who write: it goes back to the start.
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        lines = text.splitlines(keepends=True)
        complaints = [match for line in lines if (match := COMPLAINT.match(line))]
        if len(self._rest) < LONGEST_READ:
            self._rest += b"".join(line for line in lines if not COMPLAINT.match(line))
        if not complaints:
            return None
        said = complaints[0][1].decode("utf-8", "replace").strip()
        self.first = self.first or said
        return said

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
        self._held.close()
        self._held = None


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
