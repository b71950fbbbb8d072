"""The C++ code compiled by g++ and clang++ with sanitizers, once per session; never skipped in CI."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# The cases that Kotlin answers are those that C++ answers.
for folder in ("tests/android/tools", "tests/android"):
    sys.path.append(str(ROOT / folder))

from tests.cpp import build  # noqa: E402
from tflite.images import read_image  # noqa: E402


@pytest.fixture(scope="session", params=build.COMPILERS)
def compiler(request: pytest.FixtureRequest) -> str:
    """A C++ compiler; the tests skip at home where it is missing and fail in CI."""
    build.need(request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def driver(compiler: str) -> build.Driver:
    """The test program, with address and undefined-behaviour sanitizers."""
    return build.Driver(build.compiled(compiler, "tests/cpp/driver.cpp", "-DWITH_PICTURES", *build.PICTURES))


@pytest.fixture(scope="session")
def program(compiler: str) -> Path:
    """The example program, with the same sanitizers."""
    library = build.litert()
    return build.compiled(
        compiler, "cpp/examples/detect.cpp", str(library), f"-Wl,-rpath,{library.parent}", *build.PICTURES
    )


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """Grace Hopper, a photo in the public domain that matplotlib ships."""
    import matplotlib

    return read_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


@pytest.fixture(scope="session")
def twenty(portrait: np.ndarray) -> list[np.ndarray]:
    """20 pictures: scaled up and down, turned, cut, mirrored, darkened, several in one, tall, wide, tiny, none."""
    height, width = portrait.shape[:2]
    images = [cv2.resize(portrait, None, fx=f, fy=f, interpolation=cv2.INTER_AREA) for f in (0.2, 0.35, 0.5, 0.8, 1.7)]
    images += [cv2.resize(portrait, size) for size in ((640, 640), (320, 320), (1280, 1280), (900, 300))]
    images += [portrait, portrait[:, ::-1], portrait[: height // 2], portrait[:, width // 4 :], portrait // 3]
    images += [np.hstack((portrait,) * n) for n in (2, 3)] + [np.vstack((portrait,) * 2), np.tile(portrait, (3, 3, 1))]
    images += [np.rot90(portrait), np.full((5, 1, 3), 128, np.uint8)]
    assert len(images) == 20
    return [np.ascontiguousarray(image) for image in images]
