from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import crowd
from tflite.shipped import DEFAULT_MODEL


def test_every_head_has_a_cell_of_its_own() -> None:
    cell = crowd.CELL
    picture = crowd.crowd(7, 3 * cell, 4 * cell)
    cells = picture.reshape(3, cell, 4, cell, 3).swapaxes(1, 2).reshape(12, -1)
    assert np.count_nonzero((cells != 128).any(axis=1)) == 7
    smallest = picture.reshape(3, cell, 4, cell, 3).swapaxes(1, 2)[..., : crowd.SMALLEST, : crowd.SMALLEST, :]
    assert np.count_nonzero(smallest.reshape(12, -1).std(axis=1) > 15) == 7
    np.testing.assert_array_equal(picture, crowd.crowd(7, 3 * cell, 4 * cell))
    assert (crowd.crowd(0, 64, 96) == 128).all()
    with pytest.raises(ValueError, match="13 faces of 40 pixels do not fit into 160×120"):
        crowd.crowd(13, 3 * cell, 4 * cell)


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "COUNTS", (0, 64))
    report = crowd.run(crowd.Options(rounds=1))
    assert json.loads(json.dumps(report)) == report
    assert report["model"] == str(DEFAULT_MODEL)
    none, many = report["rows"]
    assert none["found"] == 0 and many["found"] >= 30, "most of the pasted heads are faces to the network"
    assert 0 < many["decode_and_nms_ms"] < many["end_to_end_ms"]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_missing_model() -> None:
    with pytest.raises(ValueError, match=r"absent\.tflite"):
        crowd.run(crowd.Options(model=Path("absent.tflite")))
