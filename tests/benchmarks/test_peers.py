"""The other detectors find the same face in the same place: what is timed is the real thing."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import contestants, peers
from benchmarks.contestants import OTHERS, PACKAGE, REFERENCE, open_others
from benchmarks.costs import fresh_process, install_mb
from rf_keras.importing.wheel import package_onnx
from tests.optional import missing

SIZE = (320, 320)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A public-domain photo of one person, uint8 BGR."""
    sample_data = pytest.importorskip("matplotlib.cbook").get_sample_data
    image = cv2.imread(str(sample_data("grace_hopper.jpg", asfileobj=False)))
    assert image is not None
    return image


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, contestants.Row]:
    skipped: dict[str, str] = {}
    opened = open_others(OTHERS[:4], SIZE, None, False, tmp_path_factory.mktemp("peers"), skipped)
    assert set(skipped) | {row.key for row in opened} == set(OTHERS[:4])
    assert set(skipped) <= {"openvino", "ncnn"}
    return {row.key: row for row in opened}


@pytest.mark.parametrize("key", [PACKAGE, "openvino", "ncnn"])
def test_same_face_as_the_reference(key: str, rows: dict[str, contestants.Row], portrait: np.ndarray) -> None:
    if key not in rows:
        missing(f"{key} is not installed (an optional peer)")
    reference, peer = rows[REFERENCE].peer, rows[key].peer
    expected = reference.detect(reference.photo(portrait), 0.5)
    found = peer.detect(peer.photo(portrait), 0.5)
    assert len(found) == len(expected) == 1
    # The package rounds to whole pixels of its input, and takes 127 for the third mean. OpenVINO computes in bfloat16
    # where the CPU can.
    scale = max(portrait.shape) / SIZE[0]
    box, point = {PACKAGE: (3 * scale, 2 * scale), "openvino": (0.5, 0.5), "ncnn": (0.1, 0.1)}[key]
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=box)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=point)
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.02)
    assert peer.infer is not None
    peer.infer()


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: str, height: int, width: int) -> peers.Peer:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(peers, "onnxruntime", broken)
    monkeypatch.setattr(contestants, "package_onnx", lambda: b"onnx")
    skipped: dict[str, str] = {}
    assert open_others([REFERENCE, "yunet"], SIZE, None, True, tmp_path, skipped) == []
    assert skipped == {
        REFERENCE: "it fails here (RuntimeError: two lines)",
        "yunet": "no --yunet FILE given",
    }


def test_yunets_faces_in_pixels_of_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is not at hand in tests: OpenCV's detector is replaced by one that returns a known row."""
    row = np.array([[10, 20, 30, 40, *range(10), 0.9]], np.float32)
    answers = iter([(1, row), (1, None)])
    thresholds: list[float] = []

    class Detector:
        @staticmethod
        def create(file: str, config: str, size: tuple[int, int], score: float, iou: float, top: int) -> Detector:
            assert size == (320, 160)
            return Detector()

        def setScoreThreshold(self, threshold: float) -> None:
            thresholds.append(threshold)

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
            assert image.shape == (160, 320, 3)
            return next(answers)

    monkeypatch.setattr(peers.cv2, "FaceDetectorYN", Detector)
    (tmp_path / "yunet.onnx").write_bytes(b"onnx")
    peer = peers.yunet(str(tmp_path / "yunet.onnx"), 160, 320)
    found = peer.detect(np.zeros((320, 640, 3), np.uint8), 0.3)  # halved to fit
    np.testing.assert_allclose(found.boxes, [[20, 40, 80, 120]])
    np.testing.assert_allclose(found.landmarks[0], 2 * np.arange(10).reshape(5, 2))
    np.testing.assert_allclose(found.scores, [0.9])
    assert len(peer.detect(np.zeros((320, 640, 3), np.uint8), 0.3)) == 0
    assert thresholds == [0.3, 0.3]


def test_missing_package() -> None:
    with pytest.raises(peers.PeerMissing, match="no-such-package is not installed"):
        peers.installed("no_such_module", "no-such-package")


def test_fresh_process_of_the_reference(tmp_path: Path, portrait: np.ndarray) -> None:
    (tmp_path / "reference.onnx").write_bytes(package_onnx())
    cv2.imwrite(str(tmp_path / "photo.png"), portrait)
    arguments = (str(tmp_path / "reference.onnx"), *SIZE)
    milliseconds, megabytes = fresh_process("onnxruntime", arguments, tmp_path / "photo.png", 1)
    assert milliseconds > 0
    assert 20 < megabytes < 400  # its own memory, not that of this process, which holds TensorFlow
    with pytest.raises(RuntimeError, match=r"onnxruntime: the fresh process ended with 1 \(.*none.onnx"):
        fresh_process("onnxruntime", (str(tmp_path / "none.onnx"), *SIZE), tmp_path / "photo.png", 1)


def test_install_size_counts_requirements_once() -> None:
    alone, files = install_mb(["packaging"]), importlib.metadata.files("packaging")
    assert alone is not None
    assert files is not None
    assert alone == sum(path.stat().st_size for path in map(Path, map(str, (f.locate() for f in files)))) / 1e6
    assert install_mb(["packaging", "Packaging"]) == alone
    whole = install_mb(["onnxruntime"])
    assert whole is not None
    assert whole > alone  # NumPy and others come with it
    assert install_mb(["no-such-package", "packaging"]) is None


def test_install_size_counts_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice.egg-info").mkdir()
    (tmp_path / "twice.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: twice\nVersion: 1\n")
    (tmp_path / "twice.egg-info" / "SOURCES.txt").write_text("data.bin\n./data.bin\n")
    (tmp_path / "data.bin").write_bytes(bytes(3_000_000))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert install_mb(["twice"]) == 3.0, "listed twice, there once"


def test_the_package_is_run_from_its_checked_wheel() -> None:
    with zipfile.ZipFile(contestants.package_wheel()) as wheel:
        assert "retinaface/postprocess.py" in wheel.namelist()


def test_versions_come_from_the_module_or_its_package() -> None:
    assert peers._version(SimpleNamespace(__version__="2026.4.1-22982-e213a147257"), "absent") == "2026.4.1"
    assert peers._version(SimpleNamespace(), "numpy") == np.__version__
