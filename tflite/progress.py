"""A progress line without a dependency: the base install has no tqdm."""

from __future__ import annotations

import sys
import time


class Progress:
    """Count, rate and time left on the last line of a terminal; silent where stderr is none.

    Args:
        total: how many there will be; 0 if unknown.
        unit: what is counted, e.g. "images".
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.done, self.start = total, unit, 0, time.monotonic()
        self.shown = total != 1 and sys.stderr.isatty()

    @property
    def rate(self) -> float:
        """Per second so far."""
        return self.done / max(time.monotonic() - self.start, 1e-9)

    def clear(self) -> None:
        """Before other output: start of an empty line."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def step(self) -> None:
        """One more done."""
        self.done += 1
        if self.shown:
            of = f"/{self.total}" if self.total else ""
            left = f", {(self.total - self.done) / self.rate:.0f} s left" if self.total else ""
            print(f"\r{self.done}{of} {self.unit}, {self.rate:.1f}/s{left}\x1b[K", end="", file=sys.stderr, flush=True)
