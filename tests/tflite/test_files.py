from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from tflite.files import expand_inputs, replacing, write_image, write_text
from tflite.preprocess import ImageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_patterns_and_files_in_order_once(tmp_path: Path) -> None:
    a, b, c, text = tmp_path / "d/a.jpg", tmp_path / "d/sub/B.PNG", tmp_path / "c.jpg", tmp_path / "d/readme.txt"
    touch(a, b, c, text)
    inputs, errors = expand_inputs([str(c), str(tmp_path / "d"), str(tmp_path / "*.jpg"), str(tmp_path / "**/*.PNG")])
    assert inputs == [(c, Path("c.jpg")), (a, Path("a.jpg")), (b, Path("sub/B.PNG"))]
    assert errors == []


def test_what_gives_no_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs, errors = expand_inputs([str(tmp_path / "empty"), str(tmp_path / "*.gif"), str(tmp_path / "missing.jpg")])
    assert [line.partition(": ")[2] for line in errors] == [
        "no image in the folder, expected .jpg .jpeg .png .bmp .gif .tif .tiff .webp .ppm .pgm",
        "no file matches the pattern",
    ]
    assert inputs == [(tmp_path / "missing.jpg", Path("missing.jpg"))]  # reading it gives the error


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "face[1].jpg")
    assert expand_inputs([str(tmp_path / "face[1].jpg")])[0] == [(tmp_path / "face[1].jpg", Path("face[1].jpg"))]


def test_equal_names_of_two_folders_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path / "x/a.jpg", tmp_path / "y/a.jpg", tmp_path / "z/a.jpg")
    inputs, _ = expand_inputs([str(tmp_path / name / "a.jpg") for name in "xyz"])
    assert [str(name) for _, name in inputs] == ["a.jpg", "a_2.jpg", "a_3.jpg"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".json"
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_files_are_readable_by_others_as_usual(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_unknown_image_format(tmp_path: Path) -> None:
    for name in ("a.xyz", "a"):
        with pytest.raises(ImageError, match="cannot write this image format"):
            write_image(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())
