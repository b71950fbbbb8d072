"""Where the detect command's results go: JSON, JSON lines, annotated images or video, crops, a window."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags

from tflite.align import align_face
from tflite.draw import blur_faces, draw_detections
from tflite.files import replacing, write_text
from tflite.images import IMAGE_SUFFIXES, ImageError, write_image
from tflite.postprocess import Detections
from tflite.video import VIDEO_SUFFIXES, VideoSink

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
WINDOW = "faces (Esc or q ends)"


class UsageError(ValueError):
    """Flags that do not fit together; the message is one line."""


class Stopped(Exception):
    """The user closed the window."""


def faces_json(results: dict[str, list[dict[str, Any]]]) -> str:
    """A JSON object, file → list of faces, one face per line."""
    entries = (
        f"{json.dumps(name)}: [" + ",".join(f"\n {json.dumps(face)}" for face in faces) + "]"
        for name, faces in results.items()
    )
    return "{" + ",\n".join(entries) + "}\n"


class Results:
    """Receives each image's faces; a context manager: files are complete after it, or absent if it ends with an error.

    Args:
        options: the flags of the detect command.
        inputs: how many images there are; 0 for a video.
        fps: of the video.

    Raises:
        UsageError: flags that do not fit together, or no windows in this OpenCV.
    """

    def __init__(self, options: flags.FlagValues, inputs: int, fps: float = 0.0) -> None:
        self.options, self.video = options, inputs == 0
        self.faces: dict[str, list[dict[str, Any]]] = {}
        self._output = Path(options.output) if options.output else None
        self._output_is_file = self._check_output(inputs)
        self._fps = fps
        self._stack = contextlib.ExitStack()
        if options.blur and not (options.output or options.show):
            raise UsageError("--blur needs --output or --show: it changes the annotated images")
        if options.show:
            try:
                cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
            except cv2.error as error:
                raise UsageError("--show needs the windowed OpenCV and a display: pip install opencv-python") from error

    def _check_output(self, inputs: int) -> bool:
        """Whether --output is one file, not a folder."""
        if self._output is None:
            return False
        suffix = self._output.suffix.lower()
        if self.video:
            if suffix not in VIDEO_SUFFIXES:
                raise UsageError(f"--output {self._output}: expected a video file ({' '.join(VIDEO_SUFFIXES)})")
            return True
        if suffix not in IMAGE_SUFFIXES or self._output.is_dir():
            if self._output.is_file():
                raise UsageError(f"--output {self._output} is a file, expected a folder or an image file")
            return False
        if inputs > 1:
            raise UsageError(f"--output {self._output} is one image, but there are {inputs} inputs: expected a folder")
        return True

    def __enter__(self) -> Results:
        self._lines = None
        self._sink = None
        if self.options.jsonl == "-":
            self._lines = sys.stdout
        elif self.options.jsonl:
            path = self._stack.enter_context(replacing(Path(self.options.jsonl)))
            self._lines = self._stack.enter_context(path.open("w", encoding="utf-8"))
        if self.video and self._output:
            temporary = self._stack.enter_context(replacing(self._output))
            self._sink = VideoSink(temporary, str(self._output), self._fps)
            self._stack.callback(self._sink.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self.options.json == "-":
            sys.stdout.write(faces_json(self.faces))
        elif kind is None and self.options.json:
            write_text(Path(self.options.json), faces_json(self.faces))

    def add(self, key: str, name: Path, image: np.ndarray, found: Detections, frame: int | None = None) -> None:
        """Take one image's faces.

        Args:
            key: the file as given.
            name: of output files, below their folder.
            image: uint8 BGR [H, W, 3] the faces are of.
            frame: number in the video, from 0.

        Raises:
            ImageError: an output format that cannot be written, or an output that would overwrite the input.
            OSError: the output cannot be written.
            Stopped: the user closed the window.
        """
        self._write_images(key, name, image, found)
        faces = found.to_list()
        if self.options.json:
            self.faces[key if frame is None else f"{key}#{frame}"] = faces
        if self._lines:
            number = {} if frame is None else {"frame": frame, "time": round(frame / self._fps, 4)}
            self._lines.write(json.dumps({"file": key, **number, "faces": faces}) + "\n")
            self._lines.flush()

    def _write_images(self, key: str, name: Path, image: np.ndarray, found: Detections) -> None:
        for i, points in enumerate(found.landmarks if self.options.crops else ()):
            write_image(Path(self.options.crops) / name.parent / f"{name.name}_{i}.png", align_face(image, points))
        if not (self._output or self.options.show):
            return
        annotated = blur_faces(image, found) if self.options.blur else draw_detections(image, found)
        if self._sink:
            self._sink.write(annotated)
        elif self._output:
            target = self._output if self._output_is_file else self._output / name
            if target.suffix.lower() not in WRITABLE:
                target = target.with_name(target.name + ".png")
            if target.exists() and Path(key).exists() and target.samefile(key):
                raise ImageError(f"{key}: --output would overwrite this input; expected another folder or name")
            write_image(target, annotated)
        if self.options.show:
            cv2.imshow(WINDOW, annotated)
            if cv2.waitKey(1 if self.video else 0) in (27, ord("q")):
                raise Stopped
