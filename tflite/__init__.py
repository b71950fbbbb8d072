"""Device-side RetinaFace runtime: NumPy, one TFLite interpreter and an image reader; never TensorFlow.

from tflite import FaceDetector, read_image

with FaceDetector() as detector:
    for face in detector.detect("photo.jpg"):
        print(face.score, face.box, face.landmarks.nose)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tflite.detector import FaceDetector
    from tflite.images import ImageError, read_image
    from tflite.interpreter import ModelError
    from tflite.postprocess import Detections, Face
    from tflite.spec import ModelSpec, SpecError

__version__ = "0.2.0"  # of the distribution; setup.py reads it here
# Tells this package apart from PyPI's unrelated one of the same name.
DISTRIBUTION = "retinaface-keras"

__all__ = [
    "Detections",
    "Face",
    "FaceDetector",
    "ImageError",
    "ModelError",
    "ModelSpec",
    "SpecError",
    "read_image",
]

_MODULES = {
    "Detections": "tflite.postprocess",
    "Face": "tflite.postprocess",
    "FaceDetector": "tflite.detector",
    "ImageError": "tflite.images",
    "ModelError": "tflite.interpreter",
    "ModelSpec": "tflite.spec",
    "SpecError": "tflite.spec",
    "read_image": "tflite.images",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a module that needs only the anchors does not wait for OpenCV."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
