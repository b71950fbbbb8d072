"""The Kotlin side without Gradle: find the tools of fetch_tools.sh, compile, run.

Results are kept in android_demo/.build under a name made from the sources, so that a second call compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
DEMO = ROOT / "android_demo"
PROOF = HERE.parent / "proof"
BUILD = DEMO / ".build"
DEBIAN_JARS = Path("/usr/share/java")
JVM_TARGET = "11"
Command = list[str | Path]
# CI machines have few cores and other work: a modest heap, and only the compiler that is quick itself, which suits
# programs of seconds.
JAVA_OPTIONS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
TEST_CLASSES = ("DecodeTest", "DetectorTest", "ImageTest", "MeshTest", "ModelSpecTest", "NmsTest")


class ToolError(RuntimeError):
    """A tool is missing or failed; the message says which and what it printed."""


@dataclass(frozen=True)
class Tools:
    """Paths of everything the JVM part needs."""

    java: str
    kotlinc: Path
    stdlib: Path
    ktlint: Path
    junit: tuple[Path, ...]
    jna: Path
    gson: Path


def cache_dir() -> Path:
    """Where fetch_tools.sh puts what is no Debian package."""
    default = Path.home() / ".cache" / "retinaface-keras" / "android"
    return Path(os.environ.get("RETINAFACE_ANDROID_CACHE", default))


def need(path: Path) -> Path:
    """`path`, which must exist.

    Raises:
        ToolError: it does not.
    """
    if not path.exists():
        raise ToolError(f"{path} is missing; run: bash tests/android/tools/fetch_tools.sh")
    return path


def need_command(name: str) -> str:
    """Full path of a command.

    Raises:
        ToolError: it is not installed.
    """
    found = shutil.which(name)
    if not found:
        raise ToolError(f"the command {name} is missing; run: bash tests/android/tools/fetch_tools.sh")
    return found


def find_tools() -> Tools:
    """The tools of the JVM part.

    Raises:
        ToolError: one is missing.
    """
    cache = cache_dir()
    return Tools(
        java=need_command("java"),
        kotlinc=need(cache / "kotlin" / "bin" / "kotlinc"),
        stdlib=need(cache / "kotlin" / "lib" / "kotlin-stdlib.jar"),
        ktlint=need(cache / "ktlint"),
        junit=(need(DEBIAN_JARS / "junit4.jar"), need(DEBIAN_JARS / "hamcrest.jar")),
        jna=need(DEBIAN_JARS / "jna.jar"),
        gson=need(cache / "gson.jar"),
    )


def run(command: Sequence[str | Path], cwd: Path = DEMO, timeout: float = 1800) -> str:
    """Run a command; its output.

    Raises:
        ToolError: it fails, or takes longer than `timeout` seconds; the message ends with what it printed.
    """
    environment = {**os.environ, "JAVA_OPTS": " ".join(JAVA_OPTIONS)}
    name = " ".join(map(str, command[:3]))
    # A session of its own: kotlinc is a shell script, and killing that alone would leave its JVM running.
    with subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output = "".join(process.communicate(timeout=timeout))
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise ToolError(f"{name} … took longer than {timeout:.0f} s") from error
    if process.returncode:
        raise ToolError(f"{name} … exited {process.returncode}:\n{output[-6000:]}")
    return output


def kotlin_files(*folders: str | Path) -> list[Path]:
    """All Kotlin sources under folders, sorted; those with relative paths are in android_demo."""
    return sorted(path for folder in folders for path in (DEMO / folder).rglob("*.kt"))


def fingerprint(files: Iterable[Path], *settings: object) -> str:
    """Changes when a file's name or contents or a setting changes."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def classpath(*jars: Path) -> str:
    """Joined for -cp."""
    return os.pathsep.join(map(str, jars))


def kotlinc(tools: Tools, sources: Sequence[Path], jars: Sequence[Path], out: Path, *options: str) -> None:
    """Compile with warnings as errors into the folder or jar `out`, complete or not at all.

    Raises:
        ToolError: the compiler's messages.
    """
    partial = out.with_name(f"partial-{out.name}")
    for old in (partial, out):
        if old.is_dir():
            shutil.rmtree(old)
    out.parent.mkdir(parents=True, exist_ok=True)
    command: Command = ["bash", tools.kotlinc, "-Werror", "-jvm-target", JVM_TARGET, "-no-reflect"]
    run([*command, *options, "-cp", classpath(*jars), "-d", partial, *sources])
    partial.rename(out)


@dataclass(frozen=True)
class Jvm:
    """The compiled core, its tests and the proof programs."""

    tools: Tools
    classes: Path

    def _java(
        self,
        *arguments: str | Path,
        jars: Sequence[Path] = (),
        timeout: float = 600,
        options: Sequence[str] = JAVA_OPTIONS,
    ) -> str:
        path = classpath(self.classes, self.tools.stdlib, self.tools.gson, *jars)
        return run([self.tools.java, *options, "-Djava.awt.headless=true", "-cp", path, *arguments], timeout=timeout)

    def unit_tests(self) -> str:
        """JUnit's output.

        Raises:
            ToolError: a test failed.
        """
        names = [f"org.retinaface.core.{name}" for name in TEST_CLASSES]
        return self._java("org.junit.runner.JUnitCore", *names, jars=self.tools.junit)

    def proof(self, command: str, *arguments: str | Path, timeout: float = 600) -> str:
        """Run a command of the proof program (Main.kt); what it printed.

        Raises:
            ToolError: it failed.
        """
        return self._java("org.retinaface.proof.MainKt", command, *arguments, jars=(self.tools.jna,), timeout=timeout)

    def speed(self) -> dict[str, float]:
        """Milliseconds by what takes them (Speed.kt), with both of the JVM's compilers.

        Raises:
            ToolError: it failed.
        """
        printed = self._java("org.retinaface.proof.MainKt", "speed", options=JAVA_OPTIONS[:2])
        return {words[0]: float(words[1]) for words in map(str.split, printed.splitlines())}


def compile_jvm(tools: Tools, core: str = "core/src") -> Jvm:
    """Compile core, its tests and the proof programs in one run of the compiler.

    Args:
        core: folder of the core's sources under android_demo; mutation.py gives a changed copy.

    Raises:
        ToolError: the compiler's messages.
    """
    sources = kotlin_files(core, PROOF)
    jars = (*tools.junit, tools.jna, tools.gson)
    classes = BUILD / f"jvm-{fingerprint(sources, tools.kotlinc, JVM_TARGET)}"
    if not classes.is_dir():
        kotlinc(tools, sources, jars, classes)
    return Jvm(tools, classes)


def ktlint(tools: Tools) -> str:
    """Lint every Kotlin source and Gradle script.

    Raises:
        ToolError: the findings.
    """
    patterns = ("android_demo/**/*.kt", "android_demo/**/*.kts", "tests/android/**/*.kt")
    settings = f"--editorconfig={DEMO / '.editorconfig'}"
    return run([tools.java, "-Xmx512m", "-jar", tools.ktlint, "--relative", settings, *patterns], cwd=ROOT)
