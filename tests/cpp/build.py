"""Compiles C++ for the tests and runs it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "cpp_test"
COMPILERS = ("g++", "clang++")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-Icpp/include", "-Icpp/examples")
PICTURES = ("-ljpeg", "-lpng")
ORDERS = ("bgr", "rgb", "bgra", "rgba", "gray")
SECONDS = 600


def unavailable(reason: str) -> None:
    """Skip at home, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run the C++ tests: {reason}")
    pytest.skip(reason)


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        unavailable(f"{tool} is not installed")
    if not any(Path(folder, "jpeglib.h").exists() for folder in ("/usr/include", "/usr/local/include")):
        unavailable("libjpeg-turbo's headers are not installed (libjpeg-dev, libpng-dev)")


def litert() -> Path:
    """libLiteRt.so of the installed ai-edge-litert: C++ and Python then run the same kernels."""
    spec = importlib.util.find_spec("ai_edge_litert")
    assert spec and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "libLiteRt.so"


def run(command: Sequence[str | Path], **settings: str) -> subprocess.CompletedProcess[str]:
    """A command from the repository's root, never longer than `SECONDS`."""
    environment = {**os.environ, **settings}
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
    )


def compiled(compiler: str, source: str, *options: str, headers: Path = ROOT / "cpp", sanitize: bool = True) -> Path:
    """The program of one source file; warnings are errors. Kept until anything it is made of changes.

    Args:
        compiler: its name.
        source: path from the root.
        options: of the compiler, too; libraries among them.
        headers: a folder like cpp/, to compile other headers than the repository's.
        sanitize: with address and undefined-behaviour sanitizers, and some optimization.
    """
    flags = [flag.replace("cpp/", f"{headers}/") for flag in FLAGS]
    flags += ["-O1", "-g1", *SANITIZERS] if sanitize else ["-O0"]
    digest = hashlib.sha256(repr((compiler, flags, options)).encode())
    for path in [ROOT / source, *sorted(headers.rglob("*.h*"))]:
        digest.update(path.read_bytes())
    target = BUILD / f"{compiler}-{Path(source).stem}-{digest.hexdigest()[:16]}"
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        done = run([compiler, *flags, source, "-o", unfinished, *options])
        assert done.returncode == 0, done.stderr
        unfinished.replace(target)
    return target


class Driver:
    """tests/cpp/driver.cpp compiled."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def __call__(self, command: str, cases: Path, answers: Path) -> bytes:
        """Answers to a file of cases; a sanitizer's report is an error."""
        done = run([self.program, command, cases, answers])
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return answers.read_bytes()


InputCase = tuple[np.ndarray, str, tuple[int, int], tuple[float, ...], float, int, bool]


def write_input_cases(path: Path, cases: Sequence[InputCase]) -> None:
    """For the command `inputs`: (pixels, order, (height, width), mean, scale, zero point, antialias)."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(cases)))
        for pixels, order, shape, mean, scale, zero_point, antialias in cases:
            out.write(struct.pack("<iiidddfi", *shape, antialias, *mean, scale, zero_point))
            out.write(struct.pack("<iii", ORDERS.index(order), *pixels.shape[:2]))
            out.write(np.ascontiguousarray(pixels).tobytes())


def write_texts(path: Path, texts: Sequence[bytes]) -> None:
    """For the commands `metadata` and `pictures`: whole files, each with its length in front."""
    with path.open("wb") as out:
        out.write(struct.pack("<i", len(texts)))
        for text in texts:
            out.write(struct.pack("<i", len(text)) + text)
