"""A signal for the code under test, which does not go through the process: there it could end the test's worker."""

from __future__ import annotations

import signal


def receive(number: int) -> None:
    """Call the handler that `tflite.signals.Signals` has installed, as Python does when the signal comes.

    Raises:
        AssertionError: none is installed; the signal itself would have ended the process.
    """
    handler = signal.getsignal(number)
    assert callable(handler) and handler is not signal.default_int_handler, f"no handler but {handler!r}"
    handler(number, None)
