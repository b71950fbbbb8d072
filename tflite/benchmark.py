"""How long each stage takes: letterbox, table, invoke, decode, NMS; cold start and peak memory.

    python -m tflite.benchmark --model M.tflite [--image I] [--threads 1,2] [--runs 100] [--json F]

Starts from a decoded image. Cold start is a fresh process: Python, imports, loading the model, first faces. The JSON
holds, for each stage S and for end_to_end, "S_ms": {threads: {"p50": ms, "p90": ms}}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import app, flags
from tqdm import tqdm

from tflite.command import flags_only, user_errors
from tflite.detector import FaceDetector
from tflite.files import write_text
from tflite.images import read_image
from tflite.interpreter import ModelError

STAGES = ("letterbox", "table", "invoke", "decode", "nms", "end_to_end")
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
imported = time.perf_counter()
detector = FaceDetector(sys.argv[1], int(sys.argv[2]))
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


def define_flags() -> None:
    """Called by the command only: absl's flags are global, and an import must not claim their names."""
    flags.DEFINE_string("model", None, "Model file (.tflite).", required=True)
    flags.DEFINE_string("image", None, "Image to detect in (default: grey noise of 640×480, without faces).")
    flags.DEFINE_list("threads", ["1"], "Numbers of interpreter threads to measure, e.g. 1,2,4.")
    flags.DEFINE_integer("runs", 100, "Timed runs per number of threads.", lower_bound=1)
    flags.DEFINE_string("json", None, "Write the figures to this JSON file.")


def measure_stages(detector: FaceDetector, image: np.ndarray, runs: int) -> dict[str, np.ndarray]:
    """Milliseconds [runs] of each stage of `STAGES`."""
    times = {stage: np.empty(runs) for stage in STAGES}
    progress = tqdm(range(-WARM_UP_RUNS, runs), unit="run", disable=None)  # None: on a terminal only
    for run in progress:
        start = last = time.perf_counter()
        laps: dict[str, float] = {}

        def mark(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            laps[stage] = now - last  # noqa: B023 (called in this turn of the loop only)
            last = now

        detector._run(image, None, None, mark)
        laps["end_to_end"] = time.perf_counter() - start
        if run >= 0:
            for stage, seconds in laps.items():
                times[stage][run] = 1000 * seconds
    return times


def measure_cold_start(model: str, threads: int, image: str | None) -> dict[str, Any]:
    """A fresh process: median ms of the parts of its start (`cold_start_ms`), its peak memory and, on Linux, the part
    of its memory that is anonymous, not pages of files (`peak_memory_mb`, `anonymous_memory_mb`, MB of 10⁶ bytes)."""
    rows = []
    memory: list[list[float]] = []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        command = [sys.executable, "-c", COLD_START, model, str(threads), image or ""]
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


def run(model: str, image_path: str | None, threads: list[int], runs: int) -> dict[str, Any]:
    """All figures, JSON-ready."""
    if image_path:
        image = read_image(image_path)
    else:
        image = np.random.default_rng(0).integers(100, 156, (480, 640, 3), dtype=np.uint8)
    report: dict[str, Any] = {f"{stage}_ms": {} for stage in STAGES}
    for count in threads:
        with FaceDetector(model, count) as detector:
            cv2.setNumThreads(count)
            times = measure_stages(detector, image, runs)
            report["faces"] = len(detector.detect(image))
            report["interpreter"] = detector.interpreter_name
            report["input"] = [detector.spec.input_height, detector.spec.input_width]
        for stage, values in times.items():
            p50, p90 = np.percentile(values, (50, 90)).round(3).tolist()
            report[f"{stage}_ms"][str(count)] = {"p50": p50, "p90": p90}
    report |= measure_cold_start(model, threads[0], image_path)
    report |= {"model": model, "model_bytes": Path(model).stat().st_size, "image": list(image.shape[:2]), "runs": runs}
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
    for stage in STAGES:
        cells = (report[f"{stage}_ms"][count] for count in threads)
        lines.append("".join([f"{stage:<12}", *(f"{c['p50']:>13.2f}{c['p90']:>9.2f}" for c in cells)]))
    ratios = (report["end_to_end_ms"][c]["p50"] / report["invoke_ms"][c]["p50"] for c in threads)
    lines.append("".join([f"{'÷ invoke':<12}", *(f"{ratio:>13.2f}{'':>9}" for ratio in ratios)]))
    parts = ", ".join(f"{name} {value:.0f}" for name, value in report["cold_start_ms"].items())
    memory = f"peak memory {report['peak_memory_mb']:.0f} MB"
    if report["anonymous_memory_mb"] is not None:
        memory += f", {report['anonymous_memory_mb']:.0f} MB of it not pages of files"
    lines.append(f"cold start, {threads[0]} thread(s), ms: {parts}; {memory}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    flags_only(argv)
    options = flags.FLAGS
    with user_errors():
        if not options.threads or not all(t.isdecimal() and 0 < int(t) <= 256 for t in options.threads):
            raise ValueError(f"--threads is {','.join(options.threads)!r}, expected whole numbers such as 1,2,4")
        report = run(options.model, options.image, [int(t) for t in options.threads], options.runs)
        print(table(report))
        if options.json:
            write_text(Path(options.json), json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
