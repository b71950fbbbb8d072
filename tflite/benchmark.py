"""How long each stage takes: letterbox, table, invoke, decode, NMS; cold start and peak memory.

    python -m tflite.benchmark [--model M.tflite] [--onnx M.onnx] [--image I] [--threads 1,2] [--runs 100] [--json F]

Starts from a decoded image. Cold start is a fresh process: Python, imports, loading the model, first faces. The JSON
holds, for each stage S and for end_to_end, "S_ms": {threads: {"p50": ms, "p90": ms}}.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from tflite.command import option, start
from tflite.detector import STAGES, FaceDetector
from tflite.images import read_image
from tflite.interpreter import ModelError
from tflite.messages import printable
from tflite.onnx_runtimes import RUNTIMES
from tflite.outputs import OutputPlan, UsageError, check_text_file
from tflite.shapes import AUTO, InputSize, parse_input_size, size_text
from tflite.shipped import DEFAULT_NAME, find_model

END_TO_END = "end_to_end"
WARM_UP_RUNS = 5
COLD_STARTS = 5

# In a fresh process: prints ms of imports, loading, reading, first detection; after 20 more the peak memory in MB, and
# on Linux how much of the memory is anonymous. The rest are pages of files, mostly of libraries: how many of them count
# depends on what the kernel maps at once (97 and 130 MB for the same program on one day), and it may drop them again.
COLD_START = """
import time; start = time.perf_counter()
import sys, resource
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.shapes import parse_input_size
imported = time.perf_counter()
detector = FaceDetector(sys.argv[1], int(sys.argv[2]), parse_input_size(sys.argv[4]))
loaded = time.perf_counter()
if sys.argv[3]:
    image = read_image(sys.argv[3])
else:
    import numpy; image = numpy.full((480, 640, 3), 128, numpy.uint8)
ready = time.perf_counter()
detector.detect(image)
print(imported - start, loaded - imported, ready - loaded, time.perf_counter() - ready)
for _ in range(20):
    detector.detect(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)
if sys.platform == "linux":
    with open("/proc/self/status") as status:
        print(*(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("RssAnon")))
"""


@dataclass(frozen=True)
class BenchmarkOptions:
    """The command's flags."""

    model: str = option(DEFAULT_NAME, "model file (.tflite), or the name of a shipped one")
    image: str | None = option(None, "image to detect in (grey noise of 640×480, without faces, where not given)")
    input_size: InputSize = option(
        AUTO, "pixels of the network's input: auto, HEIGHTxWIDTH or own, as for tflite.detect", parse=parse_input_size
    )
    threads: tuple[int, ...] = option((1,), "numbers of interpreter threads to measure, e.g. 1,2,4", low=1, high=256)
    runs: int = option(100, "timed runs per number of threads", low=1)
    onnx: Path | None = option(
        None, "ONNX file to time beside it, network alone, in ONNX Runtime and OpenVINO where installed"
    )
    json: Path | None = option(None, "file to write the figures to")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    name = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": name or platform.machine(), "cores": cores, "python": platform.python_version()}


def measure_onnx(path: Path, shape: tuple[int, int], threads: tuple[int, ...], runs: int) -> list[dict[str, Any]]:
    """Time of an ONNX file's network alone, at an input of `shape` pixels, in each runtime: its name ("runtime") and
    "invoke_ms", or why it does not run ("skipped")."""
    blob = np.random.default_rng(0).normal(0, 60, (1, 3, *shape)).astype(np.float32)
    rows: list[dict[str, Any]] = []
    for open_network in RUNTIMES:
        row: dict[str, Any] = {"invoke_ms": {}}
        for count in threads:
            try:
                run, row["runtime"] = open_network(path, count)
            except ModelError as error:
                row = {"skipped": str(error)}
                break
            times = np.empty(runs)
            for i in range(-WARM_UP_RUNS, runs):
                start = time.perf_counter()
                run(blob)
                if i >= 0:
                    times[i] = 1000 * (time.perf_counter() - start)
            p50, p90 = np.percentile(times, (50, 90)).round(3).tolist()
            row["invoke_ms"][str(count)] = {"p50": p50, "p90": p90}
        rows.append(row)
    return rows


def measure_stages(detector: FaceDetector, image: np.ndarray, runs: int) -> dict[str, np.ndarray]:
    """Milliseconds [runs] of each stage of `STAGES` and of all together."""
    times = {stage: np.empty(runs) for stage in (*STAGES, END_TO_END)}
    for run in tqdm(range(-WARM_UP_RUNS, runs), unit="run", disable=None):  # None: on a terminal only
        start = time.perf_counter()
        seconds = detector.detect_timed(image)[1]
        seconds[END_TO_END] = time.perf_counter() - start
        if run >= 0:
            for stage, value in seconds.items():
                times[stage][run] = 1000 * value
    return times


