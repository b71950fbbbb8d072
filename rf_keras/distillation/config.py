"""Settings of learning from a teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tflite.command import option


@dataclass(frozen=True)
class Distillation:
    """Who teaches, and what labels have to say about it."""

    teacher: str = option(
        "", "SCRFD network (.onnx) or weights file (.keras) whose outputs are the targets instead of labels"
    )
    teacher_mirror: bool = option(
        False, "ask the teacher about mirror images, too, and learn the mean of both answers", hidden=True
    )
    correct_with_labels: tuple[int, ...] = option(
        (),
        "per --data_dir 1 where its labels correct the teacher's scores, 0 where not, e.g. because a network made them",
    )
    part_weight: float = option(
        1.0, "with closeups: what the score counts where a box would be a part of a large face", hidden=True
    )

    def __post_init__(self) -> None:
        if not self.teacher:
            raise ValueError("teacher_mirror, correct_with_labels and part_weight mean nothing without a --teacher")
        if not 0 < self.part_weight < math.inf:
            raise ValueError(f"part_weight is {self.part_weight}, expected a positive number")
        if not set(self.correct_with_labels) <= {0, 1}:
            raise ValueError(f"correct_with_labels is {self.correct_with_labels}, expected 0 or 1 for each data folder")

    def check_folders(self, data_dirs: tuple[str, ...]) -> None:
        """Refuse another number of `correct_with_labels` than folders.

        Raises:
            ValueError: it is another.
        """
        if len(self.correct_with_labels) not in (0, len(data_dirs)):
            raise ValueError(
                f"correct_with_labels is {self.correct_with_labels}, expected 0 or 1 for each of {len(data_dirs)} "
                "data folders"
            )
