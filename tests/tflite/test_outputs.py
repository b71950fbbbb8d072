"""No output destroys a file: settled before the first byte."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tflite.files import free_name, is_special, replacing, write_text
from tflite.finding import expand_inputs
from tflite.outputs import (
    OutputPlan,
    UsageError,
    annotated_names,
    check_file,
    check_folder,
    check_text_file,
    crop_name,
)


def test_an_input_is_no_output_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_text("photo")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "y.jpg").symlink_to("a/x.jpg")
    os.link(tmp_path / "a" / "x.jpg", tmp_path / "hard.jpg")
    monkeypatch.chdir(tmp_path)
    plan = OutputPlan()
    plan.protect(Path("a/x.jpg"), "the input a/x.jpg")
    for name in ("a/x.jpg", "./a/../a/x.jpg", str(tmp_path / "a" / "x.jpg"), "link/x.jpg", "y.jpg", "hard.jpg"):
        with pytest.raises(UsageError, match=r"^--json: .*x?\.jpg would overwrite the input a/x\.jpg"):
            plan.claim(Path(name), "--json")
    plan.claim(Path("a/z.jpg"), "--output")
    with pytest.raises(UsageError, match="would overwrite --output"):
        plan.claim(Path("link/z.jpg"), "--json")


def test_devices_are_nobodys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    plan = OutputPlan()
    for path in (Path("/dev/null"), tmp_path / "pipe", Path("/dev/stdout")):
        assert is_special(path)
        plan.claim(path, "--json")
        plan.claim(path, "--jsonl")
        check_file("--json", path)
    assert not is_special(tmp_path) and not is_special(tmp_path / "none")


def test_crops_of_every_number_are_kept_free(tmp_path: Path) -> None:
    plan = OutputPlan()
    plan.protect(tmp_path / "x.jpg_12.png", "the input x.jpg_12.png")
    plan.protect(tmp_path / "x.jpg_a.png", "another input")
    plan.claim_crops(tmp_path, {"y.jpg": Path("y.jpg"), "d/y.jpg": Path("d/y.jpg")})
    with pytest.raises(UsageError, match=r"a crop of y\.jpg"):
        plan.claim(tmp_path / "y.jpg_3.png", "--output of y.jpg_3.png")
    with pytest.raises(UsageError, match=r"a crop of d/y\.jpg"):
        plan.claim(tmp_path / "d" / "y.jpg_0.png", "--output")
    plan.claim(tmp_path / "y.jpg_.png", "--output")
    with pytest.raises(UsageError, match=r"--crops: a crop of x\.jpg would overwrite the input x\.jpg_12\.png"):
        plan.claim_crops(tmp_path, {"x.jpg": Path("x.jpg")})
    assert crop_name(Path("d/y.jpg"), 3) == Path("d/y.jpg_3.png")


def test_two_inputs_never_share_an_annotated_image(tmp_path: Path) -> None:
    names = {name: Path(name) for name in ("x.gif", "x.gif.png", "y.jpg", "d/y.jpg")}
    targets = annotated_names(tmp_path, names, OutputPlan())
    assert [str(path.relative_to(tmp_path)) for path in targets.values()] == [
        "x.gif.png",
        "x.gif_2.png",
        "y.jpg",
        "d/y.jpg",
    ]


def test_an_annotated_image_over_an_input_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
    plan = OutputPlan()
    plan.protect(tmp_path / "a" / "x.jpg", "the input a/x.jpg")
    with pytest.raises(UsageError, match=r"--output of b/x\.jpg: .*a/x\.jpg would overwrite the input a/x\.jpg"):
        annotated_names(tmp_path / "a", {"b/x.jpg": Path("x.jpg")}, plan)


def test_places_are_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    check_file("--json", tmp_path / "new" / "folder" / "f.json")
    check_file("--json", tmp_path / "file")
    check_folder("--crops", tmp_path / "new" / "folder")
    with pytest.raises(UsageError, match="is a folder, expected a file"):
        check_file("--json", tmp_path)
    with pytest.raises(UsageError, match="file is a file, not a folder"):
        check_file("--json", tmp_path / "file" / "f.json")
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        check_folder("--crops", tmp_path / "file")
    for name in ("photo.jpg", "film.MP4", "model.tflite"):
        with pytest.raises(UsageError, match=r"expected a file for text, such as faces\.jsonl"):
            check_text_file("--jsonl", tmp_path / name)
    monkeypatch.setattr(os, "access", lambda *_: False)  # a test may run as root, who may do anything
    with pytest.raises(UsageError, match="no permission to write in"):
        check_file("--json", tmp_path / "f.json")


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("d/real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "d" / "real.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "link.json"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join(10)
    assert read == ["text"] and pipe.is_fifo()
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    with pytest.raises(OSError, match="No space left") as caught, replacing(path):
        raise OSError(28, "No space left on device")  # as write() does: it knows no name
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as missing, replacing(path) as temporary:
        temporary.unlink()
    assert missing.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_the_longest_kind(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".json")
    write_text(path, "text")
    assert path.read_text() == "text"


def test_many_equal_names_take_no_longer_than_others(tmp_path: Path) -> None:
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    start = time.process_time()
    names = [free_name(Path("a.jpg"), taken, numbers) for _ in range(20_000)]
    assert time.process_time() - start < 3
    assert len(set(names)) == 20_000 and names[1] == Path("a_2.jpg") and names[-1] == Path("a_20000.jpg")
    assert free_name(Path("a_2.jpg"), taken, numbers) == Path("a_2_2.jpg")


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    inputs, errors = expand_inputs([str(tmp_path)])
    assert inputs == [(tmp_path / "a.jpg", Path("a.jpg"))]
    assert errors == [f"{tmp_path}/closed: cannot read the folder (Permission denied)"]
