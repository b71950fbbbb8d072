"""Libraries in C++ report on stderr and have no setting for it: hold it back, and pass on what matters."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

STDERR = 2
INFORMATION = (b"INFO: ", b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()")

_holding = threading.RLock()  # stderr is one for all threads


@contextlib.contextmanager
def without_information(*more: bytes) -> Iterator[None]:
    """Hold back what is written to stderr, then pass it on without lines of mere information.

    For moments only; what another thread writes meanwhile comes a little later.

    Args:
        more: leave out lines that hold one of these, too, unless there is an exception.
    """
    with _holding:
        try:
            kept = os.dup(STDERR)
        except OSError:  # no stderr at all
            yield
            return
        with tempfile.TemporaryFile() as held:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(held.fileno(), STDERR)
            unwanted: tuple[bytes, ...] = ()
            try:
                yield
                unwanted = more
            finally:
                os.dup2(kept, STDERR)
                os.close(kept)
                held.seek(0)
                passed = (line for line in held if not line.startswith(INFORMATION))
                with contextlib.suppress(OSError):
                    os.write(STDERR, b"".join(line for line in passed if not any(part in line for part in unwanted)))


def _after_fork_in_child() -> None:
    global _holding
    _holding = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
