"""Detections and labels of an evaluation as COCO JSON, for other tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rf_keras.evaluation.scoring import ImageResult
from rf_keras.labels import Sample
from rf_keras.labels.coco import VISIBLE, document_of
from rf_keras.labels.model import exact
from rf_keras.labels.writing import names_of
from tflite.files import write_text

DETECTIONS, TRUTH = "detections.json", "ground_truth.json"


def write_coco(results: Sequence[ImageResult], folder: Path) -> None:
    """Write `detections.json`, a list as COCO's tools load results, and `ground_truth.json`, the labels that it was
    measured against, whose images have the numbers that the detections name."""
    truths = [r.truth for r in results]
    samples = [
        Sample(t.image, t.boxes[t.valid], t.landmarks[t.valid], t.boxes[~t.valid], r.size)
        for t, r in zip(truths, results, strict=True)
    ]
    named = names_of(samples)
    rows: list[dict[str, Any]] = []
    for number, result in enumerate(results, 1):
        columns = (getattr(result.found, name).tolist() for name in ("boxes", "scores", "landmarks"))
        for box, score, points in zip(*columns, strict=True):
            x1, y1, x2, y2 = box
            sides = [exact(value) for value in (x1, y1, x2 - x1, y2 - y1)]
            marks = [value for x, y in points for value in (exact(x), exact(y), VISIBLE)]
            row = {"image_id": number, "category_id": 1, "bbox": sides, "score": exact(score), "keypoints": marks}
            rows.append(row)
    write_text(folder / DETECTIONS, json.dumps(rows) + "\n")
    write_text(folder / TRUTH, json.dumps(document_of(named)) + "\n")
