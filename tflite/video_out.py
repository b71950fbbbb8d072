"""Annotated video files."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from tflite.decoder_log import without_stderr
from tflite.images import ImageError

# Suffix → codecs to try with OpenCV, the first one that browsers play where there is one.
VIDEO_SUFFIXES = {
    ".mp4": ("avc1", "mp4v"),
    ".mov": ("avc1", "mp4v"),
    ".mkv": ("avc1", "mp4v"),
    ".webm": ("VP80",),
    ".avi": ("MJPG",),
}
H264_SUFFIXES = (".mp4", ".mov", ".mkv")  # by PyAV where it is installed
BROWSER_CODECS = ("avc1", "VP80", "h264")
MEASURED_FRAMES = 10  # whose times give the rate, before the file is begun
NEAR = 0.05  # of the announced rate: a measured one as near as that confirms it
MOST_REPEATS = 600  # frames written for one that came late
MILLISECONDS = Fraction(1, 1000)


class _Writer(Protocol):
    """Takes frames of one size.

    Attributes:
        codec: its short name.
        timed: it stores the time of each frame; else frames are evenly spaced.
    """

    codec: str
    timed: bool

    def write(self, frame: np.ndarray, seconds: float) -> None: ...
    def close(self) -> None: ...


class _OpenCVWriter:
    timed = False

    def __init__(self, path: Path, codec: str, fps: float, size: tuple[int, int]) -> None:
        self.codec = codec
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
        if not self._writer.isOpened():
            raise OSError(f"OpenCV has no {codec} here")

    def write(self, frame: np.ndarray, seconds: float) -> None:
        self._writer.write(frame)

    def close(self) -> None:
        self._writer.release()


class _PyAVWriter:
    codec, timed = "h264", True

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._av = importlib.import_module("av")
        # The longest run without a key frame is two seconds: players jump to key frames only.
        options = {"preset": "veryfast", "crf": "23"}
        self._container = self._av.open(str(path), "w")
        self._stream: Any = self._container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options=options
        )
        self._stream.width, self._stream.height = (side + side % 2 for side in size)  # halved in both directions
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = MILLISECONDS
        self._stream.codec_context.gop_size = max(round(2 * fps), 1)
        self._last = -1

    def write(self, frame: np.ndarray, seconds: float) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        picture = self._av.VideoFrame.from_ndarray(frame, format="bgr24")
        self._last = max(round(seconds * 1000), self._last + 1)
        picture.pts, picture.time_base = self._last, MILLISECONDS
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class VideoSink:
    """Writes uint8 BGR frames to a video file, at the pace at which they came.

    Args:
        path: to write; the suffix chooses the codec (`VIDEO_SUFFIXES`).
        name: what to call it in errors.
        fps: frames per second as announced; where the times of the first frames say otherwise, they count.
        tell: takes a line if browsers will not play the file.

    Attributes:
        frames: how many were given.

    Raises:
        ImageError: on the first frame, if such a file cannot be written here.
    """

    def __init__(self, path: Path, name: str, fps: float, tell: Callable[[str], None] = lambda line: None) -> None:
        self._path, self._name, self._announced, self._tell = path, name, fps, tell
        self._fps: float | None = None
        self._writer: _Writer | None = None
        self._size = (0, 0)
        self._waiting: list[tuple[np.ndarray, float]] = []
        self._start: float | None = None
        self._written = 0  # evenly spaced frames
        self._last: np.ndarray | None = None
        self.frames = 0

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Add a frame.

        Args:
            seconds: when it came, growing; by default one frame after the last, at the announced rate.
        """
        if seconds is None:
            self._fps, seconds = self._announced, self.frames / self._announced
        self._start = seconds if self._start is None else self._start
        seconds -= self._start
        self.frames += 1
        if self._fps is not None:
            self._write(frame, seconds)
            return
        self._waiting.append((frame, seconds))
        if len(self._waiting) == MEASURED_FRAMES:
            self._measure()

    def _measure(self) -> None:
        """Settle the rate, and write what waits."""
        # The median: a camera's first frames may take long.
        gaps = np.diff([when for _, when in self._waiting])
        gap = float(np.median(gaps)) if len(gaps) else 0.0
        fps = min(max(1 / gap, 0.01), 240.0) if gap > 0 else self._announced
        self._fps = self._announced if abs(fps / self._announced - 1) <= NEAR else fps
        for frame, when in self._waiting:
            self._write(frame, when)
        self._waiting = []

    def _write(self, frame: np.ndarray, seconds: float) -> None:
        assert self._fps is not None
        if self._writer is None:
            self._size = frame.shape[1], frame.shape[0]
            self._writer = self._begin(self._fps)
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        if self._writer.timed:
            self._writer.write(frame, seconds)
            return
        # Evenly spaced: one that came late is preceded by repeats of the last, one that came too soon is left out.
        place = round(seconds * self._fps)
        for _ in range(min(place - self._written, MOST_REPEATS)):
            self._writer.write(frame if self._last is None else self._last, seconds)
            self._written += 1
        if place >= self._written:
            self._writer.write(frame, seconds)
            self._written += 1
        self._last = frame

    def _begin(self, fps: float) -> _Writer:
        suffix = self._path.suffix.lower()
        writer: _Writer | None = None
        if suffix in H264_SUFFIXES:
            writer = self._with_pyav(fps)
        for codec in VIDEO_SUFFIXES[suffix] if writer is None else ():
            try:
                with without_stderr():
                    writer = _OpenCVWriter(self._path, codec, fps, self._size)
                break
            except OSError:
                continue
        if writer is None:
            raise ImageError(f"{self._name}: OpenCV cannot write this video format here")
        if writer.codec not in BROWSER_CODECS:
            self._tell(
                f"{self._name}: written as {writer.codec}, which browsers do not play; "
                + (
                    "pip install 'retinaface-keras[video]' for H.264, or --output with .webm"
                    if suffix in H264_SUFFIXES
                    else ".webm they play"
                )
            )
        return writer

    def _with_pyav(self, fps: float) -> _Writer | None:
        try:
            return _PyAVWriter(self._path, fps, self._size)
        except (ImportError, ValueError, OSError):  # not installed, or without an encoder (PyAV's errors are both)
            return None

    def close(self) -> None:
        """End the file: what was given is then in it."""
        if self._waiting:
            self._measure()
        if self._writer is not None:
            self._writer.close()
