"""A video's times are true, and what is missing of it is said; nothing that was found is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tflite.stub import FakeCamera
from tests.tflite.videos import CONTAINERS, with_index_first, with_slow_half, write_video
from tflite.decoder_log import DecoderLog
from tflite.detect import DetectOptions, detect_files
from tflite.video import Pick, Video


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Suffix → a file of 100 frames; of MP4 with the index first, so that a part of it can be opened."""
    folder = tmp_path_factory.mktemp("whole")
    files = {suffix: write_video(folder / f"v{suffix}", codec).read_bytes() for suffix, codec in CONTAINERS.items()}
    return {**files, ".mp4": with_index_first(files[".mp4"])}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def detect(path: Path, capfd: pytest.CaptureFixture[str], **options: object) -> tuple[int, int, str]:
    """Exit code, number of lines of --jsonl, and what was printed on stderr."""
    jsonl = path.with_name("f.jsonl")
    code = detect_files(DetectOptions((str(path),), jsonl=str(jsonl), **options))  # type: ignore[arg-type]
    return code, len(lines(jsonl)) if jsonl.exists() else 0, capfd.readouterr().err


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("share", [0.15, 0.35, 0.5, 0.75, 0.95])
def test_a_truncated_video(
    suffix: str,
    share: float,
    whole: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stub: None,
) -> None:
    path = tmp_path / f"v{suffix}"
    path.write_bytes(whole[suffix][: int(share * len(whole[suffix]))])
    code, found, printed = detect(path, capfd)
    assert code == 1 and found == pytest.approx(100 * share, abs=8)
    (warning,) = [line for line in printed.splitlines() if line.startswith("warning: ")]
    assert f"v{suffix}: 100 frames announced, {found} read" in warning
    assert " @ 0x" not in printed


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_video_with_a_hole(
    suffix: str,
    share: float,
    whole: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stub: None,
) -> None:
    data, path = whole[suffix], tmp_path / f"v{suffix}"
    start, size = int(share * len(data)), len(data) // 25
    path.write_bytes(data[:start] + bytes(size) + data[start + size :])
    code, found, printed = detect(path, capfd)
    assert code == 1 and found >= 100 * share - 8
    assert sum(line.startswith("warning: ") for line in printed.splitlines()) == 1
    assert re.search(rf"100 frames announced, {found} read", printed) and " @ 0x" not in printed
    assert len(printed.splitlines()) <= 4


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_whole_video_gives_no_warning(
    suffix: str,
    whole: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stub: None,
) -> None:
    (tmp_path / f"v{suffix}").write_bytes(whole[suffix])
    code, found, printed = detect(tmp_path / f"v{suffix}", capfd)
    assert (code, found) == (0, 100) and "warning" not in printed
    assert f"v{suffix}: a video file of 100 frames, 25 frames/s" in printed


def test_times_are_those_of_the_container(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", "mp4v", 40)
    path.write_bytes(with_slow_half(path.read_bytes(), 40, 5))
    video = Video(str(path))
    with DecoderLog() as log:
        times = [frame.time for frame in video.pick(Pick(), log)]
    assert video.problem(log) is None
    expected = [0.04 * i if i < 20 else 0.8 + 0.2 * (i - 20) for i in range(40)]
    assert times == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(("every", "rate", "numbers"), [
    (7, None, list(range(0, 40, 7))),
    (1, 5.0, [0, 5, 10, 15, *range(20, 40)]),
    (1, 2.0, [0, 13, 21, 24, 26, 29, 31, 34, 36, 39]),
])  # fmt: skip
def test_each_so_many_th_frame_or_so_many_per_second(
    every: int, rate: float | None, numbers: list[int], tmp_path: Path
) -> None:
    """20 frames at 25 per second, then 20 at 5."""
    path = write_video(tmp_path / "v.mp4", "mp4v", 40)
    path.write_bytes(with_slow_half(path.read_bytes(), 40, 5))
    frames = list(Video(str(path)).pick(Pick(every, rate)))
    assert [frame.number for frame in frames] == numbers


def test_cases_of_users(shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], stub: None) -> None:
    cases = shared_data.parent / "cases"
    for name, read in (("trunc.avi", 50), ("trunc.mkv", 48), ("hole.mp4", 49)):
        jsonl = tmp_path / f"{name}.jsonl"
        assert detect_files(DetectOptions((str(cases / name),), jsonl=str(jsonl))) == 1
        assert len(lines(jsonl)) == read
        assert f"100 frames announced, {read} read" in capfd.readouterr().err
    jsonl = tmp_path / "vfr.jsonl"
    detect_files(DetectOptions((str(cases / "vfr.mp4"),), jsonl=str(jsonl)))
    assert lines(jsonl)[59]["time"] == pytest.approx(3.8, abs=0.001)


