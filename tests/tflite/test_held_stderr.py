"""What is held back of stderr, and what is not."""

from __future__ import annotations

import os
import threading

import pytest

from tflite.held_stderr import STDERR, without_information


def write(text: bytes) -> None:
    """As a library in C++ writes, past Python's own stream."""
    os.write(STDERR, text)


def test_information_is_left_out_and_all_else_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with without_information(b"cuInit"):
        write(b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nE0000 failed call to cuInit\n")
        write(b"E0000 out of memory\nI0000 00:00 port.cc\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "E0000 out of memory\n"
    write(b"INFO: later\n")
    assert capfd.readouterr().err == "INFO: later\n"


def test_after_an_exception_only_mere_information_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), without_information(b"cuInit"):
        write(b"I0000 port.cc\nE0000 failed call to cuInit\n")
        raise RuntimeError
    assert capfd.readouterr().err == "E0000 failed call to cuInit\n"


def test_one_within_another_and_threads_beside(capfd: pytest.CaptureFixture[str]) -> None:
    def hold(number: int) -> None:
        for _ in range(20):
            with without_information(), without_information(b"noise"):
                write(b"noise\n")
                write(b"thread %d\n" % number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(capfd.readouterr().err.splitlines()) == [f"thread {n}" for n in range(3) for _ in range(20)]


def test_without_any_stderr() -> None:
    kept = os.dup(STDERR)
    os.close(STDERR)
    try:
        with without_information():
            pass
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
