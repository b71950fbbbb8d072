"""One run of the detect command: pictures and videos through the detector to the results."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tflite.decoder_log import DecoderLog
from tflite.detect_options import DetectOptions
from tflite.finder import Find, WorkerFinder
from tflite.images import ImageError, read_image
from tflite.messages import Console, note, printable
from tflite.postprocess import Detections
from tflite.results import NoFrames, Results
from tflite.settle import STDOUT
from tflite.signals import Signals
from tflite.sources import CAMERA, VideoSource
from tflite.tracking import Tracker
from tflite.video import Frame, Pick, Video
from tflite.workers import PictureJob, Task, error_of_writing, run_tasks


class Reporter:
    """What the user is told: a line per picture on stdout, the rest on stderr.

    Args:
        quiet: warnings only.
        busy: stdout carries results; lines go to stderr.
    """

    def __init__(self, console: Console, quiet: bool, busy: bool) -> None:
        self._console, self.quiet, self._busy = console, quiet, busy

    def say(self, line: str) -> None:
        """A line per picture."""
        if self.quiet:
            return
        with tqdm.external_write_mode():
            if self._busy:
                note(line)
            else:
                self._console.write(printable(line) + "\n")

    def tell(self, line: str) -> None:
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        with tqdm.external_write_mode():
            note(line)

    def progress(self, total: int | None, unit: str) -> tqdm:
        return tqdm(total=total, unit=unit, disable=True if self.quiet else None)  # None: on a terminal only


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
    """One run of the command.

    Attributes:
        errors: a line for each input that failed.
        incomplete: a video lacks frames or is damaged; its results are kept.
        done: images or frames that are finished.
    """

    def __init__(self, options: DetectOptions, results: Results, signals: Signals, reporter: Reporter) -> None:
        self._options, self._results, self._signals, self._reporter = options, results, signals, reporter
        self.errors: list[str] = []
        self.incomplete = False
        self.done = 0

    def images(self, inputs: Sequence[tuple[Path, Path]], find: Find) -> None:
        """Process image files in this process."""
        start_all = time.monotonic()
        reader = read_ahead([path for path, _ in inputs])
        tracker = Tracker(self._options.hold) if self._options.track else None
        with self._reporter.progress(len(inputs), "image") as progress:
            for path, name in inputs:
                self._image(path, name, self._signals.wait(reader.__next__), find, tracker)
                self.done += 1
                progress.update()
        self._tell_rate(len(inputs), start_all)

    def _image(self, path: Path, name: Path, future: Future[np.ndarray], find: Find, tracker: Tracker | None) -> None:
        try:
            image = future.result()
            start = time.perf_counter()
            found = find(image)
            milliseconds = 1000 * (time.perf_counter() - start)
            tracked = None if tracker is None else tracker.update(found, (image.shape[0], image.shape[1]))
            self._results.add(str(path), name, image, tracked.faces if tracked else found, tracked=tracked)
        except ImageError as error:
            self.errors.append(str(error))
        except OSError as error:
            self.errors.append(f"{path}: {error_of_writing(error)}")
        else:
            self._say(path, found, milliseconds)

    def _say(self, path: Path, found: Detections, milliseconds: float) -> None:
        best = f", best score {found.scores[0]:.3f}" if len(found) else ""
        self._reporter.say(f"{path}: {len(found)} face{'s' * (len(found) != 1)}{best} ({milliseconds:.1f} ms)")

    def _tell_rate(self, count: int, start: float) -> None:
        if count > 1:
            rate = count / (time.monotonic() - start)
            self._reporter.tell(f"{count} images, {rate:.1f} images/s with reading and writing")

    def images_by_workers(self, inputs: Sequence[tuple[Path, Path]]) -> None:
        """Process image files in processes of their own, with results in the order of the files."""
        start_all = time.monotonic()
        targets = self._results.targets.pictures
        tasks = [Task(path, name, targets.get(str(path))) for path, name in inputs]
        job = PictureJob(WorkerFinder(self._options), self._results.pictures, read_image)
        with (
            self._reporter.progress(len(inputs), "image") as progress,
            contextlib.closing(run_tasks(tasks, job, self._options.workers)) as results,
        ):
            for path, name in inputs:
                done = self._signals.wait(results.__next__)
                if done.found is None:
                    self.errors.append(done.error or "")
                else:
                    self._results.record(str(path), name, done.size, done.found)
                    self._say(path, done.found, done.milliseconds)
                self.done += 1
                progress.update()
        self._tell_rate(len(inputs), start_all)

    def video(self, source: VideoSource, folder: Path, find: Find) -> None:
        """Process the frames of one video, which may fail.

        Args:
            folder: of crops and files per frame, below the output's.
        """
        with DecoderLog() as log:
            try:
                self._video(source, folder, find, log)
            except ImageError as error:
                self.errors.append(str(error))
            except NoFrames:
                self.errors.append(f"{printable(source.name)}: not one frame can be decoded, expected a complete video")

    def _video(self, source: VideoSource, folder: Path, find: Find, log: DecoderLog) -> None:
        options, video = self._options, Video(source)
        self._reporter.tell(describe(video))
        rate = video.fps / options.every if options.fps is None else min(options.fps, video.fps)
        tracker = Tracker(options.hold) if options.track else None
        start, faces, first = time.monotonic(), 0, self.done
        total = None if video.live or options.fps else video.frames // options.every or None
        with (
            self._results.video(source.name, rate),
            self._reporter.progress(total, "frame") as progress,
            contextlib.closing(video.pick(Pick(options.every, options.fps), log)) as frames,
        ):
            while (frame := self._signals.wait(lambda: next(frames, None))) is not None:
                faces += self._frame(source, folder, frame, find, tracker)
                self.done += 1
                progress.update()
            if self.done == first:
                raise NoFrames
        count, seconds = self.done - first, time.monotonic() - start
        self._reporter.tell(f"{source.name}: {count} frames, {faces} faces, {count / seconds:.1f} frames/s")
        if problem := video.problem(log):
            self.incomplete = True
            self._reporter.warn(f"warning: {problem}; the results so far are kept")

    def _frame(self, source: VideoSource, folder: Path, frame: Frame, find: Find, tracker: Tracker | None) -> int:
        """Number of the faces of one frame."""
        found = find(frame.image)
        tracked = None if tracker is None else tracker.update(found, (frame.image.shape[0], frame.image.shape[1]))
        name = folder / f"frame_{frame.number:06d}"
        self._results.add(source.name, name, frame.image, tracked.faces if tracked else found, frame, tracked)
        return len(found)


def describe(video: Video) -> str:
    """What a source was taken for, in one line."""
    rate = f"{video.fps:.4g} frames/s" + (" announced" if video.live else "")
    frames = f" of {video.frames} frames" if video.frames else ""
    article = "a" if video.kind != CAMERA else "the"
    return f"{printable(video.name)}: {article} {video.kind}{frames}, {rate}"
