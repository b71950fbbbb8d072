"""Output files: either complete or absent, links followed, devices and pipes written to."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names of what a process has open already, whatever that is: a redirected stdout must not be renamed over.
OPEN_FILES = ("/dev/std", "/dev/fd/", "/proc/")


def is_special(path: Path) -> bool:
    """Whether there is something at `path` that bytes go into but that no file may replace: a pipe, a device."""
    if str(path.absolute()).startswith(OPEN_FILES):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path with the same suffix; at the end it takes the place of `path`, on an error it is removed.

    Folders are made. Of a link, the file that it points to is replaced. Into a pipe or a device the finished bytes are
    written. A killed command leaves the old file or the new one, never half of one.

    Raises:
        OSError: naming `path`, not the temporary file.
    """
    special = is_special(path)
    target = path if special else Path(os.path.realpath(path))
    temporary = None
    try:
        if special:
            folder = None
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = target.parent
        # The whole name could be too long with what is added to it.
        handle, name = tempfile.mkstemp(suffix=target.suffix, prefix=f".{target.stem[:100]}.", dir=folder)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if special:
            with temporary.open("rb") as source, target.open("ab") as sink:
                shutil.copyfileobj(source, sink)
        else:
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
            temporary.replace(target)
    except OSError as error:
        if error.strerror and error.filename in (None, name_of(temporary)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def name_of(path: Path | None) -> str | None:
    """`str(path)`, None of None."""
    return None if path is None else str(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def free_name(name: Path, taken: set[Path], numbers: dict[Path, int]) -> Path:
    """`name`, or with a number where it is taken already: outputs must not overwrite each other.

    Args:
        taken: names given so far; this one is added.
        numbers: name → the last number given to it, so that thousands of equal names take no longer than others.
    """
    candidate, number = name, numbers.get(name, 1)
    while candidate in taken:
        number += 1
        candidate = name.with_name(f"{name.stem}_{number}{name.suffix}")
    numbers[name] = number
    taken.add(candidate)
    return candidate
