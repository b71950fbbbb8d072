"""Frames of video files, cameras and streams, with their times."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tflite.decoder_log import DecoderLog
from tflite.images import ImageError
from tflite.messages import one_line, printable
from tflite.sources import CAMERA, FILE, PICAMERA2, STREAM, SourceError, VideoSource, video_source

DEFAULT_FPS = 25.0  # where the source does not say
RETRIES = 5  # reads in a row that a camera may fail before it counts as unplugged
RETRY_SECONDS = 0.1
EXPECTED = {
    FILE: "expected one that OpenCV reads",
    CAMERA: "expected the number or the device of one that is connected and not in use",
    STREAM: "expected the address of one that OpenCV reads",
}


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        number: of the frame in the source, from 0.
        time: seconds since the first one: of a file by its time stamps, of a camera or a stream by the clock.
        image: uint8 BGR [H, W, 3].
    """

    number: int
    time: float
    image: np.ndarray


class Pick:
    """Which frames are wanted: every Nth, or at most so many per second."""

    def __init__(self, every: int = 1, rate: float | None = None) -> None:
        self._every, self._rate, self._due = every, rate, 0.0

    def __call__(self, number: int, seconds: float) -> bool:
        if self._rate is None:
            return number % self._every == 0
        if seconds + 1e-6 < self._due:
            return False
        self._due = (int(seconds * self._rate + 1e-6) + 1) / self._rate
        return True


class Video:
    """A video file, a camera (number, device or "picamera2") or a stream (URL), open.

    Attributes:
        name: as given.
        kind: "video file", "camera" or "stream".
        fps: frames per second that the source announces.
        frames: how many it announces; 0 if unknown, as for cameras.
        live: frames come by the clock, and those that come while the caller is busy are dropped.
        read: frames that were read, also those that were not wanted.

    Raises:
        ImageError: it cannot be opened.
    """

    def __init__(self, source: str | VideoSource) -> None:
        if isinstance(source, str):
            try:
                source = video_source(source) or VideoSource(source, FILE)
            except SourceError as error:
                raise ImageError(str(error)) from error
        self.name, self.kind = source.name, source.kind
        shown = printable(self.name)
        if self.kind == FILE and not Path(self.name).is_file():
            raise ImageError(f"{shown}: no such file, expected a video file or the number of a camera")
        with _quiet_opencv():
            self._capture = _open(self.name, self.kind)
        if not self._capture.isOpened():
            raise ImageError(f"{shown}: cannot open the {self.kind}, {EXPECTED[self.kind]}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        announced = int(min(max(self._capture.get(cv2.CAP_PROP_FRAME_COUNT), 0), 2**53))
        self.frames = 0 if self.kind == CAMERA else announced
        self.live = self.kind == CAMERA or (self.kind == STREAM and not self.frames)
        self.read = 0
        self._end = 0.0  # seconds: when the last frame that was read ends
        self._stuck = False
        self._damaged: list[int] = []  # numbers of frames at which the decoder complained

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 BGR [H, W, 3] until the end, or until a frame cannot be decoded."""
        return (frame.image for frame in self.pick(Pick()))

    def pick(self, wanted: Pick, log: DecoderLog | None = None) -> Generator[Frame, None, None]:
        """The wanted frames.

        Args:
            log: what the decoder says, for `problem`; of files only.
        """
        try:
            yield from self._live(wanted) if self.live else self._stored(wanted, log)
        finally:
            if not self._stuck:  # a thread that waits in it for ever would crash
                self._capture.release()

    def _stored(self, wanted: Pick, log: DecoderLog | None) -> Iterator[Frame]:
        last, gap = 0.0, 1 / self.fps
        while True:
            ok = self._capture.grab()
            if log and log.complaint():
                self._damaged.append(self.read)
            if not ok:
                return
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some containers stamp no frame, or not all.
            seconds = max(stamp, 0.0) if self.read == 0 or stamp > last else last + 1 / self.fps
            gap = seconds - last if self.read else gap
            number, last, self.read = self.read, seconds, self.read + 1
            self._end = seconds + gap
            if wanted(number, seconds):
                ok, image = self._capture.retrieve()
                if log and log.complaint():
                    self._damaged.append(number)
                if ok:
                    yield Frame(number, seconds, image)

    def _live(self, wanted: Pick) -> Iterator[Frame]:
        latest = _Latest(self._capture, wanted)
        try:
            while (frame := latest.get()) is not None:
                self.read = frame.number + 1
                yield frame
        finally:
            self._stuck = not latest.stop()

    def problem(self, log: DecoderLog | None = None) -> str | None:
        """After the last frame: one line on what is missing or damaged, None if nothing is."""
        shown = printable(self.name)
        if self.live:
            return f"{shown}: the {self.kind} delivers no more frames, {self.read} were read"
        # Of MP4 an edit list may leave out frames, and FFmpeg says of those that are missing; an AVI just ends.
        short = (
            self.read < self.frames
            and self._end < (self.frames - 1.5) / self.fps
            and not (self.kind == FILE and _is_mp4(self.name))
        )
        if not short and not self._damaged:
            return None
        announced = f"{self.frames} frames announced" if self.frames else "an unknown number of frames announced"
        line = f"{shown}: {announced}, {self.read} read"
        if self._damaged:
            said = f" ({one_line(ValueError(log.first))})" if log and log.first else ""
            line += f", damage found at frame {self._damaged[0]}{said}"
        return line


def _open(name: str, kind: str) -> Any:
    if name == PICAMERA2:
        from tflite.picamera import PiCamera

        return PiCamera()
    if kind != CAMERA:
        return cv2.VideoCapture(name)
    number = re.fullmatch(r"(?:/dev/video)?(\d+)", name)
    return cv2.VideoCapture(int(number[1]) if number and len(number[1]) < 6 else -1)


def _is_mp4(name: str) -> bool:
    try:
        with Path(name).open("rb") as file:
            return file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
    except OSError:
        return False


class _Latest:
    """Reads in a thread of its own and keeps the newest wanted frame: a slow caller sees the present, not a queue."""

    def __init__(self, capture: Any, wanted: Pick) -> None:
        self._capture, self._wanted = capture, wanted
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended = self._stopped = False
        self._thread = threading.Thread(target=self._read, daemon=True)  # one may wait for ever on a camera
        self._thread.start()

    def _read(self) -> None:
        number, failed, start = 0, 0, 0.0
        while not self._stopped and failed < RETRIES:
            if not self._capture.grab():
                failed += 1
                time.sleep(RETRY_SECONDS)
                continue
            now = time.monotonic()
            start = start if number else now
            failed = 0
            if self._wanted(number, now - start):
                ok, image = self._capture.retrieve()
                if ok:
                    with self._changed:
                        self._frame = Frame(number, now - start, image)
                        self._changed.notify()
            number += 1
        with self._changed:
            self._ended = True
            self._changed.notify()

    def get(self) -> Frame | None:
        """The newest frame, waiting for one; None once there are no more."""
        with self._changed:
            while self._frame is None and not self._ended:
                self._changed.wait()
            frame, self._frame = self._frame, None
            return frame

    def stop(self) -> bool:
        """End the thread; whether it has ended."""
        self._stopped = True
        self._thread.join(2.0)
        return not self._thread.is_alive()


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints a warning for each backend that cannot open a source; the caller says it in one line."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
