from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.images import ImageError
from tflite.video import Video
from tflite.video_out import VIDEO_SUFFIXES, VideoSink


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_what_is_written_is_read_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    sink = VideoSink(path, "v", 12.0)
    frames = [photo(squares=((32, 20 * i, 40),)) for i in range(4)]
    for frame in frames:
        sink.write(frame)
    sink.close()
    video = Video(str(path))
    assert video.fps == pytest.approx(12, abs=0.1)
    read = list(video)
    assert len(read) == 4
    for i, frame in enumerate(read):
        assert frame.shape == (128, 192, 3)
        assert frame[52, 20 * i + 20].min() > 180
        assert np.abs(frame.astype(int) - frames[i]).mean() < 20


def test_truncated_video_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 128))
    for _ in range(10):
        writer.write(photo())
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(list(Video(str(path)))) < 10


def test_a_sink_without_frames_writes_nothing(tmp_path: Path) -> None:
    VideoSink(tmp_path / "v.mp4", "v", 25.0).close()
    assert not list(tmp_path.iterdir())


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"a\.mp4: cannot open the video file"):
        Video(str(tmp_path / "a.mp4"))
    with pytest.raises(ImageError, match="expected a video file or the number of a camera"):
        Video(str(tmp_path / "b.mp4"))
