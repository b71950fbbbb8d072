"""Means of what training steps report, and their speed; how a run ends early."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from tflite.command import INTERRUPTED


class Progress:
    """Gathers steps between two rows of metrics.

    Args:
        batch: images per step.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps, self._start = 0, time.perf_counter()

    def add(self, parts: Mapping[str, float]) -> None:
        """One step's scalars."""
        for key, value in parts.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._steps += 1

    @property
    def means(self) -> dict[str, float]:
        """Mean of each scalar since the last `take`."""
        return {key: value / self._steps for key, value in self._sums.items()}

    @property
    def images_per_second(self) -> float:
        """Since the last `take`."""
        return self._steps * self.batch / max(time.perf_counter() - self._start, 1e-9)

    def take(self) -> tuple[dict[str, float], float]:
        """Means and images per second, and start anew."""
        found = self.means, self.images_per_second
        self._restart()
        return found


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or another signal, after everything was saved.

    Attributes:
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, stop: KeyboardInterrupt) -> None:
        super().__init__(message)
        self.exit_code = getattr(stop, "exit_code", INTERRUPTED)


def check_finite(loss: float, step: int, names: str) -> None:
    """Stop at a loss that is no number.

    Args:
        loss: of the step.
        step: number of the step, from 1.
        names: of the batch's images.

    Raises:
        ValueError: it is none.
    """
    if not math.isfinite(loss):
        raise ValueError(f"loss is {loss} at step {step}, expected a finite number; batch: {names}")
