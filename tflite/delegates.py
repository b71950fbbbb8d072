"""Delegates: shared libraries that run a network on an accelerator such as an EdgeTPU or a vendor's NPU."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from tflite.messages import one_line

ENTRY_POINTS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


def parse_delegate(text: str) -> tuple[str, dict[str, str]]:
    """PATH[:key=value…] → library and its options.

    Raises:
        ValueError: an option without =, or an empty path; one line.
    """
    # A path may hold colons: what follows one counts as an option where it has a =.
    path, *rest = text.split(":")
    while rest and "=" not in rest[0]:
        path += ":" + rest.pop(0)
    options = dict(part.split("=", 1) for part in rest if "=" in part)
    if not path or len(options) != len(rest):
        raise ValueError(f"delegate is {text!r}, expected PATH[:key=value…] with each key once")
    return path, options


def load_delegate(module: str, text: str) -> tuple[Any | None, str]:
    """The delegate for an interpreter of this module.

    Args:
        module: of the interpreter, e.g. "ai_edge_litert.interpreter".
        text: PATH[:key=value…].

    Returns:
        The delegate, or None with the reason why there is none.
    """
    path, options = parse_delegate(text)
    try:
        # First by itself: the interpreter's own loader leaves half an object behind, which complains when it goes.
        library = ctypes.CDLL(path)
        if missing := [name for name in ENTRY_POINTS if not hasattr(library, name)]:
            return None, f"the library has no {missing[0]}, expected a delegate"
        if module == "tensorflow.lite":
            load = importlib.import_module("tensorflow").lite.experimental.load_delegate
        else:
            load = importlib.import_module(module).load_delegate
        return load(path, options), ""
    except Exception as error:  # OSError, ValueError, RuntimeError, … depending on the library
        return None, one_line(error)