def measure_cold_start(model: str, threads: int, image: str | None, input_size: InputSize = AUTO) -> dict[str, Any]:
    """A fresh process: median ms of the parts of its start (`cold_start_ms`), its peak memory and, on Linux, the part
    of its memory that is anonymous, not pages of files (`peak_memory_mb`, `anonymous_memory_mb`, MB of 10⁶ bytes)."""
    rows = []
    memory: list[list[float]] = []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        command = [sys.executable, "-c", COLD_START, model, str(threads), image or "", size_text(input_size)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        parts = [1000 * float(part) for part in process.stdout.readline().split()]
        total = 1000 * (time.perf_counter() - start)  # until the line with the first faces arrived
        rest, error = process.communicate()
        if process.returncode or len(parts) != 4:
            raise ModelError(f"{model}: the fresh process failed ({error.strip().splitlines()[-1:]})")
        rows.append([*parts, total])
        memory.append([float(part) for part in rest.split()])
    names = ("import", "load_model", "read_image", "first_detect", "process_to_faces")
    peak, *anonymous = np.max(memory, axis=0).round(1).tolist()
    return {
        "cold_start_ms": dict(zip(names, np.median(rows, axis=0).round(2).tolist(), strict=True)),
        "peak_memory_mb": peak,
        "anonymous_memory_mb": anonymous[0] if anonymous else None,
    }


def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """The command: prints the figures and returns them, JSON-ready.

    Raises:
        SpecError, ModelError: the model cannot be used.
        ImageError: the image cannot be read.
        UsageError: no number of threads, or --json would overwrite the model or the image.
    """
    if not options.threads:
        raise UsageError("--threads is empty, expected whole numbers such as 1,2,4")
    path = find_model(options.model)
    plan = OutputPlan()
    plan.protect(path, f"the model {printable(path)}")
    if options.onnx:
        plan.protect(options.onnx, f"the model {printable(options.onnx)}")
    if options.image:
        plan.protect(Path(options.image), f"the image {printable(options.image)}")
    if options.json and str(options.json) != "-":
        check_text_file("--json", options.json)
        plan.claim(options.json, "--json")
    if options.image:
        image = read_image(options.image)
    else:
        image = np.random.default_rng(0).integers(100, 156, (480, 640, 3), dtype=np.uint8)
    report: dict[str, Any] = {f"{stage}_ms": {} for stage in (*STAGES, END_TO_END)}
    for count in options.threads:
        with FaceDetector(path, count, options.input_size) as detector:
            cv2.setNumThreads(count)
            times = measure_stages(detector, image, options.runs)
            report["faces"] = len(detector.detect(image))
            report["interpreter"] = detector.interpreter_name
            report["input"] = list(detector.input_shape(*image.shape[:2]))
        for stage, values in times.items():
            p50, p90 = np.percentile(values, (50, 90)).round(3).tolist()
            report[f"{stage}_ms"][str(count)] = {"p50": p50, "p90": p90}
    if options.onnx:
        report["onnx"] = measure_onnx(
            options.onnx, (report["input"][0], report["input"][1]), options.threads, options.runs
        )
    report |= measure_cold_start(str(path), options.threads[0], options.image, options.input_size)
    report |= {
        "model": str(path),
        "model_bytes": path.stat().st_size,
        "image": list(image.shape[:2]),
        "runs": options.runs,
    }
    print(table(report))
    return report


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    threads = list(report["invoke_ms"])
    height, width = report["input"]
    lines = [
        f"{report['model']} ({report['model_bytes'] / 1e6:.2f} MB), {width}×{height}, {report['interpreter']}",
        f"image {report['image'][1]}×{report['image'][0]}, {report['faces']} faces, {report['runs']} runs; ms",
        "".join([f"{'threads':<12}", *(f"{count:>9} p50{'p90':>9}" for count in threads)]),
    ]
    for stage in (*STAGES, END_TO_END):
        cells = (report[f"{stage}_ms"][count] for count in threads)
        lines.append("".join([f"{stage:<12}", *(f"{c['p50']:>13.2f}{c['p90']:>9.2f}" for c in cells)]))
    ratios = (report["end_to_end_ms"][c]["p50"] / report["invoke_ms"][c]["p50"] for c in threads)
    lines.append("".join([f"{'÷ invoke':<12}", *(f"{ratio:>13.2f}{'':>9}" for ratio in ratios)]))
    for row in report.get("onnx", ()):
        name = row.get("runtime") or row["skipped"]
        cells = (row["invoke_ms"][c] for c in threads if "invoke_ms" in row)
        lines.append("".join([f"invoke, {name}", *(f"{c['p50']:>13.2f}{c['p90']:>9.2f}" for c in cells)]))
    parts = ", ".join(f"{name} {value:.0f}" for name, value in report["cold_start_ms"].items())
    memory = f"peak memory {report['peak_memory_mb']:.0f} MB"
    if report["anonymous_memory_mb"] is not None:
        memory += f", {report['anonymous_memory_mb']:.0f} MB of it not pages of files"
    lines.append(f"cold start, {threads[0]} thread(s), ms: {parts}; {memory}")
    return "\n".join(lines)


if __name__ == "__main__":
    start(benchmark, BenchmarkOptions)
