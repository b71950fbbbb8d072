"""The first import of TensorFlow says nothing; nor is anything else changed about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rf_keras.quiet import load_quietly

NOISY = """import os
os.write(2, b"I0000 00:00:17 1 port.cc:153] oneDNN operations are on\\nE0000 failed call to cuInit\\nE0000 mine\\n")
answer = 42
"""


def test_a_noisy_module_is_imported_quietly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noisy_module.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    load_quietly("noisy_module")
    import noisy_module  # type: ignore[import-not-found]

    assert noisy_module.answer == 42 and noisy_module.__spec__.name == "noisy_module"
    assert capfd.readouterr().err == "E0000 mine\n"
    assert sys.meta_path == before
    load_quietly("noisy_module")
    assert sys.meta_path == before, "what is imported already stays"


def test_an_absent_module_is_missed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    load_quietly("no_such_module_here")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        import no_such_module_here  # type: ignore[import-not-found]  # noqa: F401


def test_a_command_with_tensorflow_writes_its_own_lines_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import rf_keras, tensorflow as tf; print(int(tf.constant(1) + 1))"]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "2\n" and done.stderr == ""
