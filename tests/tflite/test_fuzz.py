"""Damaged inputs; tests/tflite/fuzz.py runs longer campaigns by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def fuzz(root: Path, *arguments: str | Path) -> dict[str, int]:
    """In a process of its own: a crash of the process must fail the test, not the test run."""
    command = [sys.executable, "-m", "tests.tflite.fuzz", *map(str, arguments)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("kind", "count"), [("images", 10_000), ("metadata", 1_000)])
def test_an_error_or_a_result(kind: str, count: int, root: Path, model_dir: Path) -> None:
    outcomes = fuzz(root, kind, model_dir / "int8.tflite", count)
    assert set(outcomes) == {"error", "result"}
    assert sum(outcomes.values()) == count
    assert min(outcomes.values()) > count / 100  # neither all harmless nor all hopeless


def test_damaged_flatbuffers(root: Path, model_dir: Path) -> None:
    """Our code raises ModelError or SpecError only; what the interpreter does to a hostile model is its own affair."""
    outcomes = fuzz(root, "models", model_dir / "int8.tflite", 500)
    assert set(outcomes) <= {"error", "result", "interpreter crash", "timeout"}
    assert outcomes["error"] > 0
    assert outcomes["result"] > 0
