"""The shipped models: the bytes that MODEL_CARD.md names, complete metadata, and the face in a known portrait."""

from __future__ import annotations

import hashlib
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest

from tflite.detect import DEFAULT_MODEL
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.spec import read_spec

MODELS = sorted(DEFAULT_MODEL.parent.glob("*.tflite"))


def test_default_model_ships_and_all_are_listed(root: Path) -> None:
    listed = dict(line.split()[::-1] for line in (DEFAULT_MODEL.parent / "SHA256SUMS").read_text().splitlines())
    assert DEFAULT_MODEL in MODELS and sorted(listed) == [path.name for path in MODELS]
    card = (root / "MODEL_CARD.md").read_text()
    for path in MODELS:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert listed[path.name] == digest and digest in card
        assert path.stat().st_size <= (600_000 if "mnet025" in path.name else 1_200_000)
    for path in sorted((root / "rf_keras" / "weights").iterdir()):
        assert f"{path.name}` |" in card and hashlib.sha256(path.read_bytes()).hexdigest() in card, path.name
        assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_finds_the_face(path: Path) -> None:
    spec = read_spec(path)
    assert spec.quantization == "int8-qat" and str(spec.input_width) in path.name and spec.source != "unknown"
    image = read_image(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    with FaceDetector(path, num_threads=1) as detector:
        faces = detector.detect(image)
        low = detector.detect(image, spec.score_threshold / 2)
    assert len(faces.scores) == len(low.scores) == 1
    assert faces.scores[0] > 1.8 * spec.score_threshold  # 0.9 where that is 0.5
    x1, y1, x2, y2 = faces.boxes[0]
    assert 150 < x1 < 200 and 80 < y1 < 130 and 330 < x2 < 370 and 310 < y2 < 350  # read off the photo by eye
    left_eye, right_eye, nose, left_mouth, right_mouth = faces.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert np.all(faces.landmarks[0][:2, 1] < nose[1]) and nose[1] < left_mouth[1]