def test_a_cameras_times_are_the_clocks_and_unplugged_it_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    stub: None,
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    output, jsonl = tmp_path / "o.avi", tmp_path / "f.jsonl"
    assert detect_files(DetectOptions(("7",), jsonl=str(jsonl), output=str(output))) == 1
    printed = capfd.readouterr().err
    assert "7: the camera, 30 frames/s announced" in printed
    assert "warning: 7: the camera delivers no more frames, 12 were read" in printed
    found = lines(jsonl)
    numbers, times = [line["frame"] for line in found], [line["time"] for line in found]
    assert len(numbers) >= 4 and numbers == sorted(set(numbers)) and numbers[-1] == 11
    stamps = np.array(FakeCamera.stamps)
    assert times == pytest.approx(list((stamps - stamps[0])[numbers]), abs=0.1 * times[-1])
    monkeypatch.undo()
    written = cv2.VideoCapture(str(output))
    frames, fps = written.get(cv2.CAP_PROP_FRAME_COUNT), written.get(cv2.CAP_PROP_FPS)
    assert (frames - 1) / fps == pytest.approx(times[-1], rel=0.1) and fps < 10


def test_a_slow_caller_sees_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", type("Fast", (FakeCamera,), {"rate": 50.0, "frames": 1000}))
    start, numbers = time.monotonic(), []
    for frame in itertools.islice(Video("0").pick(Pick()), 4):
        numbers.append(frame.number)
        assert time.monotonic() - start - frame.time < 0.6
        time.sleep(0.3)
    assert numbers[-1] >= 15 and (np.diff(numbers) > 3).all()


def test_a_stream_over_http(tmp_path: Path, capfd: pytest.CaptureFixture[str], stub: None) -> None:
    """As network cameras send it: JPEGs without an end or a length."""
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 230, np.uint8))[1].tobytes()
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                for _ in range(10):
                    self.wfile.write(part)
                    time.sleep(0.1)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, jsonl = f"http://127.0.0.1:{server.server_port}/live", tmp_path / "f.jsonl"
        code = detect_files(DetectOptions((url,), jsonl=str(jsonl)))
        server.shutdown()
    printed = capfd.readouterr().err
    assert code == 1 and f"{url}: a stream, " in printed and "the stream delivers no more frames" in printed
    found = lines(jsonl)
    assert len(found) >= 2 and all(line["faces"] for line in found)
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)


CAMERA = """
import sys, cv2
from tests.tflite.stub import FakeCamera, StubDetector
FakeCamera.rate, FakeCamera.frames = 20.0, 100000
cv2.VideoCapture = FakeCamera
import tflite.detect
from tflite.command import start
tflite.detect.load_detector = lambda *_: StubDetector()
start(tflite.detect.detect_files, tflite.detect.DetectOptions)
"""


def test_a_running_camera_ended_by_a_signal_leaves_whole_files(root: Path, tmp_path: Path) -> None:
    output, jsonl = tmp_path / "o.mp4", tmp_path / "f.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", CAMERA, "0", "--output", output, "--jsonl", jsonl],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
    )
    for _ in range(600):
        if jsonl.exists() and jsonl.read_bytes().count(b"\n") >= 15:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 143 and b"Traceback" not in printed, printed
    found = lines(jsonl)
    assert len(found) >= 15
    video = Video(str(output))
    seconds, last = len(list(video)) / video.fps, found[-1]["time"]
    assert isinstance(last, float) and seconds == pytest.approx(last, rel=0.2, abs=0.3)


@pytest.mark.parametrize(("name", "message"), [
    ("http://host/a.jpg", "pictures are not fetched from the network"),
    ("gopher://host/v", "no known kind of stream"),
    ("/dev/video99", "cannot open the camera"),
])  # fmt: skip
def test_what_cannot_be_opened(name: str, message: str, capfd: pytest.CaptureFixture[str], stub: None) -> None:
    assert detect_files(DetectOptions((name,))) == 1
    printed = capfd.readouterr().err
    assert message in printed and "VIDEOIO" not in printed
