"""Training that goes out from trained weights (`--init`): what it is measured against, and what may count as better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_keras.config import default_threshold
from rf_keras.evaluation.before_after import has_points, measure, table, with_answered_points
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.labels import UNKNOWN, Sample
from rf_keras.model_file import load_model
from rf_keras.run_dir import BEST
from rf_keras.run_state import Run

# Weights are not `best` whose landmarks are this many times as far from the labels as the start's; or, where the
# start's answers stand for labels, this far from them, as a share of the face size.
MOST_NME, MOST_DRIFT = 1.1, 0.03
START, START_ANSWERS = "start", "the start"


@dataclass(frozen=True)
class Baseline:
    """What the weights at the start do on the validation images.

    Attributes:
        ap: percent.
        nme: share of the face size; None without a face that both labels and start have points for.
        labelled_points: labels have landmarks; else the start's answers stand for them, and `nme` is 0.
    """

    ap: float
    nme: float | None
    labelled_points: bool

    def spoiled(self, nme: float | None) -> bool:
        """Whether landmarks that validate with `nme` are worse than a fine-tuning may leave them."""
        if nme is None or self.nme is None:
            return False
        return nme > (MOST_NME * self.nme if self.labelled_points else MOST_DRIFT)


def start_detector(run: Run) -> KerasDetector:
    """The weights that a fine-tuning started from."""
    assert run.start is not None
    return KerasDetector(run.start, run.config.model, run.detector.size)


def validation_of(run: Run, samples: Sequence[Sample]) -> list[Sample]:
    """The validation images; where no label has landmarks, with those that the start answers."""
    if run.start is None or has_points(samples):
        return list(samples)
    return with_answered_points(start_detector(run), samples, default_threshold(run.meta()))


def unknown_points(samples: Sequence[Sample]) -> int:
    """Faces whose labels have no landmarks."""
    return sum(int((sample.landmarks == UNKNOWN).all(axis=(1, 2)).sum()) for sample in samples)


def compare_with_start(run: Run, samples: Sequence[Sample], figures: dict[str, Any]) -> dict[str, Any]:
    """Print start and result side by side.

    Args:
        run: at its end; what `run.averaged` holds changes.
        samples: validation images.
        figures: of the training (`train_loop.train`).

    Returns:
        `start` and `best`, or `last` where the start is best, as `before_after.measure` gives them.
    """
    labelled = has_points(samples)
    samples = validation_of(run, samples)
    threshold = default_threshold(run.meta())
    name = "last" if is_start(figures) else "best"
    if name == "best":
        run.averaged.set_weights(load_model(run.run_dir / BEST)[0].get_weights())
    else:
        run.update_averaged()
    rows = {START: measure(start_detector(run), samples, threshold), name: measure(run.detector, samples, threshold)}
    print(table(rows, "" if labelled else START_ANSWERS))
    return rows


def is_start(figures: dict[str, Any]) -> bool:
    """Whether the best weights of a fine-tuning are those that it started from."""
    start, best = figures["start_ap"], figures["best_ap"]
    return start is not None and best is not None and bool(np.float32(best) <= np.float32(start))


def outcome(figures: dict[str, Any]) -> str:
    """The end of a training in one sentence, its best weights beside its start."""
    best = figures["best_ap"]
    if best is None:
        return "not measured: no image was held out"
    if figures["start_ap"] is None:
        return f"best validation AP {best:.1f} %"
    start = f"validation AP {figures['start_ap']:.1f} %"
    if is_start(figures):
        return f"nothing was better than the start ({start}), which is in {BEST}; the last epoch is in last.keras"
    return f"{start} at the start, {best:.1f} % in {BEST}"
