"""The picture of what training sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rf_keras import preview
from rf_keras.synthetic import make_dataset
from tflite.images import read_image


def test_a_grid_is_drawn(root: Path, tmp_path: Path) -> None:
    data, output = make_dataset(tmp_path / "faces", 4, seed=5, size=96), tmp_path / "grid.png"
    command = [sys.executable, "-m", "rf_keras.preview", "--count=3", "--size=96", "--anchors=small"]
    done = subprocess.run(
        [*command, f"--data_dir={data}", f"--output={output}"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_image(output).shape == (192, 192, 3)
    assert read_image(output).std() > 10 and "3 samples" in done.stdout


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    (tmp_path / "label.txt").write_text("# a.jpg\n1 1 5 5\n")
    for data, message in (
        (tmp_path, r"1 of 1 pictures cannot be read .*images/a\.jpg: "),
        (tmp_path / "no", "no: no such folder"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            preview.run(preview.Options(count=1, data_dir=(data,), output=tmp_path / "x.png"))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x.png").exists()
