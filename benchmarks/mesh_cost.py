"""What dense faces cost: the network with and without its mesh branch, and decoding 1, 10 and 50 meshes with poses.

    python benchmarks/mesh_cost.py [--model M.tflite] [--plain P.tflite] [--runs 150] [--json F]

The two networks run in turns on one thread, by the process's CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from tqdm import tqdm

from tflite.command import option, start
from tflite.detector import FaceDetector
from tflite.mesh import MeshBasis, MeshOutputs
from tflite.messages import printable

COUNTS = (1, 10, 50)  # faces
QUANTILES = {"least": 0, "tenth": 10, "quarter": 25, "median": 50}  # in percent


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = option("fast_mesh_640", "model file with a mesh (.tflite), or the name of a shipped one")
    plain: str = option("fast_640", "the same without, whose time is 1")
    runs: int = option(150, "runs of each", low=1)
    json: Path | None = option(None, "file to write the figures to")


def cpu_ms(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, np.ndarray]:
    """CPU milliseconds [runs] of each call, in turns; the first ones are not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in tqdm(range(-3, runs), unit="run", leave=False, disable=None):
        for name, call in calls.items():
            before = time.process_time()
            call()
            if run >= 0:
                times[name].append(1000 * (time.process_time() - before))
    return {name: np.array(values) for name, values in times.items()}


def decoder(basis: MeshBasis, side: int, faces: int) -> Callable[[], object]:
    """Decodes that many meshes and poses out of int8 outputs of one level, at anchors and boxes drawn once."""
    random = np.random.default_rng(0)
    cells = side // 8
    values = random.integers(-128, 128, (1, cells, cells, 2 * basis.coefficients), np.int8)
    anchors = random.choice(cells * cells * 2, faces, replace=False)
    corners = random.uniform(0, side / 2, (faces, 2))
    boxes = np.hstack((corners, corners + random.uniform(24, side / 2, (faces, 2)))).astype(np.float32)
    reader = MeshOutputs(basis, {"mesh_8": values}, (8,), {"mesh_8": (0.02, 0)})
    return lambda: reader(anchors, boxes)


def run(options: Options) -> dict[str, Any]:
    """Measure, print the figures and return them.

    Raises:
        ValueError: a model has no mesh, or cannot be read.
    """
    own: dict[str, Any] = {"num_threads": 1, "input_size": None}
    with FaceDetector(options.model, **own) as dense, FaceDetector(options.plain, **own) as plain:
        if dense.basis is None:
            raise ValueError(f"{printable(options.model)}: the model has no mesh; expected one with a mesh branch")
        side = min(dense.spec.input_height, dense.spec.input_width)
        for detector in (dense, plain):
            detector.warm_up()
        networks = cpu_ms({"mesh": dense.invoke, "plain": plain.invoke}, options.runs)
        decoding = cpu_ms({str(n): decoder(dense.basis, side, n) for n in COUNTS}, options.runs)
        report: dict[str, Any] = {"model": options.model, "plain": options.plain, "runs": options.runs}
        report |= {"interpreter": dense.interpreter_name, "threads": 1}
    at = {
        name: np.percentile(networks["mesh"], q) / np.percentile(networks["plain"], q) for name, q in QUANTILES.items()
    }
    report["invoke_ratio"] = {name: round(float(value), 3) for name, value in at.items()}
    report["decode_ms"] = {count: round(float(np.median(values)), 3) for count, values in decoding.items()}
    print("invoke() ÷ without mesh: " + ", ".join(f"{name} {value:.3f}" for name, value in at.items()))
    print("decode, median: " + ", ".join(f"{value:.2f} ms for {n} faces" for n, value in report["decode_ms"].items()))
    return report


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
