"""Where the detect command's results go: files of faces, annotated images or videos, crops, a window."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from tflite.detect_options import DetectOptions
from tflite.files import replacing, write_text
from tflite.formats import (
    COCO,
    CSV,
    JSON,
    JSONL,
    LEFT,
    LEFT_UPRIGHT,
    YOLO,
    CocoFile,
    CsvFile,
    FacesFile,
    JsonFile,
    LinesFile,
    Put,
    Record,
    YoloFolder,
    append_to,
)
from tflite.images import write_image
from tflite.messages import Console
from tflite.pictures import PictureWriter
from tflite.postprocess import Detections
from tflite.settle import STDOUT, Targets, settle_outputs
from tflite.sources import VideoSource
from tflite.tracking import Tracked
from tflite.video import Frame
from tflite.video_out import VideoSink

WINDOW = "faces (Esc or q ends)"


class Stopped(Exception):
    """The user closed the window."""


class PipeClosed(Exception):
    """Nobody reads stdout any more, and stdout is all that was asked for."""


def faces_json(results: dict[str, list[dict[str, Any]]]) -> str:
    """A JSON object, file → list of faces, one face per line."""
    entries = (
        f"{json.dumps(name)}: [" + ",".join(f"\n {json.dumps(face)}" for face in faces) + "]"
        for name, faces in results.items()
    )
    return "{" + ",\n".join(entries) + "}\n"


class Results:
    """Receives each image's faces; a context manager.

    The constructor checks all outputs, before anything is written. Documents such as --json are written at the end,
    also if that comes early, with what was done by then; lines grow one by one.

    Args:
        options: of the detect command.
        names: picture as given → its name below output folders.
        videos: what is read besides.
        console: for what goes to stdout.
        tell: takes lines for the user.

    Raises:
        UsageError: flags that do not fit together, an output that is an input or another output or that cannot be
            written, or no windows in this OpenCV.
    """

    def __init__(
        self,
        options: DetectOptions,
        names: dict[str, Path],
        videos: Sequence[VideoSource] = (),
        console: Console | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.options, self.faces = options, {}  # type: DetectOptions, dict[str, list[dict[str, Any]]]
        self.pictures = PictureWriter.of(options)
        self._console, self._tell = console or Console(), tell
        self.targets: Targets = settle_outputs(options, names, videos)
        self._stack = contextlib.ExitStack()
        self._lines: IO[str] | None = None
        self._file: FacesFile | None = None
        self._sink: VideoSink | None = None
        if options.show:
            open_window(WINDOW)

    def __enter__(self) -> Results:
        options = self.options
        if options.jsonl and options.jsonl != STDOUT:
            self._lines = append_to(Path(options.jsonl), self._stack)
        if options.faces:
            self._file = self._faces_file(options.faces)
        return self

    def _faces_file(self, path: str) -> FacesFile:
        form = self.targets.format
        if form == YOLO:
            return YoloFolder(Path(path))
        put: Put
        if path == STDOUT:
            header, put = True, self._console.write
        elif form in (JSONL, CSV):
            lines = append_to(Path(path), self._stack)
            header = not lines.seekable() or lines.tell() == 0

            def put(text: str) -> None:
                lines.write(text)
                lines.flush()

        else:

            def put(text: str) -> None:
                write_text(Path(path), text)

        if form == JSON:
            return JsonFile(put, LEFT_UPRIGHT if self.options.any_rotation else LEFT)
        if form == COCO:
            return CocoFile(put)
        return CsvFile(put, header) if form == CSV else LinesFile(put)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        ended = asked_for(kind)
        self._stack.__exit__(*(None, None, None) if ended else (kind, error, trace))
        if not ended:
            return
        if self._file:
            self._file.finish()
        if self.options.json == STDOUT:
            self._console.write(faces_json(self.faces))
        elif self.options.json:
            write_text(Path(self.options.json), faces_json(self.faces))

    @contextlib.contextmanager
    def video(self, source: str, fps: float) -> Iterator[None]:
        """While the frames of one video come.

        Args:
            source: as given.
            fps: frames per second to come.
        """
        target = self.targets.videos.get(source)
        if target is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            sink = VideoSink(stack.enter_context(replacing(target)), str(target), fps, self._tell)
            stack.callback(sink.close)
            self._sink = sink
            try:
                yield
            except BaseException as error:
                # An end that the user asked for leaves a video of what was done; without a frame there is none to put
                # in place of an older one.
                if not asked_for(type(error)) or not sink.frames:
                    raise
                stack.close()
                raise
            finally:
                self._sink = None
            if not sink.frames:
                raise NoFrames

    @property
    def only_stdout(self) -> bool:
        """Whether nothing but stdout was asked for: then there is no reason to go on once it is closed."""
        options = self.options
        files = [value for value in (options.json, options.jsonl, options.faces) if value and value != STDOUT]
        return not (files or options.output or options.crops or options.show)

    def add(
        self,
        source: str,
        name: Path,
        image: np.ndarray,
        found: Detections,
        frame: Frame | None = None,
        tracked: Tracked | None = None,
    ) -> None:
        """Take one image's faces.

        Args:
            source: the file as given.
            name: of the crops, below their folder.
            image: uint8 BGR [H, W, 3] the faces are of.
            frame: of the video.
            tracked: the same faces with their identities.

        Raises:
            OSError: an output cannot be written.
            Stopped: the user closed the window.
            PipeClosed: there is nobody left to write to.
        """
        self._write_images(source, name, image, found, frame, tracked)
        self.record(source, name, (image.shape[0], image.shape[1]), found, frame, tracked.ids if tracked else None)

    def record(
        self,
        source: str,
        name: Path,
        size: tuple[int, int],
        found: Detections,
        frame: Frame | None = None,
        tracks: list[int] | None = None,
    ) -> None:
        """`add` without the picture, whose (height, width) is given: what is written of its pixels is written."""
        name = self.targets.faces.get(source, name)
        number, seconds = (None, None) if frame is None else (frame.number, frame.time)
        asked = self.options.mesh, self.options.pose
        record = Record(source, name, size[1], size[0], found, number, seconds, tracks, *asked)
        if self.options.json:
            self.faces[source if frame is None else f"{source}#{frame.number}"] = record.faces()
        if self.options.jsonl:
            line = json.dumps({"file": source, **record.place, "faces": record.faces()}) + "\n"
            if self._lines:
                self._lines.write(line)
                self._lines.flush()
            else:
                self._console.write(line)
        if self._file:
            self._file.add(record)
        if self._console.closed and self.only_stdout:
            raise PipeClosed

    def _write_images(
        self,
        source: str,
        name: Path,
        image: np.ndarray,
        found: Detections,
        frame: Frame | None,
        tracked: Tracked | None,
    ) -> None:
        self.pictures.write_crops(name, image, found)
        target = self.targets.pictures.get(source)
        if not (target or self._sink or self.options.show):
            return
        annotated = self.pictures.annotate(image, found, tracked)
        if self._sink:
            self._sink.write(annotated, None if frame is None else frame.time)
        elif target:
            write_image(target, annotated)
        if self.options.show:
            cv2.imshow(WINDOW, annotated)
            if cv2.waitKey(0 if frame is None else 1) in (27, ord("q")):
                raise Stopped


class NoFrames(Exception):
    """A video was to be written, but none of its frames came."""


def asked_for(kind: type[BaseException] | None) -> bool:
    """Whether an end with this exception leaves the same files as the last image: what was done is whole."""
    return kind is None or issubclass(kind, (KeyboardInterrupt, Stopped, PipeClosed))


def open_window(name: str) -> None:
    """Open a window for pictures.

    Raises:
        UsageError: this OpenCV has none, or there is no display.
    """
    from tflite.outputs import UsageError

    try:
        cv2.namedWindow(name, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        if "GUI:                           NONE" in cv2.getBuildInformation():
            raise UsageError(
                "--show needs the OpenCV that opens windows, this one is headless: "
                "pip uninstall -y opencv-python-headless, then pip install opencv-python"
            ) from error
        raise UsageError("--show needs a display, and there is none") from error
