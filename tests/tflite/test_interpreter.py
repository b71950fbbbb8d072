from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from tflite import interpreter as module
from tflite.interpreter import ModelError, load_interpreter


def install(monkeypatch: pytest.MonkeyPatch, **classes: type | None) -> None:
    """Make exactly these interpreter packages importable, with these `Interpreter` classes."""
    for name in module.INTERPRETERS:
        package, _, leaf = name.partition(".")
        if package not in classes:
            monkeypatch.setitem(sys.modules, package, None)
            continue
        parent = types.ModuleType(package)
        parent.__spec__ = types.SimpleNamespace(name=package)  # type: ignore[assignment]
        child = types.SimpleNamespace(Interpreter=classes[package])
        setattr(parent, leaf, child)
        monkeypatch.setitem(sys.modules, package, parent)
        if classes[package] is None:
            monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
        else:
            monkeypatch.setitem(sys.modules, name, child)  # type: ignore[arg-type]


class Works:
    def __init__(self, model_content: bytes, num_threads: int) -> None:
        self.threads = num_threads

    def allocate_tensors(self) -> None:
        pass


class FailsToLoad(Works):
    """tflite-runtime 2.14 under NumPy 2: the import works, the load does not."""

    def __init__(self, model_content: bytes, num_threads: int) -> None:
        raise AttributeError("_ARRAY_API not found")


class FailsToAllocate(Works):
    def allocate_tensors(self) -> None:
        raise RuntimeError("Didn't find op for builtin opcode\n'CONV_2D' version '9'")


def test_litert_first(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ai_edge_litert=Works, tflite_runtime=FailsToLoad, tensorflow=FailsToLoad)
    found, name = load_interpreter(b"", 3)
    assert found.threads == 3
    assert name.startswith("ai_edge_litert ")


@pytest.mark.parametrize("broken", [None, FailsToLoad, FailsToAllocate])
def test_falls_through_on_import_and_load_errors(broken: type | None, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ai_edge_litert=broken, tflite_runtime=Works)
    assert load_interpreter(b"", 1)[1].startswith("tflite_runtime ")
    install(monkeypatch, ai_edge_litert=broken, tflite_runtime=broken, tensorflow=Works)
    assert load_interpreter(b"", 1)[1].startswith("tensorflow ")


def test_all_reasons_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ai_edge_litert=FailsToAllocate, tflite_runtime=FailsToLoad)
    with pytest.raises(ModelError) as caught:
        load_interpreter(b"", 1, "m.tflite")
    message = str(caught.value)
    assert message.startswith("m.tflite: no interpreter loads this model (ai_edge_litert: Didn't find op")
    assert "tflite_runtime: _ARRAY_API not found" in message
    assert "\n" not in message


def test_none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(ModelError, match="pip install ai-edge-litert"):
        load_interpreter(b"", 1)


def test_the_real_one_runs_the_model(model_dir: Path) -> None:
    interpreter, name = load_interpreter((model_dir / "int8.tflite").read_bytes(), 1)
    assert name.startswith("ai_edge_litert ")
    source, outputs = module.tensor_details(interpreter, "m")
    assert list(source["shape"]) == [1, 64, 96, 3]
    assert len(outputs) == 9
