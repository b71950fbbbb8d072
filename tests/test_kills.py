"""`python -m tests.kills` in its short form: commands that are killed lose nothing and go on to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_commands_lose_nothing(root: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.kills", "--short"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "4 kills and 0 damaged checkpoints" in done.stdout and "nothing lost" in done.stdout
