"""Pictures of an evaluation: precision-recall curves, and the images where most went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rf_keras.evaluation.closeups import Tally
from rf_keras.evaluation.scoring import ImageResult
from rf_keras.evaluation.wider_ap import Curve, OperatingPoint, first_on_face
from tflite.files import replacing
from tflite.images import read_image, write_image
from tflite.spec import ModelSpec

HIT, MISS, FALSE_ALARM = (60, 200, 60), (40, 40, 230), (0, 200, 255)  # BGR: green, red, yellow


def plot_curves(curves: dict[str, Curve], points: Sequence[OperatingPoint], title: str, path: Path) -> None:
    """Draw precision over recall, one line per AP figure, and beside it precision, recall and F1 over the score
    threshold, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    beside = figure.add_subplot(1, 2, 2, xlabel="score threshold", ylabel="%", xlim=(0, 1), ylim=(0, 102))
    for name in ("precision", "recall", "f1"):
        values = [(p.threshold, getattr(p, name)) for p in points if getattr(p, name) is not None]
        beside.plot([x for x, _ in values], [y for _, y in values], label=name.replace("f1", "F1"))
    beside.grid(alpha=0.3)
    beside.legend(loc="lower left")
    axes = figure.add_subplot(1, 2, 1, title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    for name, curve in curves.items():
        drawn = curve.recall > 0
        axes.plot(curve.recall[drawn], curve.precision[drawn], label=f"{name} {100 * curve.ap:.1f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", title="AP, %")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def mistakes(result: ImageResult, threshold: float = ModelSpec.score_threshold) -> tuple[np.ndarray, np.ndarray]:
    """At a score threshold: missed faces (bool [G]), and false alarms (bool [D], in the order of `matches`)."""
    matches, valid = result.matches, result.truth.valid
    used = matches.scores >= threshold
    missed = valid.copy()
    missed[matches.face[used & (matches.face >= 0)]] = False
    repeated = (matches.face >= 0) & ~first_on_face(matches)
    repeated[repeated] = valid[matches.face[repeated]]
    return missed, used & ((matches.face < 0) | repeated)


def save_worst(results: Sequence[ImageResult], count: int, folder: Path) -> None:
    """Draw the `count` images with most misses and false alarms.

    `worst_01_m7_f2_name.jpg` has 7 misses (red) and 2 false alarms (yellow); faces found are green.
    """
    totals = [tuple(int(np.count_nonzero(m)) for m in mistakes(r)) for r in results]
    order = sorted(range(len(results)), key=lambda i: -sum(totals[i]))[:count]
    for rank, index in enumerate(order, 1):
        misses, alarms = totals[index]
        name = f"worst_{rank:02d}_m{misses}_f{alarms}_{results[index].truth.image.stem}.jpg"
        write_image(folder / name, draw_mistakes(results[index]))


def draw_mistakes(result: ImageResult) -> np.ndarray:
    """The image (uint8 BGR) with hits, misses and false alarms."""
    image = read_image(result.truth.image)
    missed, alarms = mistakes(result)
    found = result.truth.valid & ~missed
    alarm_boxes = result.found.boxes[result.matches.order[alarms]]
    marked = (result.truth.boxes[found], HIT), (result.truth.boxes[missed], MISS), (alarm_boxes, FALSE_ALARM)
    return draw_boxes(image, marked)


def draw_boxes(image: np.ndarray, marked: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """A copy of an image (uint8 BGR) with boxes [N, 4] in a colour each."""
    image = image.copy()
    for boxes, colour in marked:
        for x1, y1, x2, y2 in boxes.round().astype(int).tolist():
            cv2.rectangle(image, (x1, y1), (x2, y2), colour, max(1, round(max(image.shape) / 600)))
    return image


def save_missed(tallies: dict[str, Tally], folder: Path) -> None:
    """Draw the missed views that were kept, as `missed_<kind>_<photo>_<face>.jpg`: the face to find in red, what was
    found instead in yellow."""
    for kind, tally in tallies.items():
        for view, found in tally.missed:
            drawn = draw_boxes(view.image, ((view.box[None], MISS), (found.boxes, FALSE_ALARM)))
            write_image(folder / f"missed_{kind}_{view.name}.jpg", drawn)
