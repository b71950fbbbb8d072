"""The app's own classes, run on fakes of Android and LiteRT; and its calls, checked against API 36.

What the fakes do not do, android.jar made mockable does: without `final`, and with methods that return 0 or null.
"""

from __future__ import annotations

import ast
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import apk
import pytest
import toolchain

TESTS = Path(__file__).resolve().parent
FAKES = TESTS / "fakes"


@dataclass(frozen=True)
class Runnable:
    """Class path on which the app runs here."""

    tools: toolchain.Tools
    path: str

    def unit_tests(self, model: Path) -> str:
        """JUnit's output.

        Raises:
            toolchain.ToolError: a test failed.
        """
        names = [f"org.retinaface.demo.{path.stem}" for path in sorted((TESTS / "app").glob("*Test.kt"))]
        options = [*toolchain.JAVA_OPTIONS, "-Djava.awt.headless=true", f"-Dmodel={model}"]
        return toolchain.run(
            [self.tools.java, *options, "-cp", self.path, "org.junit.runner.JUnitCore", *names], timeout=300
        )


@pytest.fixture(scope="session")
def runnable(tools: toolchain.Tools, apk_tools: apk.ApkTools, app: apk.App) -> Runnable:
    """Fakes and tests, compiled once per change."""
    mock = apk.platform_jar("mock")
    sources = sorted(FAKES.rglob("*.java"))
    fakes = toolchain.BUILD / f"fakes-{toolchain.fingerprint(sources, app.jar, mock)}"
    if not fakes.is_dir():
        partial = fakes.with_name(f"partial-{fakes.name}")
        jars = toolchain.classpath(mock, app.java)
        toolchain.run([apk_tools.javac, "-Xlint:-options", "-cp", jars, "-d", partial, *sources])
        partial.rename(fakes)
    kotlin = sorted((TESTS / "app").glob("*.kt"))
    jars = (fakes, app.jar, app.java, mock, *tools.junit)
    classes = toolchain.BUILD / f"app-tests-{toolchain.fingerprint(kotlin, *jars)}"
    if not classes.is_dir():
        toolchain.kotlinc(tools, kotlin, jars, classes, f"-Xfriend-paths={app.jar}")
    return Runnable(tools, toolchain.classpath(classes, *jars, tools.gson, tools.stdlib))


def test_the_app_runs(runnable: Runnable, model: Path) -> None:
    output = runnable.unit_tests(model)
    passed = re.search(r"OK \((\d+) tests\)", output)
    assert passed and int(passed[1]) >= 38, output


@dataclass(frozen=True)
class Call:
    """A use of a member of android.* ("" for the class alone) inside a method of the app."""

    owner: str
    member: str
    descriptor: str
    inside: str


@pytest.fixture(scope="session")
def calls(app: apk.App) -> list[Call]:
    return [Call(*line.split(" ")) for line in apk.platform("calls", app.jar).splitlines()]


class Api36:
    """Classes and members of API 36, from the Python stubs that Chaquopy makes of android.jar."""

    def __init__(self, wheel: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)
        self._files = set(self._archive.namelist())
        self._modules: dict[str, ast.Module] = {}

    def _module(self, package: str) -> ast.Module:
        if package not in self._modules:
            root, *rest = package.split(".")
            path = "/".join((f"{root}-stubs", *rest, "__init__.pyi"))
            self._modules[package] = ast.parse(self._archive.read(path) if path in self._files else b"")
        return self._modules[package]

    def find(self, name: str) -> ast.ClassDef | None:
        """The class "android/view/View$OnClickListener"."""
        package, _, classes = name.rpartition("/")
        body: list[ast.stmt] = self._module(package.replace("/", ".")).body
        found = None
        for part in classes.split("$"):
            found = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == part), None)
            if found is None:
                return None
            body = found.body
        return found

    def has(self, name: str, member: str) -> bool:
        """Whether a class or what it extends has the member; java.lang.Object's count."""
        node = self.find(name)
        if node is None:
            return name.startswith("java/")
        wanted = "__init__" if member == "<init>" else member
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == wanted:
                return True
            if isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == wanted:
                return True
            if isinstance(statement, ast.Assign) and wanted in [getattr(t, "id", "") for t in statement.targets]:
                return True
        return any(self.has(self._base(name, base), member) for base in node.bases)

    def _base(self, name: str, base: ast.expr) -> str:
        """Name of a superclass, which is written in full, or without the package that it shares."""
        text = ast.unparse(base).partition("[")[0]
        package = name.rpartition("/")[0]
        parts = text.split(".")
        first = next((i for i, part in enumerate(parts) if part[:1].isupper()), len(parts))
        folder = "/".join(parts[:first]) or package
        return f"{folder}/{'$'.join(parts[first:])}"


@pytest.fixture(scope="session")
def api36() -> Api36:
    try:
        return Api36(toolchain.need(toolchain.cache_dir() / "api36.whl"))
    except toolchain.ToolError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def newer_api() -> list[tuple[int, str, str]]:
    """(API level, class, member or "" for the class) of newer_api.txt, without constants that the compiler copies."""
    entries = []
    for line in (toolchain.HERE / "newer_api.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        level, owner, member, *rest = line.split(" ")
        kind = member in ("class", "interface")
        name = "" if kind else member.partition("(")[0]
        if kind or "(" in member or len(rest) == 1:
            entries.append((int(level), owner, name))
    return entries


def test_every_call_exists_in_api_36(calls: list[Call], api36: Api36) -> None:
    assert len(calls) > 200
    missing = [call for call in calls if api36.find(call.owner) is None]
    missing += [
        call for call in calls if call.member and call not in missing and not api36.has(call.owner, call.member)
    ]
    assert not missing
    assert not api36.has("android/media/ExifInterface", "noSuchMember")


def test_every_newer_api_exists_is_used_and_guarded(calls: list[Call], api36: Api36) -> None:
    """What came after the oldest Android that the app runs on stands in methods that ask which Android this is."""
    asking = {call.inside for call in calls if call.owner == "android/os/Build$VERSION" and call.member == "SDK_INT"}
    used = {(call.owner, call.member) for call in calls}
    for level, owner, member in newer_api():
        assert api36.find(owner) is not None and (not member or api36.has(owner, member)), (owner, member)
        if member and not owner.endswith("OnBackInvokedCallback"):
            assert (owner, member) in used, f"{owner} {member} is not called"
        if level > apk.MIN_SDK:
            places = {call.inside for call in calls if (call.owner, call.member) == (owner, member)}
            assert places <= asking, (owner, member, places - asking)
