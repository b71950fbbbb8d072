"""Time of `invoke()` in Python, block by block, so that it can take turns with a browser.

    python tests/web/native_time.py MODEL

For each number on stdin, runs so many times and prints the CPU time of one in milliseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tflite.interpreter import load_interpreter


def main() -> None:
    interpreter, _ = load_interpreter(Path(sys.argv[1]).read_bytes(), 1, sys.argv[1])
    for line in sys.stdin:
        start = time.thread_time()
        for _ in range(int(line)):
            interpreter.invoke()
        print(1000 * (time.thread_time() - start) / int(line), flush=True)


if __name__ == "__main__":
    main()
