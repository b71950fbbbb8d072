"""What running a file elsewhere must not do to the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.optional import needed

THEN_A_SIGNAL = """
import gc, os, signal, sys, threading
from pathlib import Path
from tflite.onnx_runtimes import in_openvino
kept = [in_openvino(Path(sys.argv[1]), 1)]
def let_go():
    kept.clear()
    gc.collect()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda number, frame: print(number))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_openvino_is_gone(root: Path) -> None:
    """A `Core` of its own takes the stack for signal handlers of the main thread along when another thread lets go."""
    needed("openvino")
    model = root / "tflite" / "models" / "retinaface_fast_320_int8.tflite"  # OpenVINO reads these as well
    command = [sys.executable, "-c", THEN_A_SIGNAL, str(model)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, f"{int(signal.SIGTERM)}\n"), result.stderr[-2000:]
