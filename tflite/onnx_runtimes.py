"""Files of `convert.py --onnx` in ONNX Runtime and in OpenVINO, to set beside a .tflite file; both are optional."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tflite.decode import Candidates, decode_outputs
from tflite.interpreter import ModelError
from tflite.messages import one_line, printable
from tflite.spec import SPEC_FILE, ModelSpec, SpecError, spec_from_json

# float32 [1, 3, H, W], BGR − mean → outputs by name, float32 [1, anchors · k, H/s, W/s]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def onnx_session(model: Path | bytes, threads: int) -> tuple[Any, str]:
    """An ONNX Runtime session of a file, or of its content, on the CPU, and the runtime's name with version.

    Raises:
        ModelError: ONNX Runtime is not installed or cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"ONNX Runtime is not installed ({one_line(error)})") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exception classes, all different
        name = "model" if isinstance(model, bytes) else printable(model)
        raise ModelError(f"{name}: ONNX Runtime cannot load the file ({one_line(error)})") from error
    return session, f"ONNX Runtime {onnxruntime.__version__}"


def onnx_spec(session: Any, path: Path) -> ModelSpec:
    """What the file says of itself.

    Raises:
        SpecError: metadata missing or invalid.
    """
    text = session.get_modelmeta().custom_metadata_map.get(SPEC_FILE)
    if text is None:
        raise SpecError(f"{printable(path)}: no {SPEC_FILE} in its metadata; export it with quantization/convert.py")
    return spec_from_json(text, printable(path))


def in_onnx_runtime(path: Path, threads: int) -> tuple[Run, str]:
    """The network, and the runtime's name. Raises as `onnx_session`."""
    session, runtime = onnx_session(path, threads)
    names = [output.name for output in session.get_outputs()]
    return lambda blob: dict(zip(names, session.run(names, {"image": blob}), strict=True)), runtime


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's `Core`, one for the whole process.

    Its CPU plugin gives the thread that first compiles a model another stack for signal handlers. When the last user
    of the plugin goes, that memory goes too, and the thread keeps it if it is another one that lets go: its next
    signal, Ctrl-C for instance, then ends the process without a word. So nothing here lets go.

    Raises:
        ModelError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ModelError(f"OpenVINO is not installed ({one_line(error)})") from error
    return openvino.Core()


def in_openvino(path: Path, threads: int) -> tuple[Run, str]:
    """The network, and the runtime's name.

    Raises:
        ModelError: OpenVINO is not installed or cannot load the file.
    """
    core = openvino_core()
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    try:
        request = core.compile_model(str(path), "CPU", settings).create_infer_request()
    except Exception as error:
        raise ModelError(f"{printable(path)}: OpenVINO cannot load the file ({one_line(error)})") from error
    names = [output.any_name for output in request.model_outputs]

    def run(blob: np.ndarray) -> dict[str, np.ndarray]:
        request.infer({"image": blob}, share_inputs=True, share_outputs=True)
        return {name: request.get_tensor(name).data for name in names}

    return run, f"OpenVINO {openvino.__version__.partition('-')[0]}"


def candidates(run: Run, blob: np.ndarray, anchors: np.ndarray, spec: ModelSpec, score_threshold: float) -> Candidates:
    """What NMS gets, in input pixels, for a network's input; `anchors` are those of its height and width."""
    outputs = {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) for name, value in run(blob).items()}
    return decode_outputs(outputs, anchors, spec, score_threshold)


RUNTIMES = (in_onnx_runtime, in_openvino)
