"""Fixtures shared by all packages' tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

import rf_keras  # noqa: F401  # TensorFlow's settings, before a test module imports TensorFlow: as in the commands

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """As `tflite.command.user_errors` does in the commands."""
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root: commands run from here."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The photos beside the clone; tests skip where there are none, and fail in CI, which always has them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the tests on real photos, but {folder} is missing")
        pytest.skip(f"no photos in {folder}: they are no part of the repository")
    return folder
