"""The Kotlin core on its own: it compiles without a warning, its unit tests pass, the linter has nothing to say."""

from __future__ import annotations

import re

import toolchain


def test_unit_tests_pass(jvm: toolchain.Jvm) -> None:
    output = jvm.unit_tests()
    passed = re.search(r"OK \((\d+) tests\)", output)
    assert passed and int(passed[1]) >= 63, output
    # A new test class must be named in the tool chain, or it would never run.
    found = {path.stem for path in (toolchain.DEMO / "core/src/test").rglob("*Test.kt")}
    assert found == set(toolchain.TEST_CLASSES)


def test_ktlint_finds_nothing(tools: toolchain.Tools) -> None:
    assert "error" not in toolchain.ktlint(tools)


def test_core_knows_no_android() -> None:
    """`core` must run on a plain JVM, and the app's rules must not creep into it."""
    for path in toolchain.kotlin_files("core/src/main"):
        imports = re.findall(r"^import (.+)$", path.read_text(), re.MULTILINE)
        allowed = ("com.google.gson.stream.", "java.io.", "java.nio.", "java.util.", "kotlin.")
        assert [name for name in imports if not name.startswith(allowed)] == [], path


def test_frames_and_turned_photos_are_quick(jvm: toolchain.Jvm) -> None:
    """Processor time: a 640×480 frame into the network's input, and 2048×1536 pixels turned. On two cores of a server
    1.9 and 8 ms; the bounds are what would be felt, as one object per pixel was."""
    milliseconds = jvm.speed()
    assert milliseconds["frame"] <= 3
    assert milliseconds["turn"] <= 15
