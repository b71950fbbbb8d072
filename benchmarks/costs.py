"""What a detector costs besides time per photo: start of a fresh process, memory, disk."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
RUNS_FOR_PEAK = 20

# Prints a line at the first faces, then the peak memory in MB after more runs.
FRESH = """
import sys, json, resource
from benchmarks import peers
from tflite.images import read_image
import cv2; cv2.setNumThreads(1)
peer = getattr(peers, sys.argv[1])(*json.loads(sys.argv[2]))
photo = peer.photo(read_image(sys.argv[3]))
peer.detect(photo, 0.5)
print("faces", flush=True)
for _ in range(int(sys.argv[4])):
    peer.detect(photo, 0.5)
try:  # Linux's ru_maxrss starts at the parent's size, and the parent holds all detectors
    status = open("/proc/self/status").read()
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)
"""


def fresh_process(opener: str, arguments: Sequence[str | int], photo: Path, runs: int) -> tuple[float, float]:
    """Start a detector of `benchmarks.peers` in processes of its own.

    Args:
        opener, arguments: the function that opens it, and what it is called with; paths absolute.
        photo: to detect in.
        runs: processes.

    Returns:
        Median ms from the start of the process (Python, imports, model, reading the photo) to the first faces, and the
        largest peak memory in MB (10⁶ bytes).

    Raises:
        RuntimeError: the process failed; one line.
    """
    starts, peaks = [], []
    for _ in range(runs):
        command = [sys.executable, "-c", FRESH, opener, json.dumps(arguments), str(photo.resolve()), str(RUNS_FOR_PEAK)]
        start = time.perf_counter()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert process.stdout is not None
            while process.stdout.readline() not in ("faces\n", ""):
                pass  # what a library prints
            starts.append(1000 * (time.perf_counter() - start))
            rest = process.communicate()[0].split()
            if process.returncode:
                errors.seek(0)
                last = (errors.read().strip().splitlines() or ["no message"])[-1]
                raise RuntimeError(f"{opener}: the fresh process ended with {process.returncode} ({last})")
        peaks.append(float(rest[-1]))
    return float(np.median(starts)), max(peaks)


def install_mb(packages: Sequence[str]) -> float | None:
    """Disk space in MB (10⁶ bytes) of installed packages and all they require, None if one of them is not installed.

    Requirements that are not installed are left out: opencv-python, for one, where the headless one stands in.
    """
    seen: set[str] = set()
    total = 0
    waiting = [canonicalize_name(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in map(canonicalize_name, packages):
                return None
            continue
        # Twice the same file: setuptools lists the data of an editable install that way.
        for path in {os.path.normpath(str(file.locate())) for file in package.files or ()}:
            if os.path.isfile(path):  # noqa: PTH113 (a Path for each of 20,000 files takes a second)
                total += os.path.getsize(path)  # noqa: PTH202
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return total / 1e6
