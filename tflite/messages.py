"""Text for people: one line, of bounded length, without characters that steer a terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

LONGEST = 300  # characters of a message that quotes a file or another library
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


def shortened(text: str) -> str:
    """At most `LONGEST` characters: the middle goes, since names stand first and expectations last."""
    return text if len(text) <= LONGEST else text[: LONGEST - 101] + "…" + text[-100:]


def one_line(error: BaseException) -> str:
    """The error's message on one line of at most `LONGEST` characters; its type where it has none."""
    return shortened(printable(" ".join(str(error)[: 4 * LONGEST].split()))) or type(error).__name__


def _write(stream: TextIO | None, text: str) -> bool:
    """Whether somebody reads `stream`. Once nobody does, it leads nowhere: Python flushes it again when it exits."""
    if stream is None:
        return True
    try:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that the console lacks
        stream.write(text)
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
