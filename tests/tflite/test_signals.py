from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tflite.signals import Interrupted, Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_work_is_finished_first(number: signal.Signals, code: int) -> None:
    done = False
    with pytest.raises(Interrupted) as caught, Signals() as signals:
        signals.check()
        os.kill(os.getpid(), number)
        done = True  # the signal is here already
        signals.check()
    assert done and caught.value.exit_code == code and str(caught.value) == number.name


def test_waiting_is_interrupted() -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    start = time.monotonic()
    with pytest.raises(Interrupted), Signals() as signals:
        signals.wait(lambda: time.sleep(20))
    assert time.monotonic() - start < 10


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(Interrupted), Signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("work went on")


@contextmanager
def not_interrupted() -> Iterator[None]:
    """Fails where pytest would take the interruption for its own."""
    try:
        yield
    except Interrupted as error:
        pytest.fail(f"interrupted by {error}")


def test_what_was_set_before_comes_back_and_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            with not_interrupted():
                signals.check()
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_that_python_does_not_know_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that embeds Python: `getsignal` has nothing that could be put back."""
    look, before = signal.getsignal, signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with Signals():
        assert look(signal.SIGHUP) == before


def test_in_another_thread_it_leaves_signals_alone() -> None:
    found = []

    def work() -> None:
        with Signals() as signals:
            found.append(signals.wait(lambda: signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
