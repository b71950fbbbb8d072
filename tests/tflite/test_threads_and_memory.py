"""A detector used by many threads, for long, and closed."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tests.tflite.test_detector import equal
from tflite.detector import FaceDetector

THREADS, IMAGES = 4, 500
MOST_MEMORY = 130.0  # MB (10⁶ bytes) of a process that keeps three shapes ready
LIBRARIES = 45.0  # MB of them are pages of files; how many count depends on what the kernel maps at once

# In a fresh process: prints MB of peak memory, and of pages of files.
THREE_SHAPES = """
import numpy
from tflite.detector import FaceDetector
detector = FaceDetector("fast_640", 1)
for rows in (640, 480, 384):
    assert detector.input_shape(rows, 640) == (rows, 640)
    for _ in range(3):
        detector.detect(numpy.full((rows, 640, 3), 128, numpy.uint8))
with open("/proc/self/status") as status:
    sizes = dict(line.split(":", 1) for line in status)
print(*(int(sizes[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "RssFile")))
"""


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(11)
    return [
        photo(*random.integers(50, 200, 2), squares=tuple(map(tuple, random.integers(0, 40, (i % 4, 3)).tolist())))
        for i in range(50)
    ]


def test_one_detector_shared_by_threads(model_dir: Path, images: list[np.ndarray]) -> None:
    detector = FaceDetector(model_dir / "int8.tflite", num_threads=1)
    serial = [detector.detect(image, 0.3) for image in images]

    def work(thread: int) -> bool:
        # Each starts elsewhere, so that different image sizes meet in the shared buffers.
        order = [(thread * 13 + i) % len(images) for i in range(IMAGES)]
        return all(equal(detector.detect(images[i], 0.3), serial[i]) for i in order)

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [True] * THREADS


def test_one_detector_per_thread(model_dir: Path, images: list[np.ndarray]) -> None:
    path = model_dir / "int8.tflite"
    first = FaceDetector(path, num_threads=1)
    serial = [first.detect(image) for image in images]

    def work(thread: int) -> bool:
        with FaceDetector(path, num_threads=1) as own:
            return all(equal(own.detect(images[i % len(images)]), serial[i % len(images)]) for i in range(IMAGES))

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [True] * THREADS


def test_results_survive_later_calls(model_dir: Path, images: list[np.ndarray]) -> None:
    """Detections own their memory; no view into the interpreter's."""
    detector = FaceDetector(model_dir / "fp32.tflite", num_threads=1)
    faces = detector.detect(photo(), 0.01)
    copies = [faces.boxes.copy(), faces.scores.copy(), faces.landmarks.copy()]
    for image in images:
        detector.detect(image)
    for kept, copy in zip((faces.boxes, faces.scores, faces.landmarks), copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_memory_does_not_grow(model_dir: Path, images: list[np.ndarray]) -> None:
    detector = FaceDetector(model_dir / "int8.tflite", num_threads=1)
    for image in images * 4:
        detector.detect(image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for image in images * 40:
        detector.detect(image)  # 2,000 images
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_with_three_shapes(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", THREE_SHAPES], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, files = map(float, done.stdout.split())
    assert 30 < peak - files <= MOST_MEMORY - LIBRARIES


def test_context_manager_and_warm_up(model_dir: Path) -> None:
    with FaceDetector(model_dir / "int8.tflite") as detector:
        detector.warm_up()
        assert len(detector.detect(photo())) > 0
    with pytest.raises(ValueError, match="the detector is closed"):
        detector.detect(photo())
    detector.close()
