"""Choice of the TFLite interpreter, and the model's tensors by signature name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from tflite.delegates import load_delegate, parse_delegate
from tflite.held_stderr import without_information
from tflite.messages import one_line, printable

# Fastest first: tflite-runtime 2.14 does not hand int8 graphs to XNNPACK. TensorFlow only if nothing lighter is there.
INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")


class ModelError(ValueError):
    """The model file cannot be run; the message is one line that names file, finding and expectation."""


def _installed(module: str) -> bool:
    package = module.partition(".")[0]
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module set to None in sys.modules
        return False


def _interpreter_class(module: str) -> Any:
    if module == "tensorflow.lite":
        return importlib.import_module(
            "tensorflow"
        ).lite.Interpreter  # tf loads `lite` lazily: no such module to import
    return importlib.import_module(module).Interpreter


def load_interpreter(
    model: bytes, num_threads: int, name: str = "model", delegate: str | None = None
) -> tuple[Any, str]:
    """An interpreter with its tensors allocated.

    Tries `INTERPRETERS` in order. An interpreter that is installed but fails to import or to load the model is passed
    over as well: tflite-runtime 2.14 imports under NumPy 2 and fails only on loading.

    Args:
        model: the .tflite file's bytes.
        num_threads: CPU threads, at least 1.
        name: what to call the model in errors.
        delegate: PATH[:key=value…] of a shared library to run the network with. Where it cannot be used, the CPU is.

    Returns:
        The interpreter, and its package's name with version, e.g. "ai_edge_litert 2.3.0"; with a delegate followed by
        " with PATH", or by " without PATH (reason)".

    Raises:
        ModelError: no interpreter is installed, or none loads this model; each one's reason is given.
    """
    reasons = []
    for module in INTERPRETERS:
        package = module.partition(".")[0]
        if not _installed(module):
            continue
        try:
            interpreter_class = _interpreter_class(module)
            if delegate is not None:
                interpreter, how = _with_delegate(interpreter_class, module, model, num_threads, delegate)
            else:
                interpreter, how = None, ""
            if interpreter is None:
                with without_information():  # LiteRT tells that it made its XNNPACK delegate
                    interpreter = interpreter_class(model_content=model, num_threads=num_threads)
                    interpreter.allocate_tensors()
        except Exception as error:  # ImportError, ValueError, RuntimeError, SystemError, … depending on what is wrong
            reasons.append(f"{package}: {one_line(error)}")
            continue
        return interpreter, f"{package} {_version(package)}{how}"
    if not reasons:
        raise ModelError("no TFLite interpreter is installed; expected ai-edge-litert: pip install ai-edge-litert")
    raise ModelError(f"{name}: no interpreter loads this model ({'; '.join(reasons)})")


def _with_delegate(
    interpreter_class: Any, module: str, model: bytes, num_threads: int, text: str
) -> tuple[Any | None, str]:
    """The interpreter with a delegate, None where it cannot be used; and what is to be said of that."""
    loaded, reason = load_delegate(module, text)
    path = parse_delegate(text)[0]
    if loaded is not None:
        try:
            with without_information():
                interpreter = interpreter_class(
                    model_content=model, num_threads=num_threads, experimental_delegates=[loaded]
                )
                interpreter.allocate_tensors()
            return interpreter, f" with {printable(path)}"
        except Exception as error:  # as in `load_interpreter`
            reason = one_line(error)
    return None, f" without {printable(path)} ({reason})"


def resize(interpreter: Any, index: int, shape: tuple[int, ...]) -> None:
    """Give an input tensor another shape, and allocate the others anew for it.

    Raises:
        RuntimeError, ValueError: an op refuses; the interpreter is then of no more use.
    """
    with without_information():
        interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()


def _version(package: str) -> str:
    own = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(own, str):
        return own
    # Not at the top: it takes 20 ms of a cold start, for an email parser.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "(unknown version)"


def tensor_details(interpreter: Any, name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Details of the one input and of all outputs, looked up in the one signature.

    Tensor order in a .tflite file is arbitrary; only the signature's names are reliable.

    Returns:
        (input details, output name → details); details hold `index`, `shape`, `dtype`, `quantization`.

    Raises:
        ModelError: not exactly one signature with one input `image`.
    """
    try:
        signatures = interpreter.get_signature_list()
        runner = interpreter.get_signature_runner(next(iter(signatures))) if len(signatures) == 1 else None
        inputs, outputs = (runner.get_input_details(), runner.get_output_details()) if runner else ({}, {})
    except Exception as error:  # a damaged model: RuntimeError, ValueError, UnicodeDecodeError, …
        raise ModelError(f"{name}: the model's signature cannot be read ({one_line(error)})") from error
    if len(signatures) != 1:
        raise ModelError(f"{name}: the model has {len(signatures)} signatures, expected 1 with the input 'image'")
    if set(inputs) != {"image"}:
        raise ModelError(f"{name}: the model's inputs are {sorted(inputs)}, expected 'image'")
    return inputs["image"], outputs
