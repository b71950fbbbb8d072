"""What an argument of the detect command is taken for."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tflite.conftest import photo
from tests.tflite.videos import write_video
from tflite.finding import find_pictures, images_below
from tflite.heif import formats_of
from tflite.images import ImageError, read_image
from tflite.sources import CAMERA, FILE, STREAM, SourceError, VideoSource, take, video_source
from tflite.video import Pick, Video


def jpeg(form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(64, 64)).save(buffer, form)
    return buffer.getvalue()


def test_a_folder_as_a_camera_left_it(tmp_path: Path) -> None:
    names = ["a.jfif", "b.jpe", "c.MPO", "sub/IMG_0001", "d.avif", "e.heic", "f.mp4", "g.txt", "h.txt", "notes"]
    skipped = ["._a.jpg", ".hidden/a.jpg", "__MACOSX/a.jpg", "sub/.thumbs/a.jpg"]
    for name in names + skipped:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"text" if name == "notes" else jpeg("AVIF" if name == "d.avif" else "JPEG"))
    found = find_pictures([str(tmp_path)])
    assert [str(name) for _, name in found.pictures] == ["a.jfif", "b.jpe", "c.MPO", "d.avif", "sub/IMG_0001"]
    assert all(read_image(path).shape == (64, 64, 3) for path, _ in found.pictures)
    (line,) = found.notes
    assert line.startswith(f"{tmp_path}: a folder with 5 pictures; passed over: 2 .txt, 1 ")
    for text in ("1 .heic", "1 .mp4", "1 without suffix", "pip install pillow-heif", "give videos by their own names"):
        assert text in line
    assert images_below(tmp_path / ".hidden", []) == [tmp_path / ".hidden" / "a.jpg"]  # asked for by its name


def test_many_other_suffixes_are_counted_together(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"a.x{i}").touch()
    (line,) = find_pictures([str(tmp_path)]).errors
    assert "no image in the folder (passed over: 1 .x" in line and ", 3 of other suffixes)" in line


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a\.heic: cannot decode \(a HEIC picture: pip install pillow-heif"):
        read_image(tmp_path / "a.heic")
    asked: list[bool] = []
    module = ModuleType("pillow_heif")
    module.register_heif_opener = lambda: asked.append(True)  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    assert formats_of(HEIC) == ("HEIF",) and asked
    assert images_below(tmp_path, []) == [tmp_path / "a.heic"]
    assert formats_of(jpeg()) == () and formats_of(jpeg("AVIF")) == ("AVIF",) and formats_of(b"") == ()


def test_numbered_names_come_by_number(tmp_path: Path) -> None:
    for name in ("frame_1000.jpg", "frame_002.jpg", "frame_01.jpg", "frame_010.jpg", "frame_x.jpg", "other_003.jpg"):
        (tmp_path / name).touch()
    found = find_pictures([str(tmp_path / "frame_%03d.jpg")])
    assert [path.name for path, _ in found.pictures] == ["frame_002.jpg", "frame_010.jpg", "frame_1000.jpg"]
    assert found.notes == [f"{tmp_path}/frame_%03d.jpg: a numbered name of 3 files"]
    assert "no file has such a name" in find_pictures([str(tmp_path / "none_%d.jpg")]).errors[0]
    assert "no file has such a name" in find_pictures([str(tmp_path / "none" / "a_%d.jpg")]).errors[0]
    (tmp_path / "100%d.jpg").touch()  # a file of that very name
    assert find_pictures([str(tmp_path / "100%d.jpg")]).pictures[0][0].name == "100%d.jpg"


def test_what_arguments_are_taken_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = write_video(tmp_path / "v.mp4", "mp4v", 2).read_bytes()
    for name, data in (("film", video), ("clip.dat", write_video(tmp_path / "v.mkv", "mp4v", 2).read_bytes())):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "1").write_bytes(jpeg())
    (tmp_path / "a.heic").write_bytes(HEIC)
    (tmp_path / "heic").write_bytes(HEIC)
    for text, kind in {
        "v.mp4": FILE,
        "film": FILE,
        "clip.dat": FILE,
        "0": CAMERA,
        "/dev/video0": CAMERA,
        "picamera2": CAMERA,
        "rtsp://user:x@host/s": STREAM,
        "http://host/live": STREAM,
        "https://host/v.mp4?a=b": STREAM,
    }.items():
        assert video_source(text) == VideoSource(text, kind)
    for text in ("1", "a.heic", "heic", "a.jpg", "-", ".", "*.mp4", "frame_%03d.jpg", "C:/a.jpg", "²"):
        assert video_source(text) is None
    for text in ("http://host/a.JPG?x=1", "https://host/a.heic", "ftp://host/v.mp4"):
        with pytest.raises(SourceError):
            video_source(text)
    inputs = take(["1", "v.mp4", "http://h/a.jpg", "0", "v.mp4"], None)
    assert [path.name for path, _ in inputs.pictures] == ["1"]
    assert [one.name for one in inputs.videos] == ["v.mp4", "0"] and len(inputs.errors) == 1
    assert take([], "a.jpg").videos == [VideoSource("a.jpg", FILE)]  # --source is a video, whatever its name


def test_picamera2_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(ImageError, match="apt install python3-picamera2"):
        Video("picamera2")
    calls: list[str] = []

    class Picamera2:
        def create_video_configuration(self, main: dict[str, object]) -> dict[str, object]:
            return main

        def configure(self, configuration: dict[str, object]) -> None:
            assert configuration["format"] == "RGB888"  # in memory B, G, R

        def capture_array(self, name: str) -> np.ndarray:
            if len(calls) > 3:
                raise RuntimeError("unplugged")
            calls.append(name)
            return np.dstack((photo(48, 64), np.zeros((48, 64), np.uint8)))

        def start(self) -> None: ...
        def stop(self) -> None: ...
        def close(self) -> None:
            calls.append("closed")

    module = ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    frames = list(Video("picamera2").pick(Pick()))
    assert frames and calls[-1] == "closed"
    np.testing.assert_array_equal(frames[0].image, photo(48, 64))


def test_a_device_is_opened_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Capture:
        def __init__(self, source: object) -> None:
            opened.append(source)

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    for name in ("3", "/dev/video7", "rtsp://host/s"):
        with pytest.raises(ImageError, match="cannot open the"):
            Video(name)
    assert opened == [3, 7, "rtsp://host/s"]
