"""Recall and precision over score thresholds: for choosing the default threshold that a model file carries.

    python benchmarks/operating_point.py --weights W.keras --models A.tflite [--models B.tflite …] [--data_dir D …]
                                         [--min_face 16] [--json F]

Measured on the images that the training of W held out, which its settings inside the file give; not on test images.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from rf_keras.evaluation.ground_truth import truth_of_samples
from rf_keras.evaluation.scoring import ImageResult, evaluate, face_sizes
from rf_keras.evaluation.wider_ap import first_on_face
from rf_keras.labels import Sample
from rf_keras.model_file import read_config
from rf_keras.train_loop import split_samples, split_settings
from tflite.command import option, start
from tflite.detector import FaceDetector

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    weights: Path = option(text="weights file (.keras) whose training held the images out")
    models: tuple[Path, ...] = option(text="model file (.tflite); repeatable")
    data_dir: tuple[Path, ...] = option(
        (), "the training's folders in their order, each with its own flag (default: where they were)"
    )
    min_face: float = option(16.0, "smallest face that counts, √(w·h) in image pixels", low=0)
    json: Path | None = option(None, "file to write the figures to")


def held_out(weights: Path, data_dirs: Sequence[Path]) -> list[Sample]:
    """The samples that the training of `weights` held out.

    Args:
        weights: a .keras file written by `rf_keras.train` or tuned from one.
        data_dirs: where the training's folders are now, in their order; empty: where they were.

    Raises:
        ValueError: no training settings in the file, or another number of folders.
    """
    recipe = read_config(weights)[1].get("train")
    if not recipe:
        raise ValueError(f"{weights}: no training settings inside, expected a file that rf_keras.train wrote")
    config = split_settings(recipe)
    if data_dirs and len(data_dirs) != len(config.data_dirs):
        raise ValueError(
            f"--data_dir: {len(data_dirs)} folders, {weights} was trained on {len(config.data_dirs)}: "
            + ", ".join(config.data_dirs)
        )
    return split_samples(dataclasses.replace(config, data_dirs=tuple(map(str, data_dirs)) or config.data_dirs))[2]


def operating_points(results: Sequence[ImageResult], min_face: float) -> list[dict[str, float]]:
    """One row per threshold: recall and precision in percent, and false alarms.

    Smaller faces than `min_face` (√(w·h), image pixels) are neither to be found nor false alarms. Of several detections
    on one face, all but the best are false.
    """
    scores, hits, left_out = [], [], []
    faces = 0
    for result in results:
        large = face_sizes(result.truth.boxes) >= min_face
        faces += int(np.count_nonzero(large))
        first, face = first_on_face(result.matches), result.matches.face
        on_small = np.zeros(len(face), bool)
        on_small[face >= 0] = ~large[face[face >= 0]]
        scores.append(result.matches.scores)
        hits.append(first & ~on_small)
        left_out.append(on_small)
    score, hit, ignored = (np.concatenate(parts) if parts else np.zeros(0) for parts in (scores, hits, left_out))
    rows = []
    for threshold in THRESHOLDS:
        kept = (score >= threshold) & (ignored == 0)
        found, shown = int(np.count_nonzero(kept & (hit == 1))), int(np.count_nonzero(kept))
        rows.append(
            {
                "threshold": threshold,
                "recall": round(100 * found / max(faces, 1), 1),
                "precision": round(100 * found / max(shown, 1), 1),
                "false_alarms": shown - found,
            }
        )
    return rows


def run(options: Options) -> dict[str, Any]:
    """Measure, print the figures and return them."""
    truths = truth_of_samples(held_out(options.weights, options.data_dir))
    report: dict[str, Any] = {
        "weights": str(options.weights),
        "images": len(truths),
        "min_face": options.min_face,
        "models": {},
    }
    for model in options.models:
        with FaceDetector(model, num_threads=1, input_size=None) as detector:
            results = evaluate(partial(detector.detect, score_threshold=THRESHOLDS[0]), truths).images
            own = detector.spec.score_threshold
            rows = operating_points(results, options.min_face)
            report["models"][str(model)] = {
                "interpreter": detector.interpreter_name,
                "own_threshold": own,
                "rows": rows,
            }
        interpreter = report["models"][str(model)]["interpreter"]
        print(f"{model}, {interpreter}, {len(truths)} images, faces ≥ {options.min_face:g} px")
        print(f"{'threshold':>10}{'recall %':>10}{'precision %':>13}{'false alarms':>14}")
        for row in rows:
            mark = "  the file's own" if row["threshold"] == own else ""
            print(f"{row['threshold']:>10}{row['recall']:>10}{row['precision']:>13}{row['false_alarms']:>14}{mark}")
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
