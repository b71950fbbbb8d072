"""What the detect command writes, and where: each output on its own, without the command around it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.blur import blur_faces
from tflite.detect import DetectOptions
from tflite.draw import draw_detections
from tflite.images import read_image
from tflite.outputs import UsageError
from tflite.postprocess import Detections
from tflite.results import Results, Stopped
from tflite.sources import FILE, VideoSource
from tflite.video import Frame

IMAGE = photo()
FACES = Detections(
    np.array([[48, 32, 80, 64]], np.float32),
    np.array([0.75], np.float32),
    np.array([[[55, 42], [73, 42], [64, 50], [57, 58], [71, 58]]], np.float32),
)

VIDEO = (VideoSource("v.mp4", FILE),)


def options(**changes: Any) -> DetectOptions:
    """The command's options, none given but `changes`."""
    return DetectOptions(**{key: str(value) if isinstance(value, Path) else value for key, value in changes.items()})


def named(*names: str) -> dict[str, Path]:
    """Inputs of a folder `photos` and their names in it."""
    return {f"photos/{name}": Path(name) for name in names}


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands for a window system: collects the pictures shown and, in between, the milliseconds waited; Esc and q are
    never pressed."""
    shown: list[Any] = []
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))

    def wait(milliseconds: int) -> int:
        shown.append(milliseconds)
        return -1

    monkeypatch.setattr(cv2, "waitKey", wait)
    return shown


def test_blur_needs_somewhere_to_be_seen(window: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--blur needs --output or --show"):
        Results(options(blur=True, json=tmp_path / "f.json"), named("a.png"))
    with Results(options(blur=True, show=True), named("a.png")) as sink:
        sink.add("photos/a.png", Path("a.png"), IMAGE, FACES)
    np.testing.assert_array_equal(window[0], blur_faces(IMAGE, FACES.boxes))


@pytest.mark.parametrize(("video", "milliseconds"), [(False, 0), (True, 1)])
def test_a_window_waits_for_a_key_after_a_picture_and_not_in_a_video(
    window: list[Any], video: bool, milliseconds: int
) -> None:
    frame = Frame(0, 0.0, IMAGE) if video else None
    with Results(options(show=True), {} if video else named("a"), VIDEO if video else ()) as sink:
        sink.add("photos/a", Path("a"), IMAGE, FACES, frame)
    np.testing.assert_array_equal(window[0], draw_detections(IMAGE, FACES))
    assert window[1] == milliseconds


@pytest.mark.parametrize("key", [27, ord("q")])
def test_escape_and_q_end(window: list[Any], key: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    with pytest.raises(Stopped), Results(options(show=True), named("a.png")) as sink:
        sink.add("photos/a.png", Path("a.png"), IMAGE, FACES)


@pytest.mark.parametrize("end", [KeyboardInterrupt, Stopped, RuntimeError])
def test_what_was_done_is_written_at_an_end_that_was_asked_for(end: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    with pytest.raises(end), Results(options(json=path), named("a.png", "b.png")) as sink:
        sink.add("photos/a.png", Path("a.png"), IMAGE, FACES)
        raise end
    assert path.exists() == (end is not RuntimeError)
    assert end is RuntimeError or json.loads(path.read_text()) == {"photos/a.png": FACES.to_list()}


def test_a_file_is_written_under_the_very_name(tmp_path: Path) -> None:
    for name in ("OUT.PNG", "out.bmp"):
        with Results(options(output=tmp_path / name), named("in.png")) as sink:
            sink.add("photos/in.png", Path("in.png"), IMAGE, FACES)
        np.testing.assert_array_equal(read_image(tmp_path / name), draw_detections(IMAGE, FACES))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_may_be_called_like_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "holiday.jpg"
    folder.mkdir()
    with Results(options(output=folder), named("a.png", "b.png")) as sink:
        for source, name in named("a.png", "b.png").items():
            sink.add(source, name, IMAGE, FACES)
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]


def test_a_format_that_is_only_read_becomes_png_beside_its_name(tmp_path: Path) -> None:
    names = named("one.gif", "two.TIF")
    with Results(options(output=tmp_path), names) as sink:
        for source, name in names.items():
            sink.add(source, name, IMAGE, FACES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.gif.png", "two.TIF"]


def test_two_images_do_not_fit_one_file_nor_two_documents_stdout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is one image, but there are 2 inputs: expected a folder"):
        Results(options(output=tmp_path / "o.png"), named("a.png", "b.png"))
    with pytest.raises(UsageError, match="--json and --jsonl are both stdout"):
        Results(options(json="-", jsonl="-"), named("a.png"))


def test_crops_keep_the_folders_of_their_images(tmp_path: Path) -> None:
    with Results(options(crops=tmp_path), named("sub/a.png")) as sink:
        sink.add("photos/sub/a.png", Path("sub/a.png"), IMAGE, FACES)
    assert read_image(tmp_path / "sub" / "a.png_0.png").shape == (112, 112, 3)


def test_frames_have_numbers_and_times(tmp_path: Path) -> None:
    chosen = options(source="v.mp4", json=tmp_path / "f.json", jsonl=tmp_path / "f.jsonl")
    with Results(chosen, {}, VIDEO) as sink:
        for frame in range(3):
            sink.add("v.mp4", Path("frame"), IMAGE, FACES, Frame(frame, frame / 30, IMAGE))
    faces = FACES.to_list()
    assert json.loads((tmp_path / "f.json").read_text()) == {f"v.mp4#{frame}": faces for frame in range(3)}
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert lines == [
        {"file": "v.mp4", "frame": frame, "time": time, "faces": faces}
        for frame, time in enumerate((0.0, 0.0333, 0.0667))
    ]


class Pipe:
    """Keeps what is written until it is flushed, as a pipe's buffer does."""

    def __init__(self) -> None:
        self.waiting = self.passed = ""

    def write(self, text: str) -> None:
        self.waiting += text

    def flush(self) -> None:
        self.waiting, self.passed = "", self.passed + self.waiting


def test_each_line_is_there_as_soon_as_its_image_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = {"file": "photos/a.png", "faces": FACES.to_list()}
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    with Results(options(jsonl="-"), named("a.png")) as sink:
        sink.add("photos/a.png", Path("a.png"), IMAGE, FACES)
        passed = pipe.passed
    assert json.loads(passed) == line
    with Results(options(jsonl=tmp_path / "f.jsonl"), named("a.png")) as sink:
        sink.add("photos/a.png", Path("a.png"), IMAGE, FACES)
        assert json.loads((tmp_path / "f.jsonl").read_text()) == line
