"""The Kotlin tool chain for these tests: compiled once per session, never skipped in CI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "android_demo" / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

sys.path.insert(0, str(ROOT))

import toolchain  # noqa: E402  (found through the path set above)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder belongs to `make test-android`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.android)


@pytest.fixture(scope="session")
def tools() -> toolchain.Tools:
    """The JVM tools; without them the tests skip at home and fail in CI."""
    try:
        return toolchain.find_tools()
    except toolchain.ToolError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the JVM tests: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def jvm(tools: toolchain.Tools) -> toolchain.Jvm:
    """Core, unit tests and proof programs, compiled with warnings as errors."""
    return toolchain.compile_jvm(tools)


@pytest.fixture(scope="session")
def model(root: Path) -> Path:
    """The shipped int8 model."""
    found = sorted((root / "tflite" / "models").glob("*int8*.tflite"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("no int8 model in tflite/models")
        pytest.skip("no int8 model in tflite/models yet")
    return found[0]
