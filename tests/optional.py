"""Packages that only some tests need (tests/optional.txt): these skip without them at home and fail in CI."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def missing(what: str) -> None:
    """Skip for the lack of it; fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this test: {what}")
    pytest.skip(what)


def needed(module: str) -> Any:
    """The imported module, one of those in tests/optional.txt."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing(f"{module} is not installed ({error})")
