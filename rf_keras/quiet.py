"""TensorFlow without the lines that its C++ part writes before ours.

Neither its logger nor TF_CPP_MIN_LOG_LEVEL stops them: they come before the log is set up, at the import and at the
first look for devices. So the import itself, wherever it happens first, holds stderr back (`tflite/held_stderr.py`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tflite.held_stderr import without_information

NO_GPU = b"failed call to cuInit"  # an error to TensorFlow, the rule on a machine without one


class _Quietly(MetaPathFinder):
    """Finds one module as Python does, and makes its loader's run quiet."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)  # once
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run: Any = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with without_information(NO_GPU):
                run(module)
                if hasattr(module, "config"):
                    module.config.get_visible_devices()  # looks for them now; starts none

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def load_quietly(name: str) -> None:
    """Let the first import of module `name` be quiet; nothing is imported here."""
    if name not in sys.modules:
        sys.meta_path.insert(0, _Quietly(name))
