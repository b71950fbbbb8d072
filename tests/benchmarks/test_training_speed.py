from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import training_speed
from rf_keras.config import PRESETS
from rf_keras.pipeline import read_folders
from rf_keras.synthetic import make_dataset


def test_figures_at_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the step itself and the pipeline's own benchmark, which take long to compile and have tests."""
    seen: list[tuple[int, ...]] = []

    def fake_step(*_: Any) -> Any:
        def step(batch: Any) -> dict[str, float]:
            seen.append(tuple(batch["count"].numpy()))
            return {"loss": 0.0}

        return step

    monkeypatch.setattr(training_speed, "make_train_step", fake_step)
    figures = {"images_per_second": 100.0, "cpu_ms_per_image": 5.0}
    monkeypatch.setattr(training_speed, "measure_pipeline", lambda *_: figures)
    make_dataset(tmp_path / "data", 4, 0, 96)
    samples, sizes = read_folders([tmp_path / "data"])
    config = dataclasses.replace(PRESETS["fast"], size=64, batch=2)
    row = training_speed.measure_size(config, samples, sizes, 1)
    assert (training_speed.FEW,) * 2 in seen
    assert (training_speed.MANY,) * 2 in seen
    assert row["size"] == 64
    for key, value in row.items():
        if "per_second" in key or "share" in key or "_to_" in key or "ms" in key:
            assert value > 0, key


def test_memory_is_read_at_a_tenth_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "make_train_step", lambda *_: lambda batch: {"loss": 0.0})
    make_dataset(tmp_path / "data", 4, 0, 96)
    samples, sizes = read_folders([tmp_path / "data"])
    config = dataclasses.replace(PRESETS["fast"], size=64, batch=2)
    found = training_speed.memory_growth(config, samples, sizes, 10)["resident_mb"]
    assert list(found) == [1, 10] and min(found.values()) > 50


def test_crowd() -> None:
    batch = training_speed.crowd({"image": tf.zeros([3, 128, 128, 3], tf.uint8)}, 7, 128)
    boxes = batch["boxes"].numpy()
    assert boxes.shape == (3, 7, 4)
    assert batch["landmarks"].shape == (3, 7, 5, 2)
    assert batch["count"].numpy().tolist() == [7, 7, 7]
    sides = boxes[..., 2:] - boxes[..., :2]
    np.testing.assert_allclose(sides[..., 0], sides[..., 1], atol=1e-4)
    assert (boxes >= 0).all()
    assert (boxes <= 128).all()
    assert (sides >= 9.99).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), "--sizes is empty, expected numbers such as 640,320"),
        ((100,), "size is 100, expected a multiple of 32"),
    ],
)
def test_bad_sizes(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_speed.run(training_speed.Options(sizes=sizes, config="fast", batch=2))
