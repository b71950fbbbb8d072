"""`FaceDetector`: one model file in, faces of BGR images out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tflite.anchors import feature_size, make_anchors
from tflite.decode import VALUES_PER_ANCHOR, decode_outputs
from tflite.interpreter import ModelError, load_interpreter, one_line, tensor_details
from tflite.postprocess import Detections, detections_from_candidates
from tflite.preprocess import InputWriter
from tflite.spec import ModelSpec, read_spec

MAX_DEFAULT_THREADS = 4  # small convolutions gain little beyond


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


def _no_mark(stage: str) -> None:
    pass


class FaceDetector:
    """Finds faces and five landmarks with one model file.

    Args:
        model: path of a .tflite file written by quantization/convert.py, or its bytes.
        num_threads: threads of the interpreter; by default one per core, at most 4.

    Attributes:
        spec: the model's metadata: input size, default thresholds, …
        interpreter_name: package and version of the interpreter that runs, e.g. "ai_edge_litert 2.3.0".
        num_threads: as used.

    Raises:
        tflite.spec.SpecError: no TFLite model, or its metadata is missing or invalid.
        ModelError: no interpreter loads it, or its tensors contradict the metadata.

    A detector may be shared between threads: a lock lets one call in at a time. For parallel work make one per thread.
    """

    def __init__(self, model: str | Path | bytes, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}, expected at least 1")
        self.name = "model" if isinstance(model, bytes) else str(model)
        self.spec: ModelSpec = read_spec(model)
        self.num_threads = num_threads or default_threads()
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        self._interpreter, self.interpreter_name = load_interpreter(data, self.num_threads, self.name)
        self._lock = threading.Lock()
        self._bind_tensors()
        # Only now: the tensors have confirmed the metadata, which alone could ask for gigabytes of anchors.
        height, width = self.spec.input_height, self.spec.input_width
        self._anchors = make_anchors(height, width, self.spec.strides, self.spec.anchor_sizes)

    def _bind_tensors(self) -> None:
        """Check the tensors against the metadata once, and keep what every call needs."""
        spec = self.spec
        source, outputs = tensor_details(self._interpreter, self.name)
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

    def detect(
        self, image: np.ndarray, score_threshold: float | None = None, iou_threshold: float | None = None
    ) -> Detections:
        """Find the faces of one image.

        Args:
            image: uint8 [H, W, 3], BGR, any size from 1×1.
            score_threshold: smallest probability, 0-1; the model's own by default.
            iou_threshold: of two boxes overlapping more, the weaker is dropped; the model's own by default.

        Returns:
            Faces by score descending, in image pixels.

        Raises:
            ValueError: the image is of another type or shape, a threshold is outside 0-1, or the detector is closed.
            ModelError: the interpreter fails while running the model.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"image is {found}, expected a uint8 BGR array [H, W, 3]")
        if not image.size:
            raise ValueError(f"image is empty ({image.shape[1]}×{image.shape[0]}), expected at least 1×1")
        with self._lock:
            if self._interpreter is None:
                raise ValueError("the detector is closed")
            return self._run(image, score_threshold, iou_threshold, _no_mark)

    def _run(
        self,
        image: np.ndarray,
        score_threshold: float | None,
        iou_threshold: float | None,
        mark: Callable[[str], None],
    ) -> Detections:
        """The stages of `detect`; `mark` is called at the end of each, for the benchmark."""
        picture, scale = self._writer.resize(image)
        mark("letterbox")
        # Views into the interpreter's memory; none may be alive during invoke(), which could move it.
        tensor = self._interpreter.tensor
        try:
            self._writer.write(picture, tensor(self._input_index)()[0])
            mark("table")
            self._interpreter.invoke()
            mark("invoke")
            outputs = {name: tensor(index)() for name, index in self._outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.name}: the interpreter cannot run the model ({one_line(error)})") from error
        threshold = self.spec.score_threshold if score_threshold is None else score_threshold
        found = decode_outputs(outputs, self._anchors, self.spec, threshold, self._quantization)
        mark("decode")
        faces = detections_from_candidates(found, self.spec, image.shape[:2], scale, iou_threshold)
        mark("nms")
        return faces

    def detect_batch(
        self, images: list[np.ndarray], score_threshold: float | None = None, iou_threshold: float | None = None
    ) -> list[Detections]:
        """`detect` for each image in turn. The network's batch is 1 by contract, so this is convenience, not speed."""
        return [self.detect(image, score_threshold, iou_threshold) for image in images]

    def warm_up(self) -> None:
        """Run once on a blank image: the first call allocates and packs weights and takes longer."""
        self.detect(np.zeros((self.spec.input_height, self.spec.input_width, 3), np.uint8))

    def close(self) -> None:
        """Free the interpreter; `detect` then raises ValueError."""
        with self._lock:
            self._interpreter = None

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
