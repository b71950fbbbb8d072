"""A Raspberry Pi's camera through picamera2, with the few methods of `cv2.VideoCapture` that are needed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from tflite.images import ImageError
from tflite.messages import one_line

SIZE = (1280, 720)


class PiCamera:
    """The first camera, started.

    Raises:
        ImageError: picamera2 is not installed, or there is no camera.
    """

    def __init__(self) -> None:
        try:
            from picamera2 import Picamera2
        except ImportError as error:
            raise ImageError(
                "picamera2: not installed here, expected Raspberry Pi OS with: sudo apt install python3-picamera2"
            ) from error
        try:
            self._camera: Any = Picamera2()
            # What picamera2 calls RGB888 lies in memory as B, G, R.
            self._camera.configure(self._camera.create_video_configuration(main={"size": SIZE, "format": "RGB888"}))
            self._camera.start()
        except (RuntimeError, IndexError, OSError) as error:
            raise ImageError(f"picamera2: cannot start a camera ({one_line(error)}), expected one") from error
        self._image: np.ndarray | None = None

    def isOpened(self) -> bool:
        return True

    def get(self, prop: int) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        try:
            self._image = self._camera.capture_array("main")
        except (RuntimeError, OSError):
            return False
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and the last one grabbed: uint8 BGR [H, W, 3]."""
        image = self._image
        return image is not None, None if image is None else np.ascontiguousarray(image[..., :3])

    def release(self) -> None:
        self._camera.stop()
        self._camera.close()
