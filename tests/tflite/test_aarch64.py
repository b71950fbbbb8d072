"""The runtime on a 64-bit ARM board, emulated: the same faces as here.

`bash tests/tflite/fetch_aarch64.sh` fetches what it needs (CI runs it); elsewhere the test is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.detector import FaceDetector
from tflite.images import write_image

FOLDER = Path(
    os.environ.get("RETINAFACE_AARCH64")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retinaface-keras" / "aarch64"
)


@pytest.fixture(scope="module")
def board() -> Path:
    if not (FOLDER / "complete").exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI must run on emulated aarch64, but {FOLDER} is missing: tests/tflite/fetch_aarch64.sh")
        pytest.skip(f"no emulated aarch64 in {FOLDER} (bash tests/tflite/fetch_aarch64.sh fetches it)")
    return FOLDER


def on_board(folder: Path, root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python on the emulated board."""
    environment = {
        "QEMU_LD_PREFIX": str(folder / "rootfs"),
        "PYTHONHOME": str(folder / "rootfs" / "usr"),
        "PYTHONPATH": f"{root}:{folder / 'site'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }
    command = [folder / "qemu-aarch64", folder / "rootfs" / "usr" / "bin" / "python3.11", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_same_faces_as_here(kind: str, board: Path, root: Path, model_dir: Path, tmp_path: Path) -> None:
    image = photo(128, 192, ((16, 32, 32), (64, 128, 32)))
    write_image(tmp_path / "photo.png", image)
    model = model_dir / f"{kind}.tflite"
    result = on_board(
        *(board, root, "-m", "tflite.detect", tmp_path / "photo.png", "--model", model),
        *("--json", tmp_path / "faces.json", "--num_threads", "1"),
    )
    assert result.returncode == 0, result.stderr
    assert "ai_edge_litert 1.4.0" in result.stderr
    (there,) = json.loads((tmp_path / "faces.json").read_text()).values()
    here = FaceDetector(model, num_threads=1).detect(image).to_list()
    assert len(there) == len(here) > 0
    # Kernels differ by a step of the quantization (about 0.03 of a logit, 0.1 px here); never compare bit for bit.
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a["box"], b["box"], atol=1.0)
        np.testing.assert_allclose(a["landmarks"], b["landmarks"], atol=1.0)
        assert abs(a["score"] - b["score"]) < 0.03


def test_it_is_another_machine(board: Path, root: Path) -> None:
    result = on_board(board, root, "-c", "import platform; print(platform.machine())")
    assert result.stdout.strip() == "aarch64", result.stderr
