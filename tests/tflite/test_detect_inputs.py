"""Pictures, videos and numbered frames in one call; tracks and held faces in a video's outputs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tflite.conftest import photo
from tests.tflite.videos import write_video
from tflite.detect import DetectOptions, detect_files
from tflite.images import read_image, write_image
from tflite.outputs import UsageError
from tflite.results import open_window
from tflite.video import Video
from tflite.video_out import VideoSink


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pictures_and_videos_in_one_call(folder: Path, stub: None, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "f_01.png", "f_02.png"):
        write_image(folder / name, photo(96, 96, ((20, 30, 32),)))
    for name, codec in (("v.mkv", "mp4v"), ("w.avi", "MJPG")):
        write_video(folder / name, codec, 6)
    (folder / "gone.mp4").write_bytes(b"no video")
    options = DetectOptions(
        ("v.mkv", "a.png", "f_%02d.png", "w.avi", "gone.mp4"), json="f.json", output="o", crops="c", every=2, track=True
    )
    assert detect_files(options) == 1
    printed = capfd.readouterr().err
    for text in (
        "f_%02d.png: a numbered name of 2 files",
        "v.mkv: a video file of 6 frames",
        "1 input failed:\n  gone.mp4",
    ):
        assert text in printed
    found = json.loads((folder / "f.json").read_text())
    pictures = ["a.png", "f_01.png", "f_02.png"]
    assert list(found) == [*pictures, *(f"{name}#{i}" for name in ("v.mkv", "w.avi") for i in (0, 2, 4))]
    assert all(faces[0]["track"] == 1 for faces in found.values())  # each video begins anew
    assert sorted(path.name for path in (folder / "o").iterdir()) == [*pictures, "v.mkv", "w.avi"]
    for name in ("v.mkv", "w.avi"):
        written = Video(str(folder / "o" / name))
        assert len(list(written)) == 3 and written.fps == pytest.approx(12.5, abs=0.1)
        assert (folder / "c" / name / "frame_000004_0.png").exists()


@pytest.mark.parametrize("mode", ["pixelate", "mosaic", "fill"])
def test_blur_modes(mode: str, folder: Path, stub: None) -> None:
    write_image(folder / "a.png", photo(96, 96, ((20, 30, 32),)))
    assert detect_files(DetectOptions(("a.png",), output="o.png", blur_mode=mode)) == 0
    inside = read_image(folder / "o.png")[20:52, 30:62]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) <= (1 if mode == "fill" else 36)


def test_a_codec_that_browsers_do_not_play_is_said(folder: Path) -> None:
    for name, plays in (("o.webm", True), ("o.avi", False)):
        said: list[str] = []
        sink = VideoSink(folder / name, name, 25.0, said.append)
        sink.write(photo())
        sink.close()
        assert len(list(Video(str(folder / name)))) == 1
        assert (said == []) == plays and all("browsers do not play" in line for line in said)


def test_a_video_keeps_its_length_where_frames_come_unevenly(folder: Path) -> None:
    """10 per second announced, 5 measured; the first take long, one comes at once after the other, one late."""
    sink = VideoSink(folder / "o.avi", "o.avi", 10.0)
    times = [0.0, 1.0, *(1.0 + 0.2 * i for i in range(1, 10)), 3.0, 3.01, 4.0]
    for seconds in times:
        sink.write(photo(), seconds)
    sink.close()
    capture = cv2.VideoCapture(str(folder / "o.avi"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 21 and sink.frames == len(times)


@pytest.mark.parametrize("headless", [True, False])
def test_show_says_what_mends_it(headless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("no window")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI:                           NONE" if headless else "QT")
    with pytest.raises(UsageError) as caught:
        open_window("w")
    if headless:
        assert "pip uninstall -y opencv-python-headless, then pip install opencv-python" in str(caught.value)
    else:
        assert str(caught.value) == "--show needs a display, and there is none"
