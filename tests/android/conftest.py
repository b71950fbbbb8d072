"""The Kotlin tool chain for these tests: compiled once per session, never skipped in CI."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "android" / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

sys.path.insert(0, str(ROOT))

import apk  # noqa: E402  (found through the path set above, as is the next)
import toolchain  # noqa: E402


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
def apk_tools() -> apk.ApkTools:
    """What compiles the app and makes the APK; without it these tests skip at home and fail in CI."""
    try:
        return apk.find_apk_tools()
    except toolchain.ToolError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must build the app: {error}")
        pytest.skip(f"the app cannot be built here: {error}")


@pytest.fixture(scope="session")
def app(tools: toolchain.Tools, apk_tools: apk.ApkTools) -> apk.App:
    """Core and app, compiled against Android's own classes with warnings as errors."""
    return apk.compile_app(tools, apk_tools)


@pytest.fixture(scope="session")
def model() -> Path:
    """The model that Gradle would put into the app: the shipped int8 one."""
    properties = (toolchain.DEMO / "gradle.properties").read_text()
    named = re.search(r"^retinaface\.model=(.+)$", properties, re.MULTILINE)
    assert named, "android_demo/gradle.properties names no retinaface.model"
    path = (toolchain.DEMO / named[1]).resolve()
    if not path.is_file():
        message = f"android_demo/gradle.properties names {named[1]}, which is not there"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
