"""A detector that needs no model: it finds bright squares by their brightness."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

import tflite.detect
import tflite.run
from tflite.postprocess import Detections
from tflite.spec import ModelSpec

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)


def at(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    """Faces with these boxes x1 y1 x2 y2, points where an upright face has them."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    sides = (array[:, 2:] - array[:, :2])[:, None]
    return Detections(array, np.full(len(array), score, np.float32), array[:, None, :2] + POINTS * sides)


class StubDetector:
    """Stands for a FaceDetector: the bounding box of what is brighter than 160 is a face."""

    name, interpreter_name, num_threads, input_size = "stub", "none", 1, "auto"
    spec = ModelSpec()

    def detect(self, image: np.ndarray, *thresholds: float | None) -> Detections:
        rows, columns = np.nonzero(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) > 160)
        return at((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)) if len(rows) else at()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detect command in this process, without loading a model."""
    monkeypatch.setattr(tflite.detect, "load_detector", lambda *_: StubDetector())


class FakeCamera:
    """Stands for cv2.VideoCapture: announces 30 frames per second, delivers 5, and is unplugged after `frames`.

    Each frame's square stands 4 pixels further to the right.
    """

    rate, frames = 5.0, 12
    stamps: ClassVar[list[float]] = []  # when its frames came, by the clock

    def __init__(self, *_: Any) -> None:
        self.count = 0
        self.stamps.clear()

    def isOpened(self) -> bool:
        return True

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(prop, 0.0)

    def grab(self) -> bool:
        if self.count == self.frames:
            return False
        time.sleep(1 / self.rate)
        self.stamps.append(time.monotonic())
        self.count += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        image = np.full((120, 160, 3), 60, np.uint8)
        image[40:72, 4 * (self.count % 30) : 4 * (self.count % 30) + 32] = 230
        return True, image

    def release(self) -> None:
        pass
