from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nms as benchmark


def test_command(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/nms.py", "--boxes", "200", "--rounds", "2", "--json", tmp_path / "nms.json"]
    done = subprocess.run([*map(str, command)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "nms.json").read_text())
    assert set(report) == set(benchmark.CLUSTERS)
    for name, row in report.items():
        assert name in done.stdout
        assert min(row["faster_rcnn_ms"], row["ours_ms"], row["opencv_ms"], row["to_faster_rcnn"], row["to_opencv"]) > 0
        assert 0 < row["kept"] <= row["boxes"] == 200
    assert report["50 clusters"]["kept"] < report["random"]["kept"]


def test_unexpected_argument(root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.nms", "fast"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode != 0
    assert "unexpected argument 'fast'" in done.stderr + done.stdout


def test_other_indices_than_faster_rcnns_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "nms", lambda boxes, *_, **__: np.arange(len(boxes)))
    with pytest.raises(ValueError, match="other indices than Faster R-CNN"):
        benchmark.compare(*benchmark.make_boxes(100, 5, 0), 1)


def test_boxes_of_a_cluster_lie_together() -> None:
    boxes, scores = benchmark.make_boxes(1000, 10, 0)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = np.abs(centres[:, None] - centres[None]).max(axis=-1) < 60
    assert near.mean() > 0.08  # a tenth of the pairs are of one cluster
    assert len(np.unique(scores)) == 1000
    assert (boxes[:, 2:] > boxes[:, :2]).all()
