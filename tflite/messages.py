"""Text for people: one line, of bounded length, without characters that steer a terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import Any, TextIO

LONGEST = 300  # characters of a message that quotes a file or another library
LAYOUT = "\n\t\r"
# Overrides of the reading direction: with them a name can pose as another.
BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: object) -> str:
    """`str(text)` with control characters, line separators and undecodable bytes as escapes such as \\x1b."""
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode("ascii")
        if c in BIDIRECTIONAL or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
        else c
        for c in plain
    )


def shortened(text: str, most: int = LONGEST) -> str:
    """At most `most` characters: the middle goes, since names stand first and expectations last."""
    return text if len(text) <= most else text[: most - 101] + "…" + text[-100:]


def one_line(error: BaseException) -> str:
    """The error's message on one line of at most `LONGEST` characters; its type where it has none."""
    return shortened(printable(" ".join(str(error)[: 4 * LONGEST].split()))) or type(error).__name__


def _safe(character: str) -> str:
    return character if character in LAYOUT else printable(character)


class SafeOutput:
    """stdout of a command: a name in the text cannot steer the terminal, a letter that the console lacks becomes an
    escape, and a reader who left (`| head`) does not end the command."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        safe = text if text.isascii() and text.isprintable() else "".join(map(_safe, text))
        _write(self.stream, safe, flush=False)
        return len(text)

    def flush(self) -> None:
        _write(self.stream, "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _write(stream: TextIO | SafeOutput | None, text: str, flush: bool = True) -> bool:
    """Whether somebody reads `stream`. Once nobody does, it leads nowhere: Python flushes it again when it exits."""
    if isinstance(stream, SafeOutput):
        stream = stream.stream
    if stream is None:
        return True
    try:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that the console lacks
        stream.write(text)
        if flush:
            stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True


def note(line: str) -> None:
    """A line on stderr, if anybody reads it."""
    _write(sys.stderr, printable(line) + "\n")


class Console:
    """stdout for a command that goes on when nobody reads it any more.

    Attributes:
        closed: the other end of the pipe is gone; what is written goes nowhere.
    """

    def __init__(self) -> None:
        self.closed = False

    def write(self, text: str) -> None:
        if not self.closed:
            self.closed = not _write(sys.stdout, text)
