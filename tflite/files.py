"""Output files: either complete or absent, links followed, devices and pipes written to."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = ".part"  # in the names of temporary files, before their suffix
LEFTOVER = re.compile(r"\..*\.[a-z0-9_]{8}\.part(\.[^.]*)?", re.DOTALL)
# Some file systems sync no folders, Windows opens none, and a folder may be writable but not readable.
UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
YOUNG = 60.0  # seconds; a temporary file is made before it is locked
_cleaned: set[Path] = set()

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


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder; nothing where the system cannot.

    Raises:
        OSError: the disk did not take it: full, over a quota (network disks say so here only), or broken.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise OSError(error.errno, error.strerror, str(path)) from error


def make_folder(folder: Path, durable: bool = True) -> None:
    """Make a folder and those above it that are missing; `durable`: their names are on the disk, too."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing if durable else []):
        sync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed commands from a folder; once per process, since a folder can be large.

    Ours are known by their names, and alive ones by the lock that their command holds.
    """
    if fcntl is None or folder in _cleaned:
        return
    _cleaned.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    if time.time() - path.stat().st_mtime < YOUNG:
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its command lives
        path.unlink()
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path with the same suffix; at the end it takes the place of `path`, on an error it is removed.

    Folders are made. Of a link, the file that it points to is replaced. Into a pipe or a device the finished bytes are
    written. A killed command leaves the old file or the new one, never half of one.

    Args:
        path: the file.
        durable: so does a power cut; takes the disk some milliseconds, too many for thousands of pictures.

    Raises:
        OSError: naming `path`, not the temporary file.
    """
    special = is_special(path)
    target = path if special else Path(os.path.realpath(path))
    temporary: Path | None = None
    handle: int | None = None
    try:
        if special:
            folder = None
        else:
            make_folder(target.parent, durable)
            folder = target.parent
            remove_leftovers(folder)
        # The whole name could be too long with what is added to it.
        handle, name = tempfile.mkstemp(suffix=PART + target.suffix, prefix=f".{target.stem[:50]}.", dir=folder)
        temporary = Path(name)
        if fcntl is None:
            os.close(handle)  # Windows renames no open file
            handle = None
        else:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        if special:
            with temporary.open("rb") as source, target.open("ab") as sink:
                shutil.copyfileobj(source, sink)
        else:
            temporary.chmod(_mode(target))  # mkstemp makes files private
            if durable:
                sync(temporary)
            temporary.replace(target)
            if durable:
                sync(target.parent)
    except OSError as error:
        if error.strerror and error.filename in (None, name_of(temporary)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if handle is not None:
            os.close(handle)
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced: who made it private wants it so. Of a new one, the usual ones."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


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
