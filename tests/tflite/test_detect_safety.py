"""The detect command loses nothing: no file of the user's, and no result when it ends early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.detect import DetectOptions, detect_files
from tflite.images import write_image
from tflite.outputs import UsageError
from tflite.postprocess import Detections
from tflite.results import Results, Stopped
from tflite.video import Video


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a/x.png, b/x.png, a crop's name as an input, a video."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "b/x.png", "a/x.png_0.png"):
        write_image(tmp_path / name, photo())
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 128))
    for _ in range(200):
        writer.write(photo())
    writer.release()
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": ("b/x.png", "a/x.png"), "output": "a"}, "a/x.png would overwrite the input a/x.png"),
        ({"images": ("a/x.png",), "output": "a/x.png"}, "would overwrite the input a/x.png"),
        ({"images": ("a",), "crops": "a"}, "a crop of a/x.png would overwrite the input a/x.png_0.png"),
        ({"source": "v.avi", "output": "v.avi"}, "would overwrite the input v.avi"),
        ({"images": ("a/x.png",), "json": "a/x.png"}, "expected a file for text"),
        ({"images": ("a/x.png",), "json": "link"}, "--json: link would overwrite the input a/x.png"),
        ({"images": ("a/x.png",), "json": "f", "jsonl": "./f"}, "--jsonl: f would overwrite --json"),
        ({"images": ("a/x.png",), "json": "-", "jsonl": "-"}, "--json and --jsonl are both stdout"),
        ({"images": ("a/x.png",), "json": "m"}, "--json: m would overwrite the model m"),
        ({"images": ("a/x.png",), "jsonl": "a"}, "--jsonl a is a folder, expected a file"),
        ({"images": ("a/x.png",), "output": "v.avi"}, "--output v.avi is a file, expected a folder"),
        ({"images": ("a/x.png",), "output": "v.avi/o.png"}, "v.avi is a file, not a folder"),
        ({"images": ("a/x.png",), "crops": "v.avi/c"}, "v.avi is a file, not a folder"),
    ],
)
def test_nothing_is_overwritten(options: dict[str, Any], message: str, folder: Path, model_dir: Path) -> None:
    (folder / "link").symlink_to("a/x.png")
    (folder / "m").write_bytes((model_dir / "int8.tflite").read_bytes())
    before = contents(folder)
    with pytest.raises(UsageError) as caught:
        detect_files(DetectOptions(model="./m", **options))
    assert message in str(caught.value).replace(f"{folder}/", "")
    assert contents(folder) == before


def test_inputs_of_one_name_after_conversion_both_get_their_image(folder: Path, model_dir: Path) -> None:
    image = photo()
    for name in ("x.pgm", "x.pgm.png"):
        write_image(folder / "in" / name, image[..., :1] if name == "x.pgm" else image)
    assert detect_files(DetectOptions(("in",), str(model_dir / "int8.tflite"), output="out")) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["x.pgm.png", "x.pgm_2.png"]


def test_a_line_is_there_when_its_image_is_done(folder: Path) -> None:
    """Appended in place: earlier lines stay, and a cut one is ended first."""
    lines = folder / "new" / "f.jsonl"
    none = Detections(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))
    lines.parent.mkdir()
    lines.write_text('{"file": "old"}\n{"file": "cu')
    inode = lines.stat().st_ino
    with Results(DetectOptions(jsonl=str(lines)), {"a/x.png": Path("x.png")}) as results:
        results.add("a/x.png", Path("x.png"), photo(), none)
        assert lines.read_text() == '{"file": "old"}\n{"file": "cu\n{"file": "a/x.png", "faces": []}\n'
    assert lines.stat().st_ino == inode


def test_json_is_written_when_the_window_is_closed_but_not_after_an_error(folder: Path) -> None:
    none = Detections(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))
    for error, written in ((Stopped, True), (RuntimeError, False)):
        with pytest.raises(error), Results(DetectOptions(json=f"{error.__name__}.json"), {"a": Path("a")}) as results:
            results.add("a", Path("a"), photo(), none)
            raise error
        assert (folder / f"{error.__name__}.json").exists() == written


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(root: Path, model_dir: Path) -> Start:
    """Starts the command in the working folder."""

    def begin(*arguments: str | bytes | Path, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tflite.detect", "--model", model_dir / "int8.tflite", *arguments],
            env={**os.environ, "PYTHONPATH": str(root), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return begin


def wait_for_lines(path: Path, count: int) -> None:
    for _ in range(600):
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"{path}: fewer than {count} lines after a minute")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_with_what_was_done(number: int, code: int, folder: Path, start: Start) -> None:
    """The second input is a pipe into which nobody writes."""
    os.mkfifo("pipe.png")
    process = start("a/x.png", "pipe.png", "b/x.png", "--json", "f.json", "--jsonl", "f.jsonl", "--output", "out")
    wait_for_lines(folder / "f.jsonl", 1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in stderr
    assert stderr.splitlines()[-1] == f"{signal.Signals(number).name}: stopped after 1 of 3 images".encode()
    assert list(json.loads((folder / "f.json").read_text())) == ["a/x.png"]
    assert [path.name for path in (folder / "out").iterdir()] == ["x.png"]


def test_a_video_ended_by_a_signal_is_whole(folder: Path, start: Start) -> None:
    process = start("--source", "v.avi", "--jsonl", "f.jsonl", "--json", "f.json", "--output", "o.mp4")
    wait_for_lines(folder / "f.jsonl", 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (143, 0)  # 0: a quick machine was done
    frames = len(json.loads((folder / "f.json").read_text()))
    assert len(list(Video("o.mp4"))) == frames == len((folder / "f.jsonl").read_text().splitlines()) >= 3


def test_a_closed_pipe_costs_no_file(folder: Path, start: Start) -> None:
    process = start("a/x.png", "b/x.png", "--json", "f.json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(60) == 0 and b"Traceback" not in stderr and b"Broken" not in stderr
    assert len(json.loads((folder / "f.json").read_text())) == 2
    process = start("a/x.png", "b/x.png", "--jsonl", "-")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(60) == 141 and b"Traceback" not in stderr and b"Broken" not in stderr


def test_names_that_the_console_cannot_show(folder: Path, start: Start) -> None:
    names = ["🙂.png", os.fsdecode(b"caf\xe9.png"), "red\x1b[31m\nline.png"]
    for name in names:
        (folder / name).write_bytes((folder / "a" / "x.png").read_bytes())
    process = start(*names, "none\x1b.png", "--json", "f.json", PYTHONIOENCODING="cp1252")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1  # for the missing one
    assert list(json.loads((folder / "f.json").read_text())) == names
    shown = stdout + stderr
    assert b"\x1b" not in shown and len(stdout.splitlines()) == 3
    for text in (b"\\U0001f642.png", b"caf\\udce9.png", b"red\\x1b[31m\\nline.png", b"none\\x1b.png: cannot read"):
        assert text in shown


def test_redirected_stdout_is_written_to_by_its_name(folder: Path, root: Path, model_dir: Path) -> None:
    with (folder / "all.txt").open("wb") as file:
        command = [sys.executable, "-m", "tflite.detect", "--model", model_dir / "int8.tflite", "a/x.png"]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        subprocess.run([*command, "--jsonl", "/dev/stdout"], env=environment, stdout=file, check=True)
    assert json.loads((folder / "all.txt").read_text())["file"] == "a/x.png"
