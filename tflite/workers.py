"""Many pictures on several processes of one thread each; a process that dies loses one picture."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from tflite.images import ImageError
from tflite.messages import one_line, printable
from tflite.pictures import PictureWriter
from tflite.postprocess import Detections

AHEAD = 2  # pictures that a process has been given: the next one waits there while it works on the first
MOST_DEATHS = 3  # per process, in a row without a result
WINDOW = 64  # pictures per process between the oldest unfinished one and the newest given out


class Task(NamedTuple):
    """One picture: its path, name below --crops, and the file for the annotated one."""

    path: Path
    name: Path
    target: Path | None


class Done(NamedTuple):
    """What came of a task: the picture's (height, width), its faces and the milliseconds they took, or an error."""

    size: tuple[int, int] = (0, 0)
    found: Detections | None = None
    milliseconds: float = 0.0
    error: str | None = None


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    given: deque[int] = field(default_factory=deque)  # numbers of tasks, the one at hand first


def run_tasks(tasks: Sequence[Task], job: Any, count: int) -> Generator[Done, None, None]:
    """Results in the order of the tasks.

    Args:
        job: an object that can be pickled; in each process `job.start()` is called once and returns a function
            Task → Done.
        count: processes.

    Raises:
        ImageError: a process cannot start its work (the job's own line), or one after the other dies.
    """
    pool = _Pool(tasks, job, min(count, max(len(tasks), 1)))
    try:
        for number in range(len(tasks)):
            while number not in pool.results:
                pool.give(number)
                pool.collect()
            yield pool.results.pop(number)
    finally:
        pool.end()


class _Pool:
    """The processes, what they have been given and what came of it."""

    def __init__(self, tasks: Sequence[Task], job: Any, count: int) -> None:
        # A fork would copy an interpreter's locks without its threads.
        self._context = multiprocessing.get_context("spawn")
        self._tasks, self._job = tasks, job
        self._waiting = deque(range(len(tasks)))
        self._deaths = 0  # since the last result
        self.results: dict[int, Done] = {}
        self._workers = [self._begin() for _ in range(count)]

    def _begin(self) -> _Worker:
        pipe, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._job, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, pipe)

    def give(self, oldest: int) -> None:
        """Hand out tasks; `oldest` is the first without a result."""
        last = oldest + WINDOW * len(self._workers)
        for room in range(1, AHEAD + 1):  # first one for each
            for worker in self._workers:
                if self._waiting and len(worker.given) < room and self._waiting[0] < last:
                    number = self._waiting.popleft()
                    worker.given.append(number)
                    with contextlib.suppress(OSError):  # it died: `collect` sees that
                        worker.pipe.send((number, self._tasks[number]))

    def collect(self) -> None:
        """Wait for at least one result, or for the end of a process, which gets a successor."""
        ready = wait([worker.pipe for worker in self._workers])
        for i, worker in enumerate(self._workers):
            if worker.pipe not in ready:
                continue
            try:
                number, done = worker.pipe.recv()
            except (EOFError, OSError):
                self._workers[i] = self._successor(worker)
                continue
            if number is None:
                raise ImageError(done)
            self._deaths = 0
            worker.given.remove(number)
            self.results[number] = done

    def _successor(self, worker: _Worker) -> _Worker:
        """In place of a process that died: the picture at hand is lost, the others it had are given again."""
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._deaths += 1
        if self._deaths > MOST_DEATHS * len(self._workers):
            raise ImageError(f"one worker after the other ended with {cause}, expected enough memory for their number")
        if worker.given:
            lost = worker.given.popleft()
            error = f"{printable(self._tasks[lost].path)}: the worker that read it ended with {cause}"
            self.results[lost] = Done(error=error)
            self._waiting.extendleft(reversed(worker.given))
        return self._begin()

    def end(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()


def _serve(job: Any, pipe: Connection) -> None:
    """The life of a process: tasks in, results out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one decides
    try:
        work: Callable[[Task], Done] = job.start()
    except (ValueError, OSError) as error:
        pipe.send((None, one_line(error)))
        return
    try:
        while True:
            number, task = pipe.recv()
            pipe.send((number, work(task)))
    except (EOFError, OSError):
        return


@dataclass(frozen=True)
class PictureJob:
    """Read, detect, write crops and annotated pictures; see `run_tasks`.

    Attributes:
        finder: makes the function picture → faces, in the process that calls it.
        writer: of crops and annotated pictures.
        read: path → uint8 BGR [H, W, 3].
    """

    finder: Callable[[], Callable[[Any], Detections]]
    writer: PictureWriter
    read: Callable[[Path], Any]

    def start(self) -> Callable[[Task], Done]:
        find = self.finder()

        def work(task: Task) -> Done:
            try:
                image = self.read(task.path)
                begin = time.perf_counter()
                found = find(image)
                milliseconds = 1000 * (time.perf_counter() - begin)
                self.writer.write(task.name, task.target, image, found)
            except ImageError as error:
                return Done(error=str(error))
            except OSError as error:
                return Done(error=f"{printable(task.path)}: {error_of_writing(error)}")
            except MemoryError:
                return Done(error=f"{printable(task.path)}: too large for the memory of this machine")
            return Done(image.shape[:2], found, milliseconds)

        return work


def error_of_writing(error: OSError) -> str:
    """What stands after a picture's name where one of its outputs cannot be written."""
    return f"cannot write its output ({error.filename}: {error.strerror})"
