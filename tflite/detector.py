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

from tflite.anchors import feature_size, make_anchors
from tflite.decode import VALUES_PER_ANCHOR, decode_outputs
from tflite.images import image_array
from tflite.interpreter import ModelError, load_interpreter, tensor_details
from tflite.messages import one_line, printable
from tflite.postprocess import Detections, detections_from_candidates
from tflite.preprocess import InputWriter
from tflite.shipped import find_model
from tflite.spec import ModelSpec, read_model, read_spec

if TYPE_CHECKING:
    from PIL import Image

MAX_DEFAULT_THREADS = 4  # small convolutions gain little beyond
STAGES = ("letterbox", "table", "invoke", "decode", "nms")  # of a detection, in order


def default_threads() -> int:
    """One per CPU core this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_THREADS)


def _check_tensor(name: str, tensor: str, details: dict[str, Any], shape: tuple[int, ...]) -> None:
    found = tuple(int(side) for side in details["shape"])
    if found != shape:
        raise ModelError(f"{name}: tensor {tensor!r} has the shape {list(found)}, its metadata needs {list(shape)}")
    dtype = np.dtype(details["dtype"])
    if dtype not in (np.dtype(np.int8), np.dtype(np.float32)):
        raise ModelError(f"{name}: tensor {tensor!r} is {dtype}, expected int8 or float32")
    if dtype == np.int8 and not 0 < details["quantization"][0] < np.inf:
        raise ModelError(f"{name}: tensor {tensor!r} is int8 without a quantization scale")


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

    Attributes:
        spec: the model's metadata: input size, default thresholds, …
        name: the model, as errors name it.
        interpreter_name: package and version of the interpreter that runs, e.g. "ai_edge_litert 2.3.0".
        num_threads: as used.

    Raises:
        tflite.spec.SpecError: no TFLite model, or its metadata is missing or invalid.
        ModelError: no interpreter loads it, or its tensors contradict the metadata.

    A detector may be shared between threads: a lock lets one call in at a time. For parallel work make one per thread,
    or one per process: it can be pickled, and a forked process loads the model anew on its first call.
    """

    def __init__(self, model: str | Path | bytes | None = None, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}, expected at least 1")
        self.num_threads = num_threads or default_threads()
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
        self._interpreter: Any = None
        with self._lock:
            self._load()
        # Only now: the tensors have confirmed the metadata, which alone could ask for gigabytes of anchors.
        height, width = self.spec.input_height, self.spec.input_width
        self._anchors = make_anchors(height, width, self.spec.strides, self.spec.anchor_sizes)
        _detectors.add(self)

    def _load(self) -> None:
        """Make the interpreter; check the tensors against the metadata once, and keep what every call needs."""
        spec = self.spec
        interpreter, self.interpreter_name = load_interpreter(self._model, self.num_threads, self.name)
        source, outputs = tensor_details(interpreter, self.name)
        _check_tensor(self.name, "image", source, (1, spec.input_height, spec.input_width, 3))
        self._input_index = source["index"]
        scale, zero_point = source["quantization"]
        self._writer = InputWriter(
            spec.input_height, spec.input_width, spec.mean, scale, zero_point, source["dtype"], spec.antialias
        )
        self._outputs: dict[str, int] = {}
        self._quantization: dict[str, tuple[float, int]] = {}
        for stride, sizes in zip(spec.strides, spec.anchor_sizes, strict=True):
            rows, columns = feature_size(spec.input_height, stride), feature_size(spec.input_width, stride)
            for kind, values in VALUES_PER_ANCHOR.items():
                tensor = f"{kind}_{stride}"
                if tensor not in outputs:
                    raise ModelError(f"{self.name}: no output {tensor!r}, the model has {sorted(outputs)}")
                _check_tensor(self.name, tensor, outputs[tensor], (1, rows, columns, len(sizes) * values))
                self._outputs[tensor] = outputs[tensor]["index"]
                self._quantization[tensor] = outputs[tensor]["quantization"]
        self._interpreter = interpreter

    def _open_interpreter(self) -> Any:
        """The interpreter, loaded anew in a forked process; the caller holds the lock."""
        if self._interpreter is None:
            if not self._model:
                raise ValueError("the detector is closed")
            self._load()
        return self._interpreter

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
            self._open_interpreter().invoke()

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
            return self._run(self._open_interpreter(), image, score_threshold, iou_threshold, mark)

    def _run(
        self,
        interpreter: Any,
        image: np.ndarray,
        score_threshold: float,
        iou_threshold: float,
        mark: Callable[[str], None],
    ) -> Detections:
        # Views into the interpreter's memory; none may be alive during invoke(), which could move it.
        outputs: dict[str, np.ndarray] = {}
        try:
            picture, scale = self._writer.resize(image)
            mark("letterbox")
            try:
                self._writer.write(picture, interpreter.tensor(self._input_index)()[0])
                mark("table")
                interpreter.invoke()
                mark("invoke")
                outputs |= {name: interpreter.tensor(index)() for name, index in self._outputs.items()}
            except (RuntimeError, ValueError) as error:
                raise ModelError(f"{self.name}: the interpreter cannot run the model ({one_line(error)})") from error
            found = decode_outputs(outputs, self._anchors, self.spec, score_threshold, self._quantization)
            mark("decode")
            faces = detections_from_candidates(found, self.spec, image.shape[:2], scale, iou_threshold)
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

    def warm_up(self) -> None:
        """Run once on a blank image: the first call allocates and packs weights and takes longer."""
        self.detect(np.zeros((self.spec.input_height, self.spec.input_width, 3), np.uint8))

    def close(self) -> None:
        """Free the interpreter; `detect` then raises ValueError."""
        with self._lock:
            self._interpreter, self._model = None, b""

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FaceDetector({self.name!r}, num_threads={self.num_threads})"

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to load the same model: pickling, `multiprocessing` with spawn."""
        if not self._model:
            raise ValueError("the detector is closed and cannot be pickled")
        return {"name": self.name, "num_threads": self.num_threads, "_model": self._model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _forked(self) -> None:
        """In a forked process: another thread may have held the lock, and the interpreter's own threads are gone.

        Freeing the interpreter would wait for them for ever, so it is left alone, with one reference that nobody drops.
        """
        self._lock = threading.Lock()
        if self._interpreter is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._interpreter))
            self._interpreter = None


_detectors: weakref.WeakSet[FaceDetector] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for detector in list(_detectors):
        detector._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
