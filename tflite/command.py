"""What all commands share: a user's mistake ends in one line on stderr and a non-zero exit, never in a traceback."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from absl import app


def flags_only(argv: Sequence[str]) -> None:
    """Refuse arguments that are not flags.

    Args:
        argv: as absl hands it to `main`: the program's name and what was left of the command line.

    Raises:
        app.UsageError: there is more than the name.
    """
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """Run a command's body; errors meant for the user end the process with `error: …` and exit code 1.

    Args:
        more: exceptions that are the user's too, besides ValueError (every one of ours is a ValueError whose message
            is one line that names file, finding and expectation) and OSError.
    """
    # What the imports made lives as long as the process. TensorFlow makes so much of it that walking it again and again
    # is a tenth of a short training run.
    gc.freeze()
    try:
        yield
    except OSError as error:
        plain = error.filename is None or error.strerror is None
        sys.exit(f"error: {error}" if plain else f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except more as error:
        sys.exit(f"error: {error}")
