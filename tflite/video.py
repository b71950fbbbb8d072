"""Frames of video files and cameras, and annotated video files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tflite.images import ImageError
from tflite.messages import printable

VIDEO_SUFFIXES = {".mp4": "mp4v", ".avi": "MJPG", ".mov": "mp4v", ".mkv": "mp4v"}
DEFAULT_FPS = 25.0  # where the source does not say


class Video:
    """Frames of `source`: a video file, or a camera by its number.

    Attributes:
        fps: frames per second, of the file or camera.
        frames: how many the file says it has; 0 if unknown, as for cameras.

    Raises:
        ImageError: it cannot be opened.
    """

    def __init__(self, source: str) -> None:
        camera = source.isdecimal()
        if not camera and not Path(source).is_file():
            raise ImageError(f"{printable(source)}: no such file, expected a video file or the number of a camera")
        with _quiet_opencv():
            self._capture = cv2.VideoCapture(int(source) if camera else source)
        if not self._capture.isOpened():
            kind = "camera" if camera else "video file"
            raise ImageError(f"{printable(source)}: cannot open the {kind}, expected one that OpenCV reads")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        self.frames = 0 if camera else max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 BGR [H, W, 3] until the end, or until a frame cannot be decoded."""
        try:
            while True:
                ok, frame = self._capture.read()
                if not ok:
                    return
                yield frame
        finally:
            self._capture.release()


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints a warning for each backend that cannot open a source; the caller says it in one line."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


class VideoSink:
    """Writes uint8 BGR frames of one size to a video file.

    Args:
        path: to write; the suffix chooses the codec (`VIDEO_SUFFIXES`).
        name: what to call it in errors.
        fps: frames per second.

    Attributes:
        frames: how many were written.

    Raises:
        ImageError: on the first frame, if OpenCV cannot write such a file.
    """

    def __init__(self, path: Path, name: str, fps: float) -> None:
        self._path, self._name, self._fps = path, name, fps
        self._writer: cv2.VideoWriter | None = None
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*VIDEO_SUFFIXES[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._path), codec, self._fps, (frame.shape[1], frame.shape[0]))
            if not self._writer.isOpened():
                raise ImageError(f"{self._name}: OpenCV cannot write this video format here")
        self._writer.write(frame)
        self.frames += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
