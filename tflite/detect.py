"""Find faces in images, folders, videos and camera pictures.

    python -m tflite.detect IMAGE|FOLDER|'GLOB'|- … [--model M.tflite] [--output O] [--json F] [--jsonl F] [--crops DIR]
    python -m tflite.detect --source VIDEO|CAMERA_NUMBER [--output O.mp4] [--jsonl F] …

Prints a line per image; - reads one image from stdin. Inputs that cannot be processed are listed at the end and make
the exit code 1; the others are processed all the same. A truncated image counts as one that cannot be processed.

--json writes an object: file as given (for a frame: file#number) → list of faces by score descending, each
{"box": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y]×5]} in image pixels, score 0-1; landmarks are left eye, right
eye, nose, left and right mouth corner (left of the picture). --jsonl appends a line per image as it goes:
{"file": …, "faces": […]}, with "frame" and "time" in seconds for videos. F may be -, for stdout.

No output may be an input or another output: that is checked before the first image. Ctrl-C, SIGTERM and SIGHUP end it
after the image at hand, with --json of those that were done; the exit code is then 130, 143 or 129.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from tflite.command import start
from tflite.detect_options import DetectOptions
from tflite.detector import FaceDetector
from tflite.images import ImageError, expand_inputs, read_image
from tflite.messages import Console, note, printable
from tflite.outputs import UsageError
from tflite.postprocess import Detections
from tflite.results import STDOUT, STDOUT_NAMES, PipeClosed, Results, Stopped
from tflite.shapes import InputSize
from tflite.signals import Interrupted, Signals
from tflite.tiling import detect_tiled
from tflite.video import Video

PIPE_CLOSED_CODE = 141  # 128 + SIGPIPE

Find = Callable[[np.ndarray], Detections]


def load_detector(model: str, num_threads: int | None, input_size: InputSize) -> FaceDetector:
    """The detector the flags ask for; says which interpreter runs.

    Raises:
        SpecError, ModelError: the model cannot be used.
    """
    detector = FaceDetector(model, num_threads, input_size)
    cv2.setNumThreads(detector.num_threads)
    spec = detector.spec
    height, width = input_size if isinstance(input_size, tuple) else (spec.input_height, spec.input_width)
    note(
        f"{detector.name}: {spec.quantization} {width}×{height}, {detector.interpreter_name}, "
        f"{detector.num_threads} thread{'s' * (detector.num_threads != 1)}"
    )
    return detector


def read_input(path: Path) -> np.ndarray:
    return read_image(sys.stdin.buffer.read(), "stdin") if str(path) == STDOUT else read_image(path)


def read_ahead(paths: Sequence[Path]) -> Iterator[Future[np.ndarray]]:
    """Read the next image while the caller detects on this one; a future raises what reading raised.

    In a thread that does not outlive the process: one may wait for ever on a pipe.
    """
    ready: queue.SimpleQueue[Future[np.ndarray]] = queue.SimpleQueue()
    permits = threading.Semaphore(2)  # the one at hand and the next
    stopped = threading.Event()

    def read_all() -> None:
        for path in paths:
            permits.acquire()
            if stopped.is_set():
                return
            future: Future[np.ndarray] = Future()
            try:
                future.set_result(read_input(path))
            except BaseException as error:
                future.set_exception(error)
            ready.put(future)

    threading.Thread(target=read_all, daemon=True).start()
    try:
        for _ in paths:
            yield ready.get()
            permits.release()
    finally:
        stopped.set()
        permits.release()


class Run:
    """One run of the command over images or over a video.

    Attributes:
        errors: a line for each input that failed.
        done: images or frames that are finished.
    """

    def __init__(self, find: Find, results: Results, signals: Signals, say: Callable[[str], None]) -> None:
        self._find, self._results, self._signals, self._say = find, results, signals, say
        self.errors: list[str] = []
        self.done = 0

    def images(self, inputs: Sequence[tuple[Path, Path]]) -> None:
        """Process image files."""
        start_all = time.monotonic()
        reader = read_ahead([path for path, _ in inputs])
        with tqdm(total=len(inputs), unit="image", disable=None) as progress:  # None: on a terminal only
            for path, name in inputs:
                self._image(path, name, self._signals.wait(reader.__next__))
                self.done += 1
                progress.update()
        if len(inputs) > 1:
            rate = len(inputs) / (time.monotonic() - start_all)
            note(f"{len(inputs)} images, {rate:.1f} images/s with reading and writing")

    def _image(self, path: Path, name: Path, future: Future[np.ndarray]) -> None:
        try:
            image = future.result()
            start = time.perf_counter()
            found = self._find(image)
            milliseconds = 1000 * (time.perf_counter() - start)
            self._results.add(str(path), name, image, found)
        except ImageError as error:
            self.errors.append(str(error))
        except OSError as error:
            self.errors.append(f"{path}: cannot write its output ({error.filename}: {error.strerror})")
        else:
            best = f", best score {found.scores[0]:.3f}" if len(found) else ""
            self._say(f"{path}: {len(found)} face{'s' * (len(found) != 1)}{best} ({milliseconds:.1f} ms)")

    def video(self, source: str, video: Video) -> None:
        """Process all frames.

        Raises:
            ImageError: there is none that can be decoded.
        """
        start, faces, frames = time.monotonic(), 0, iter(video)
        with tqdm(total=video.frames or None, unit="frame", disable=None) as progress:
            while (frame := self._signals.wait(lambda: next(frames, None))) is not None:
                found = self._find(frame)
                faces += len(found)
                self._results.add(source, Path(f"frame_{self.done:06d}"), frame, found, self.done)
                self.done += 1
                progress.update()
        if not self.done:
            raise ImageError(f"{printable(source)}: not one frame can be decoded, expected a complete video")
        rate = self.done / (time.monotonic() - start)
        note(f"{source}: {self.done} frames, {faces} faces, {rate:.1f} frames/s")


def detect_files(options: DetectOptions) -> int:
    """The command; returns the exit code.

    Raises:
        UsageError: options that do not fit together, or outputs that would destroy a file.
        SpecError, ModelError: the model cannot be used.
        ImageError: the video cannot be opened.
        OSError: --json or --jsonl cannot be written.
    """
    if bool(options.source) == bool(options.images):
        raise UsageError(
            "expected image files, folders, patterns or -, or else --source VIDEO (--help lists the flags)"
        )
    # By its own name stdout would be opened a second time, and one of the two would write over the other.
    json, jsonl = (STDOUT if name in STDOUT_NAMES else name for name in (options.json, options.jsonl))
    options = replace(options, json=json, jsonl=jsonl)
    inputs, errors = expand_inputs(options.images)
    inputs = [(path, Path("stdin.png") if str(path) == STDOUT else name) for path, name in inputs]
    code = 0
    if options.source or inputs:
        with Signals() as signals:
            code, failed = _run(options, inputs, signals)
        errors += failed
    if errors:
        note(f"{len(errors)} input{'s' * (len(errors) != 1)} failed:")
        for line in errors:
            note(f"  {line}")
    return code or (1 if errors else 0)


def _run(options: DetectOptions, inputs: list[tuple[Path, Path]], signals: Signals) -> tuple[int, list[str]]:
    """Exit code of an early end, else 0; and a line for each input that failed."""
    console = Console()
    video = Video(options.source) if options.source else None
    names = None if video else {str(path): name for path, name in inputs}
    results = Results(options, names, video.fps if video else 0.0, console)
    detector = load_detector(options.model, options.num_threads, options.input_size)

    def find(image: np.ndarray) -> Detections:
        if options.tile:
            return detect_tiled(detector, image, options.tile, options.score_threshold, options.iou_threshold)
        return detector.detect(image, options.score_threshold, options.iou_threshold)

    def say(line: str) -> None:
        with tqdm.external_write_mode():
            if STDOUT in (options.json, options.jsonl):
                note(line)
            else:
                console.write(printable(line) + "\n")

    run = Run(find, results, signals, say)
    try:
        with results:
            if video:
                run.video(options.source or "", video)
            else:
                run.images(inputs)
    except Stopped:
        return 0, run.errors
    except PipeClosed:
        return PIPE_CLOSED_CODE, run.errors
    except Interrupted as stop:
        total = f" of {len(inputs)} images" if not video else " frames"
        note(f"{stop}: stopped after {run.done}{total}")
        return stop.exit_code, run.errors
    return 0, run.errors


if __name__ == "__main__":
    start(detect_files, DetectOptions)
