from __future__ import annotations

import os
import sys

import pytest

from tflite import decoder_log
from tflite.decoder_log import DecoderLog, without_stderr

STDERR = 2


def test_complaints_are_taken_and_the_rest_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with DecoderLog() as log:
        assert log.complaint() is None
        os.write(STDERR, b"[mpeg4 @ 0x55d0c8] header dam")
        assert log.complaint() is None  # FFmpeg writes a line in parts
        os.write(STDERR, b"aged\nanother library\n[h264 @ 000001F2] gone\n")
        assert log.complaint() == "header damaged"
        assert log.complaint() is None
        os.write(STDERR, b"[mov,mp4 @ 0x1] partial file\n")
        print("of Python", file=sys.stderr)
    assert log.first == "header damaged"
    printed = capfd.readouterr().err
    assert "another library\n" in printed and "of Python\n" in printed and "@" not in printed


def test_it_stays_small(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(decoder_log, "MOST_HELD", 1000)
    with DecoderLog() as log:
        said = 0
        for _ in range(200):
            os.write(STDERR, b"[mpeg4 @ 0x55d0c8] header damaged\n")
            said += log.complaint() == "header damaged"
            assert os.fstat(STDERR).st_size <= 1100
        assert said > 180
    assert capfd.readouterr().err == ""


def test_nothing_is_seen_while_something_is_tried(capfd: pytest.CaptureFixture[str]) -> None:
    with without_stderr():
        os.write(STDERR, b"no such encoder\n")
    os.write(STDERR, b"seen\n")
    assert capfd.readouterr().err == "seen\n"
