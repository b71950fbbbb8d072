"""Synthetic faces: same seed, same files; labels that fit the picture; nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rf_keras import synthetic
from rf_keras.labels import read_labels
from rf_keras.synthetic import make_dataset, make_image, synthetic_dir
from rf_keras.synthetic_face import draw_face, draw_lookalike


def test_same_seed_same_files_and_a_prefix_of_a_longer_set(tmp_path: Path) -> None:
    first = make_dataset(tmp_path / "first", 4, seed=3, size=96)
    second = make_dataset(tmp_path / "second", 6, seed=3, size=96)
    other = make_dataset(tmp_path / "other", 4, seed=4, size=96)
    for index in range(4):
        name = Path("images") / f"{index:05d}.jpg"
        assert (first / name).read_bytes() == (second / name).read_bytes() != (other / name).read_bytes()
    assert (second / "label.txt").read_text().startswith((first / "label.txt").read_text())


def test_labels_are_plausible_and_varied(tmp_path: Path) -> None:
    samples = read_labels(make_dataset(tmp_path / "data", 60, seed=1, size=320))
    boxes = np.concatenate([sample.boxes for sample in samples])
    landmarks = np.concatenate([sample.landmarks for sample in samples])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    counts = [len(sample.boxes) for sample in samples]
    assert min(counts) == 0 and max(counts) >= 5 and 1.5 < np.mean(counts) < 5
    assert width.min() > 9 and width.max() < 320 and np.quantile(width, 0.9) > 3 * np.quantile(width, 0.2)
    assert ((height / width > 0.7) & (height / width < 1.8)).all()
    # Every landmark lies in its box; eyes above mouth, left before right, unless the head is tilted far.
    slack = 0.05 * np.stack([width, height], 1)[:, None]
    assert (landmarks > boxes[:, None, :2] - slack).all() and (landmarks < boxes[:, None, 2:] + slack).all()
    upright = (landmarks[:, 0, 0] < landmarks[:, 1, 0]) & (landmarks[:, 0, 1] < landmarks[:, 3, 1])
    assert upright.mean() > 0.9


def test_box_is_the_head_without_ears_and_hair() -> None:
    """The alpha of a face reaches beyond its box (ears, hair, neck), and its box holds the skin between them."""
    for seed in range(20):
        face = draw_face(np.random.default_rng(seed), 60.0)
        low, high = face.outline.min(axis=0), face.outline.max(axis=0)
        assert ((face.landmarks > low) & (face.landmarks < high)).all()
        np.testing.assert_allclose(high[0] - low[0], 2 * face.half_width, rtol=0.03)
        x1, y1 = np.ceil(low + 0.3 * (high - low)).astype(int)
        x2, y2 = np.floor(high - 0.3 * (high - low)).astype(int)
        assert (face.alpha[y1:y2, x1:x2] == 255).all()


def test_small_and_large_sprites_have_their_scale() -> None:
    for draw in (draw_face, draw_lookalike):
        for half in (6.0, 20.0, 150.0):
            sprite = draw(np.random.default_rng(0), half)
            assert sprite.picture.shape[:2] == sprite.alpha.shape
            width = np.ptp(sprite.outline[:, 0])
            np.testing.assert_allclose(width, 2 * sprite.half_width, rtol=0.05)


def test_image_has_the_size_asked_for() -> None:
    image, _ = make_image(np.random.default_rng(0), 200)
    assert image.shape == (200, 200, 3) and image.dtype == np.uint8


def test_bad_requests_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count 0"):
        make_dataset(tmp_path / "x", 0, 1)
    with pytest.raises(ValueError, match="size 10"):
        make_dataset(tmp_path / "x", 1, 1, size=10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        make_dataset(tmp_path / "full", 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_default_set_is_made_once_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "SPLITS", {"train": (3, 1), "val": (2, 2)})
    folder = synthetic_dir("val", size=96)
    assert folder.parent == tmp_path / "retinaface-keras"
    assert len(read_labels(folder)) == 2
    before = (folder / "label.txt").stat().st_mtime_ns
    assert synthetic_dir("val", size=96) == folder
    assert (folder / "label.txt").stat().st_mtime_ns == before
    assert synthetic_dir("train", size=96) != folder


def test_a_killed_generation_leaves_no_data_set(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "data"
    arguments = ["--output", str(output), "--count", "5000", "--seed", "1", "--size", "96"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rf_keras.synthetic", *arguments],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".data.*/images/*.jpg")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not output.exists()
    assert make_dataset(output, 1, 1, 96).is_dir()


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    for name in (".faces.abcdefgh", ".faces.at_work", ".others.abcdefgh"):
        (tmp_path / name / "images").mkdir(parents=True)
        if "work" not in name:
            os.utime(tmp_path / name / "images", (1, 1))
    make_dataset(tmp_path / "faces", 1, 1, 64)
    assert {path.name for path in tmp_path.iterdir()} == {"faces", ".faces.at_work", ".others.abcdefgh"}


def test_command_writes_and_refuses(root: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rf_keras.synthetic", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
        )

    output = str(tmp_path / "data")
    made = run("--output", output, "--count", "2", "--seed", "5", "--size", "96")
    assert made.returncode == 0, made.stderr
    assert len(read_labels(output)) == 2
    for arguments, message in (
        (("--output", output), "exists and is not empty"),
        (("--output", f"{output}2", "--count", "-1"), "count -1"),
        (("--output", f"{output}2", "--colour", "1"), "colour"),
        ((), "--output"),
    ):
        refused = run(*arguments)
        assert refused.returncode != 0 and message in refused.stderr
        assert "Traceback" not in refused.stderr
