"""Ctrl-C, SIGTERM (docker stop, systemd) and SIGHUP (a closed terminal) end a command between two images."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        exit_code: 128 + the signal's number, as of a process that it killed.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Signals:
    """A context manager in which a signal raises `Interrupted` from `check` and `wait`, and nowhere else: an image that
    has been begun is finished with all its outputs. A second signal raises it at once.

    Signals that the caller ignores (nohup) or handles outside of Python stay so. In another thread than the main one it
    does nothing.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._waiting = False
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._number is not None
        self._number = self._number or number
        if self._waiting or again:
            raise Interrupted(self._number)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._number is not None:
            raise Interrupted(self._number)

    def wait(self, call: Callable[[], T]) -> T:
        """`call()`, which a signal interrupts: for what may take for ever, such as reading a pipe."""
        self._waiting = True
        try:
            self.check()
            return call()
        finally:
            self._waiting = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
