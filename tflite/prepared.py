"""An interpreter at one input shape, with what each call needs: tensors checked, input writer and anchors made."""

from __future__ import annotations

from typing import Any

import numpy as np

from tflite.anchors import feature_size, make_anchors
from tflite.decode import VALUES_PER_ANCHOR
from tflite.interpreter import ModelError, resize, tensor_details
from tflite.mesh import MESH
from tflite.messages import one_line
from tflite.preprocess import InputWriter
from tflite.shapes import size_text
from tflite.spec import ModelSpec


class FixedShapeError(ModelError):
    """The file runs at its own shape only: its constants hold a height or a width."""


def check_tensor(name: str, tensor: str, details: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Raise ModelError where a tensor is not of this shape, int8 with a scale, or float32."""
    found = tuple(int(side) for side in details["shape"])
    if found != shape:
        raise ModelError(f"{name}: tensor {tensor!r} has the shape {list(found)}, its metadata needs {list(shape)}")
    dtype = np.dtype(details["dtype"])
    if dtype not in (np.dtype(np.int8), np.dtype(np.float32)):
        raise ModelError(f"{name}: tensor {tensor!r} is {dtype}, expected int8 or float32")
    if dtype == np.int8 and not 0 < details["quantization"][0] < np.inf:
        raise ModelError(f"{name}: tensor {tensor!r} is int8 without a quantization scale")


class Prepared:
    """An interpreter whose tensors fit the metadata at one shape.

    Args:
        interpreter: with its tensors allocated for `shape`.
        spec: the model's metadata.
        name: the model, as errors name it.
        shape: (height, width) of the input in pixels.
        mesh: coefficients of a mesh per anchor; 0 for a model without.

    Attributes:
        interpreter, shape: as given.
        writer: of the input.
        input_index: of the input's tensor.
        outputs: name → index of its tensor.
        quantization: output name → (scale, zero point).
        anchors: float32 [A, 3] of this shape.

    Raises:
        ModelError: the tensors contradict the metadata.
    """

    def __init__(self, interpreter: Any, spec: ModelSpec, name: str, shape: tuple[int, int], mesh: int = 0) -> None:
        self.interpreter, self.shape, self._spec, self._name, self._mesh = interpreter, shape, spec, name, mesh
        source, outputs = tensor_details(interpreter, name)
        check_tensor(name, "image", source, (1, *shape, 3))
        self.input_index = source["index"]
        scale, zero_point = source["quantization"]
        self.writer = InputWriter(*shape, spec.mean, scale, zero_point, source["dtype"], spec.antialias)
        self.outputs: dict[str, int] = {}
        self.quantization: dict[str, tuple[float, int]] = {}
        kinds = VALUES_PER_ANCHOR | ({MESH: mesh} if mesh else {})
        for stride, sizes in zip(spec.strides, spec.anchor_sizes, strict=True):
            rows, columns = (feature_size(side, stride) for side in shape)
            for kind, values in kinds.items():
                tensor = f"{kind}_{stride}"
                if tensor not in outputs:
                    raise ModelError(f"{name}: no output {tensor!r}, the model has {sorted(outputs)}")
                check_tensor(name, tensor, outputs[tensor], (1, rows, columns, len(sizes) * values))
                self.outputs[tensor] = outputs[tensor]["index"]
                self.quantization[tensor] = outputs[tensor]["quantization"]
        # Only now: the tensors have confirmed the metadata, which alone could ask for gigabytes of anchors.
        self.anchors = make_anchors(*shape, spec.strides, spec.anchor_sizes)

    def at(self, shape: tuple[int, int]) -> Prepared:
        """The same interpreter at another shape; this object is then of no more use.

        Raises:
            FixedShapeError: the file cannot be resized.
        """
        if shape == self.shape:
            return self
        try:
            resize(self.interpreter, self.input_index, (1, *shape, 3))
            return Prepared(self.interpreter, self._spec, self._name, shape, self._mesh)
        except (RuntimeError, ValueError) as error:
            raise FixedShapeError(
                f"{self._name}: runs at its own {size_text((self._spec.input_height, self._spec.input_width))} only, "
                f"found when resized to {size_text(shape)} ({one_line(error)})"
            ) from error
