"""Where the detect command's results go: JSON, JSON lines, annotated images or video, crops, a window."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from tflite.align import align_face
from tflite.detect_options import DetectOptions
from tflite.draw import blur_faces, draw_detections
from tflite.files import is_special, replacing, write_text
from tflite.images import IMAGE_SUFFIXES, write_image
from tflite.messages import Console, printable
from tflite.outputs import (
    OutputPlan,
    UsageError,
    annotated_names,
    check_file,
    check_folder,
    check_text_file,
    crop_name,
)
from tflite.postprocess import Detections
from tflite.shipped import find_model
from tflite.video import VIDEO_SUFFIXES, VideoSink

WINDOW = "faces (Esc or q ends)"
STDOUT = "-"
STDOUT_NAMES = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


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


def ends_in_a_line(path: Path) -> bool:
    """Whether the last line of a file, if there is one, lacks its end: of a command that was killed."""
    try:
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
    except FileNotFoundError:
        return False


class Results:
    """Receives each image's faces; a context manager.

    The constructor checks all outputs, before anything is written. --json is written at the end, also if that comes
    early, with what was done by then; --jsonl grows line by line.

    Args:
        options: of the detect command.
        names: image as given → its name below output folders; None for a video.
        fps: frames per second of the video.
        console: for --json - and --jsonl -.

    Raises:
        UsageError: flags that do not fit together, an output that is an input or another output or that cannot be
            written, or no windows in this OpenCV.
    """

    def __init__(
        self, options: DetectOptions, names: dict[str, Path] | None, fps: float = 0.0, console: Console | None = None
    ) -> None:
        self.options, self.faces = options, {}  # type: DetectOptions, dict[str, list[dict[str, Any]]]
        self._names, self._fps, self._console = names, fps, console or Console()
        self._targets = self._settle_outputs()
        self._stack = contextlib.ExitStack()
        self._lines: IO[str] | None = None
        self._sink: VideoSink | None = None
        if options.blur and not (options.output or options.show):
            raise UsageError("--blur needs --output or --show: it changes the annotated images")
        if options.show:
            try:
                cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
            except cv2.error as error:
                raise UsageError("--show needs the windowed OpenCV and a display: pip install opencv-python") from error

    def _settle_outputs(self) -> dict[str, Path]:
        """Check every output; returns input → annotated image."""
        options, names = self.options, self._names
        plan = OutputPlan()
        if options.json == options.jsonl == STDOUT:
            raise UsageError("--json and --jsonl are both stdout, expected one of them there")
        model = find_model(options.model)
        plan.protect(model, f"the model {printable(model)}")
        for source in [options.source or ""] if names is None else names:
            if source != STDOUT:
                plan.protect(Path(source), f"the input {printable(source)}")
        for flag, value in (("--json", options.json), ("--jsonl", options.jsonl)):
            if value and value != STDOUT:
                check_text_file(flag, Path(value))
                plan.claim(Path(value), flag)
        targets = self._settle_annotated(plan) if options.output else {}
        if options.crops:
            check_folder("--crops", Path(options.crops))
            plan.claim_crops(Path(options.crops), names or {})
        return targets

    def _settle_annotated(self, plan: OutputPlan) -> dict[str, Path]:
        output = Path(self.options.output or "")
        shown, suffix = printable(output), output.suffix.lower()
        if self._names is None:
            if suffix not in VIDEO_SUFFIXES:
                raise UsageError(f"--output {shown}: expected a video file ({' '.join(VIDEO_SUFFIXES)})")
            check_file("--output", output)
            plan.claim(output, "--output")
            return {}
        if suffix not in IMAGE_SUFFIXES or output.is_dir():
            if output.exists() and not output.is_dir():
                raise UsageError(f"--output {shown} is a file, expected a folder or an image file")
            check_folder("--output", output)
            return annotated_names(output, self._names, plan)
        if len(self._names) > 1:
            raise UsageError(
                f"--output {shown} is one image, but there are {len(self._names)} inputs: expected a folder"
            )
        check_file("--output", output)
        return annotated_names(output.parent, {source: Path(output.name) for source in self._names}, plan)

    def __enter__(self) -> Results:
        options = self.options
        if options.jsonl and options.jsonl != STDOUT:
            path = Path(options.jsonl)
            path.parent.mkdir(parents=True, exist_ok=True)
            cut = not is_special(path) and ends_in_a_line(path)
            self._lines = self._stack.enter_context(path.open("a", encoding="utf-8"))
            if cut:
                self._lines.write("\n")
        if self._names is None and options.output:
            temporary = self._stack.enter_context(replacing(Path(options.output)))
            self._sink = VideoSink(temporary, options.output, self._fps)
            self._stack.callback(self._sink.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        # An end that the user asked for leaves the same files as the last image: what was done is whole.
        ended = kind is None or issubclass(kind, (KeyboardInterrupt, Stopped, PipeClosed))
        empty = self._sink is not None and not self._sink.frames  # no video to put in place of an older one
        self._stack.__exit__(*(None, None, None) if ended and not empty else (kind, error, trace))
        if not ended:
            return
        if self.options.json == STDOUT:
            self._console.write(faces_json(self.faces))
        elif self.options.json:
            write_text(Path(self.options.json), faces_json(self.faces))

    @property
    def only_stdout(self) -> bool:
        """Whether nothing but stdout was asked for: then there is no reason to go on once it is closed."""
        options = self.options
        files = [value for value in (options.json, options.jsonl) if value and value != STDOUT]
        return not (files or options.output or options.crops or options.show)

    def add(self, source: str, name: Path, image: np.ndarray, found: Detections, frame: int | None = None) -> None:
        """Take one image's faces.

        Args:
            source: the file as given.
            name: of the crops, below their folder.
            image: uint8 BGR [H, W, 3] the faces are of.
            frame: number in the video, from 0.

        Raises:
            OSError: an output cannot be written.
            Stopped: the user closed the window.
            PipeClosed: there is nobody left to write to.
        """
        self._write_images(source, name, image, found)
        faces = found.to_list()
        if self.options.json:
            self.faces[source if frame is None else f"{source}#{frame}"] = faces
        if self.options.jsonl:
            number = {} if frame is None else {"frame": frame, "time": round(frame / self._fps, 4)}
            line = json.dumps({"file": source, **number, "faces": faces}) + "\n"
            if self._lines:
                self._lines.write(line)
                self._lines.flush()
            else:
                self._console.write(line)
        if self._console.closed and self.only_stdout:
            raise PipeClosed

    def _write_images(self, source: str, name: Path, image: np.ndarray, found: Detections) -> None:
        for i, points in enumerate(found.landmarks if self.options.crops else ()):
            write_image(Path(self.options.crops or "") / crop_name(name, i), align_face(image, points))
        target = self._targets.get(source)
        if not (target or self._sink or self.options.show):
            return
        annotated = blur_faces(image, found) if self.options.blur else draw_detections(image, found)
        if self._sink:
            self._sink.write(annotated)
        elif target:
            write_image(target, annotated)
        if self.options.show:
            cv2.imshow(WINDOW, annotated)
            if cv2.waitKey(1 if self._names is None else 0) in (27, ord("q")):
                raise Stopped
