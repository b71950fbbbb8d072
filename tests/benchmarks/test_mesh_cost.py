from __future__ import annotations

import json

import pytest

from benchmarks import mesh_cost


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    report = mesh_cost.run(mesh_cost.Options(runs=5))
    assert json.loads(json.dumps(report)) == report
    assert 0.5 < report["invoke_ratio"]["median"] < 2
    one, ten, fifty = report["decode_ms"].values()
    assert 0 < one < ten < fifty < 20
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_model_without_a_mesh() -> None:
    with pytest.raises(ValueError, match="fast_640: the model has no mesh; expected one with a mesh branch"):
        mesh_cost.run(mesh_cost.Options(model="fast_640", runs=1))
