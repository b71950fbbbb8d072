"""The shipped models: the bytes that CHANGELOG.md names, complete metadata, and the face in a known portrait."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest

from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.shipped import DEFAULT_MODEL, find_model, model_names
from tflite.spec import SpecError, read_spec

MODELS = sorted(DEFAULT_MODEL.parent.glob("*.tflite"))
LARGEST = {"mnet025": 600_000, "mesh": 1_400_000, "fast": 1_200_000}  # bytes; the first name that fits counts


def test_default_model_ships_and_all_are_listed(root: Path) -> None:
    listed = dict(line.split()[::-1] for line in (DEFAULT_MODEL.parent / "SHA256SUMS").read_text().splitlines())
    assert DEFAULT_MODEL in MODELS and sorted(listed) == [path.name for path in MODELS]
    changes = (root / "CHANGELOG.md").read_text()
    for path in MODELS:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert listed[path.name] == digest and digest in changes
        assert path.stat().st_size <= next(most for name, most in LARGEST.items() if name in path.name)
    for path in sorted((root / "rf_keras" / "weights").iterdir()):
        assert f"{path.name}` |" in changes and hashlib.sha256(path.read_bytes()).hexdigest() in changes, path.name
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


def test_a_mesh_changes_no_face() -> None:
    image = read_image(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    with FaceDetector("fast_640", num_threads=1) as plain, FaceDetector("fast_mesh_640", num_threads=1) as dense:
        before, after = plain.detect(image, 0.02), dense.detect(image, 0.02)
    assert after.mesh is not None and after.pose is not None
    assert Detections(after.boxes, after.scores, after.landmarks) == before and before.mesh is None
    face, mesh = after[0], after.mesh[0]
    side = face.box.x2 - face.box.x1
    points = np.stack([mesh[[33, 133]].mean(axis=0), mesh[[362, 263]].mean(axis=0), mesh[1], mesh[61], mesh[291]])
    assert np.abs(points[:, :2] - np.array(face.landmarks)).max() < 0.12 * side
    assert np.abs(after.pose[0]).max() < 20  # she looks at the camera


def test_short_names() -> None:
    assert model_names() == ["fast_320", "fast_640", "fast_mesh_640", "mnet025_320", "mnet025_640"]
    for name in model_names():
        assert find_model(name) in MODELS and name in find_model(name).name
    assert find_model(None) == DEFAULT_MODEL == find_model("fast_640")
    assert find_model("other.tflite") == Path("other.tflite")
    assert find_model(Path("fast_320")) == Path("fast_320")


def test_a_detector_by_name_and_by_default() -> None:
    with FaceDetector(num_threads=1) as detector:
        assert detector.name == str(DEFAULT_MODEL) and detector.spec.input_width == 640
    with FaceDetector("mnet025_320") as detector:
        assert detector.spec.input_width == 320
    with pytest.raises(
        SpecError, match=r"^fast_9: no such model, expected a \.tflite file or one of fast_320, fast_640"
    ):
        FaceDetector("fast_9")


def test_no_model_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tflite.shipped.DEFAULT_MODEL", tmp_path / "none.tflite")
    with pytest.raises(SpecError, match=r"none\.tflite: no model is shipped here, expected a \.tflite file"):
        FaceDetector()


def test_importing_the_package_is_fast_and_loads_nothing(root: Path) -> None:
    code = (
        "import sys, tflite; from tflite.anchors import make_anchors; before = set(sys.modules);"
        "from tflite import FaceDetector, read_image;"
        "print('cv2' in before, 'tensorflow' in sys.modules, sorted(set(tflite.__all__) - set(dir(tflite))))\n"
        "for name in tflite.__all__: assert getattr(tflite, name).__name__ == name\n"
        "try: tflite.other\n"
        "except AttributeError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["False False []", "module 'tflite' has no attribute 'other'"]
