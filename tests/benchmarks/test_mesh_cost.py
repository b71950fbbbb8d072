from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import mesh_cost


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    report = mesh_cost.run(mesh_cost.Options(runs=5))
    assert json.loads(json.dumps(report)) == report
    assert 0.5 < report["invoke_ratio"]["median"] < 2
    one, ten, fifty = report["decode_ms"].values()
    assert 0 < one < ten < fifty < 20
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_which_is_divided_by_which(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"mesh": np.arange(11, 22.0), "plain": np.arange(10, 21.0), "1": np.full(3, 0.1)}
    monkeypatch.setattr(mesh_cost, "cpu_ms", lambda calls, runs: {name: times.get(name, times["1"]) for name in calls})
    report = mesh_cost.run(mesh_cost.Options(runs=1))
    assert report["invoke_ratio"] == {"least": 1.1, "tenth": 1.091, "quarter": 1.08, "median": 1.067}
    assert report["decode_ms"] == {"1": 0.1, "10": 0.1, "50": 0.1}


def test_a_model_without_a_mesh() -> None:
    with pytest.raises(ValueError, match="fast_640: the model has no mesh; expected one with a mesh branch"):
        mesh_cost.run(mesh_cost.Options(model="fast_640", runs=1))
