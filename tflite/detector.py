"""`FaceDetector`: one model file in, faces of images out."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tflite.decode import decode_outputs
from tflite.delegates import parse_delegate
from tflite.images import image_array
from tflite.interpreter import ModelError, load_interpreter
from tflite.mesh import MeshOutputs, read_basis
from tflite.messages import one_line, printable
from tflite.postprocess import Detections, detections_from_candidates
from tflite.prepared import FixedShapeError, Prepared
from tflite.shapes import AUTO, InputSize, auto_shape, check_input_size
from tflite.shipped import find_model
from tflite.spec import ModelSpec, read_model, read_spec

if TYPE_CHECKING:
    from PIL import Image

MAX_DEFAULT_THREADS = 4  # small convolutions gain little beyond
STAGES = ("letterbox", "table", "invoke", "decode", "nms")  # of a detection, in order; meshes are a part of nms


def default_threads() -> int:
    """One per CPU core this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_THREADS)


def _threshold(given: float | None, default: float, what: str) -> float:
    value = default if given is None else given
    if not 0 <= value <= 1:
        raise ValueError(f"{what} threshold is {value}, expected a number in 0-1")
    return value


def _no_mark(stage: str) -> None:
    pass


class FaceDetector:
    """Finds faces and five landmarks with one model file.

    Args:
        model: short name of a shipped model ("fast_640", "fast_320", "mnet025_640", "mnet025_320"), path of a .tflite
            file written by quantization/convert.py, or its bytes; by default "fast_640".
        num_threads: threads of the interpreter; by default one per core, at most 4.
        input_size: of the network's input, in pixels: "auto", the model's own or, where the picture at the model's own
            scale fits, one with a side shortened to 3/4, 7/10 or 3/5 (`tflite.shapes.auto_shape`): the same faces
            without computing the empty part; (height, width), multiples of 32 from 64 to 1,280: every picture is scaled
            to fit it; None, the model's own, as a file that runs at no other has it anyway.
        delegate: PATH[:key=value…] of a shared library that runs the network on an accelerator, through the
            interpreter's load_delegate. Where it cannot be used, the CPU is, and `interpreter_name` says why.

    Attributes:
        spec: the model's metadata: its own input size, default thresholds, …
        basis: of the model's meshes; None where it has none.
        name: the model, as errors name it.
        interpreter_name: package and version of the interpreter that runs, e.g. "ai_edge_litert 2.3.0".
        num_threads: as used.
        input_size: as given.

    Raises:
        tflite.spec.SpecError: no TFLite model, or its metadata is missing or invalid.
        ModelError: no interpreter loads it, its tensors contradict the metadata, or it does not run at `input_size`.
        ValueError: `num_threads`, `input_size` or `delegate` is none.

    A detector may be shared between threads: a lock lets one call in at a time. For parallel work make one per thread,
    or one per process: it can be pickled, and a forked process loads the model anew on its first call.
    """

    def __init__(
        self,
        model: str | Path | bytes | None = None,
        num_threads: int | None = None,
        input_size: InputSize = AUTO,
        delegate: str | None = None,
    ) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}, expected at least 1")
        self.num_threads = num_threads or default_threads()
        self.input_size = check_input_size(input_size)
        if delegate is not None:
            parse_delegate(delegate)
        self.delegate = delegate
        if isinstance(model, bytes):
            self.name, self._model = "model", model
        else:
            path = find_model(model)
            self.name = printable(path)
            self._model = read_model(path)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self.spec: ModelSpec = read_spec(self._model, self.name)
        self.basis = read_basis(self._model, self.name)
        self._own = self.spec.input_height, self.spec.input_width
        # By shape, all that were used: "auto" has five at most. Of a 640 file each takes 14 to 17 MB, a process with
        # three 122 MB and with five 150; resizing one instead takes half the time of running it.
        self._prepared: dict[tuple[int, int], Prepared] = {}
        self._fixed = False  # a resize was refused
        with self._lock:
            self._latest = self.input_size if isinstance(self.input_size, tuple) else self._own
            self._prepared[self._latest] = self._load().at(self._latest)
        self._unused = True  # no picture was seen: the first may take this interpreter for its shape
        _detectors.add(self)

    def _load(self) -> Prepared:
        """One more interpreter, at the model's own shape, checked against the metadata."""
        interpreter, self.interpreter_name = load_interpreter(self._model, self.num_threads, self.name, self.delegate)
        return Prepared(interpreter, self.spec, self.name, self._own, self.basis.coefficients if self.basis else 0)

    def input_shape(self, image_height: int, image_width: int) -> tuple[int, int]:
        """(height, width) in pixels of the network's input for an image of this size in pixels."""
        if isinstance(self.input_size, tuple):
            return self.input_size
        if self.input_size is None or self._fixed:
            return self._own
        return auto_shape(image_height, image_width, *self._own)

    def _prepare(self, shape: tuple[int, int]) -> Prepared:
        """An interpreter at this shape, also in a forked process, where none is left; the caller holds the lock.

        Raises:
            FixedShapeError: the file cannot be resized to it.
        """
        if not self._model:
            raise ValueError("the detector is closed")
        if shape not in self._prepared:
            taken = self._prepared.popitem()[1] if self._prepared and self._unused else self._load()
            self._prepared[shape] = taken.at(shape)
        self._unused, self._latest = False, shape
        return self._prepared[shape]

    def _prepare_for(self, image: np.ndarray) -> Prepared:
        try:
            return self._prepare(self.input_shape(*image.shape[:2]))
        except FixedShapeError:
            if self.input_size != AUTO:
                raise
            self._fixed = True
            return self._prepare(self._own)

    def detect(
        self,
        image: np.ndarray | str | os.PathLike[str] | Image.Image,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
    ) -> Detections:
        """Find the faces of one image.

        Args:
            image: a path, a Pillow image, or an array uint8 [H, W, 3], BGR, any size from 1×1.
            score_threshold: smallest probability, 0-1; the model's own by default.
            iou_threshold: of two boxes overlapping more, the weaker is dropped; the model's own by default.

        Returns:
            Faces by score descending, in image pixels.

        Raises:
            ImageError: a path or a Pillow image that cannot be read.
            ValueError: the image is of another type or shape, a threshold is outside 0-1, or the detector is closed.
            ModelError: the interpreter fails while running the model.
        """
        return self._detect(image_array(image), score_threshold, iou_threshold, _no_mark)

    def detect_timed(
        self,
        image: np.ndarray | str | os.PathLike[str] | Image.Image,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
    ) -> tuple[Detections, dict[str, float]]:
        """`detect`, and the seconds that each stage of `STAGES` took; reading the image is none of them."""
        array = image_array(image)
        seconds: dict[str, float] = {}
        last = time.perf_counter()

        def mark(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds[stage], last = now - last, now

        return self._detect(array, score_threshold, iou_threshold, mark), seconds

    def invoke(self) -> None:
        """Run the network alone, on the input of the last call; for measuring.

        Raises:
            ValueError: the detector is closed.
        """
        with self._lock:
            self._prepare(self._latest).interpreter.invoke()

    def _detect(
        self,
        image: np.ndarray,
        score_threshold: float | None,
        iou_threshold: float | None,
        mark: Callable[[str], None],
    ) -> Detections:
        """The stages of `detect`; `mark` is called at the end of each."""
        score_threshold = _threshold(score_threshold, self.spec.score_threshold, "score")
        iou_threshold = _threshold(iou_threshold, self.spec.iou_threshold, "IoU")
        with self._lock:
            # A function of its own: its views are gone when the lock is free for another thread.
            return self._run(self._prepare_for(image), image, score_threshold, iou_threshold, mark)

    def _run(
        self,
        prepared: Prepared,
        image: np.ndarray,
        score_threshold: float,
        iou_threshold: float,
        mark: Callable[[str], None],
    ) -> Detections:
        # Views into the interpreter's memory; none may be alive during invoke(), which could move it.
        outputs: dict[str, np.ndarray] = {}
        interpreter = prepared.interpreter
        try:
            picture, scale = prepared.writer.resize(image)
            mark("letterbox")
            try:
                prepared.writer.write(picture, interpreter.tensor(prepared.input_index)()[0])
                mark("table")
                interpreter.invoke()
                mark("invoke")
                outputs |= {name: interpreter.tensor(index)() for name, index in prepared.outputs.items()}
            except (RuntimeError, ValueError) as error:
                raise ModelError(f"{self.name}: the interpreter cannot run the model ({one_line(error)})") from error
            found = decode_outputs(outputs, prepared.anchors, self.spec, score_threshold, prepared.quantization)
            mark("decode")
            mesh_of = None
            if self.basis is not None:
                mesh_of = MeshOutputs(self.basis, outputs, self.spec.strides, prepared.quantization)
            faces = detections_from_candidates(found, self.spec, image.shape[:2], scale, iou_threshold, mesh_of)
            mark("nms")
            return faces
        except BaseException as error:
            # Who keeps the exception keeps its frames, and with them views: every later call would be refused.
            outputs.clear()
            chain: BaseException | None = error
            while chain is not None:
                traceback.clear_frames(chain.__traceback__)
                chain = chain.__cause__
            raise

    def warm_up(self, image_height: int | None = None, image_width: int | None = None) -> None:
        """Run once on a blank image: the first call allocates and packs weights and takes longer.

        Args:
            image_height, image_width: of the images to come, in pixels; by default the model's own input size.
        """
        self.detect(np.zeros((image_height or self._own[0], image_width or self._own[1], 3), np.uint8))

    def close(self) -> None:
        """Free the interpreter; `detect` then raises ValueError."""
        with self._lock:
            self._prepared.clear()
            self._model = b""

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        size = "" if self.input_size == AUTO else f", input_size={self.input_size!r}"
        return f"FaceDetector({self.name!r}, num_threads={self.num_threads}{size})"

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to load the same model: pickling, `multiprocessing` with spawn."""
        if not self._model:
            raise ValueError("the detector is closed and cannot be pickled")
        return {key: self.__dict__[key] for key in ("name", "num_threads", "input_size", "delegate", "_model")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _forked(self) -> None:
        """In a forked process: another thread may have held the lock, and the interpreter's own threads are gone.

        Freeing an interpreter would wait for them for ever: each is left alone, with one reference that nobody drops.
        """
        self._lock = threading.Lock()
        for prepared in self._prepared.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(prepared.interpreter))
        self._prepared.clear()


_detectors: weakref.WeakSet[FaceDetector] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for detector in list(_detectors):
        detector._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
