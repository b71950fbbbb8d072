"""What a weights file tells of its making."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rf_keras.history import images_seen, part, read_history


def test_a_part_names_no_folder() -> None:
    mine = part("training", 800, (640, 320), ("/photos/wider/train", "own"), "/models/scrfd.onnx")
    assert mine == {
        "what": "training",
        "images": 800,
        "sizes": [640, 320],
        "data": ["train", "own"],
        "teacher": "scrfd.onnx",
    }
    assert part("training", 1, (64,), (), "")["teacher"] == ""
    assert images_seen([mine, mine | {"images": 50}]) == 850


def test_history_from_a_file(tmp_path: Path) -> None:
    parts = [part("training", 800, (640,), ("train",), "")]
    (tmp_path / "h.json").write_text(json.dumps(parts))
    assert read_history(tmp_path / "h.json") == parts


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"images": 3}]', "null"])
def test_what_is_no_history(tmp_path: Path, content: str) -> None:
    (tmp_path / "h.json").write_text(content)
    with pytest.raises(ValueError, match=r"h\.json: "):
        read_history(tmp_path / "h.json")
