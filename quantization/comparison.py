"""What a comparison of a float model with its exported files has found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantization.layer_error import LayerError
from rf_keras.evaluation.scoring import Evaluation
from tflite.postprocess import Detections


@dataclass(frozen=True, eq=False)
class Column:
    """One model of the report: figures for the JSON, and what the plots need."""

    name: str
    figures: dict[str, Any]
    evaluation: Evaluation
    layers: list[LayerError]


@dataclass(frozen=True, eq=False)
class Disagreement:
    """An image with the faces that only the float model or only the file finds."""

    image: Path
    model: str
    expected: Detections
    found: Detections
    lost: int
    new: int
