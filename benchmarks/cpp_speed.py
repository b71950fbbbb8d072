"""The C++ program and library: cold start, and what comes around the network.

    python benchmarks/cpp_speed.py [--photos P …] [--model M.tflite] [--rounds 100] [--json F]

- Cold start: from the start of the process retinaface_detect to its JSON for one photo: dynamic linking, reading and
  checking the model, LiteRT's preparation, JPEG decoding, letterbox, first run, decode, NMS. Beside it a program that
  only loads the same model with LiteRT, gives it the same shape and runs it once (plain_litert.cpp).
- End to end ÷ network: retinaface_detect() of decoded pixels to retinaface_invoke(), one thread, taking turns; of each
  photo, and of its pixels at sizes that the letterbox treats differently.

Cold start is given by the clock and in processor time, the rest in processor time of the one thread: other work on the
machine disturbs that least. Needs CMake, a C++ compiler, libjpeg and libpng.
"""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import matplotlib
import numpy as np

from tflite.benchmark import machine
from tflite.command import option, start, write_json
from tflite.images import read_image
from tflite.shapes import auto_shape
from tflite.shipped import DEFAULT_MODEL
from tflite.spec import read_spec

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
SIZES = ((640, 640), (1024, 754), (1280, 960), (1920, 1080))  # (width, height): as is, scaled, halved, scaled


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    photos: tuple[str, ...] = option((), "JPEG or PNG file; several may follow", arguments="too")
    model: Path = option(DEFAULT_MODEL, "model file (.tflite)")
    rounds: int = option(100, "turns of each photo, and of each program", low=1)
    json: Path | None = option(None, "file to write the figures to")


class BuildError(ValueError):
    """What is measured cannot be built or run; one line."""


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run ({error.strerror})") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BuildError(f"{command[0]} failed ({lines[-1] if lines else 'no message'})")


def build(folder: Path) -> None:
    """retinaface_detect, libretinaface.so and plain_litert, as released.

    Raises:
        BuildError: a tool is missing or fails.
    """
    import ai_edge_litert

    library = Path(next(iter(ai_edge_litert.__path__))) / "libLiteRt.so"
    _run("cmake", "-S", "cpp", "-B", folder, f"-DLITERT_LIBRARY={library}", "-DCMAKE_BUILD_TYPE=Release")
    _run("cmake", "--build", folder)
    _run(
        *(os.environ.get("CXX", "c++"), "-std=c++17", "-O2", "-Icpp/include", "benchmarks/plain_litert.cpp"),
        *("-o", folder / "plain_litert", library, f"-Wl,-rpath,{library.parent}"),
    )


def _processor_time() -> float:
    """Seconds of the processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _first_line(command: Sequence[str | Path]) -> tuple[float, float]:
    """Milliseconds from the start of the process to its first line, and of the processor until its end."""
    used, begin = _processor_time(), time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        passed = 1000 * (time.perf_counter() - begin)
        process.stdout.read()
    if process.returncode or not line:
        raise BuildError(f"{Path(command[0]).name} ended with {process.returncode}")
    return passed, 1000 * (_processor_time() - used)


def _figures(times: Sequence[float]) -> dict[str, float]:
    return {"least": min(times), "p50": statistics.median(times)}


def cold_starts(folder: Path, model: Path, photo: Path, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of the program, and of LiteRT alone, by the clock and of the processor."""
    spec, image = read_spec(model), read_image(photo)
    shape = auto_shape(image.shape[0], image.shape[1], spec.input_height, spec.input_width)
    commands: dict[str, list[str | Path]] = {
        "retinaface_detect": [folder / "retinaface_detect", "--model", model, photo],
        "LiteRT alone": [folder / "plain_litert", model, *map(str, shape)],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(_first_line(command))
    return {
        name: {"clock": _figures([clock for clock, _ in row]), "processor": _figures([used for _, used in row])}
        for name, row in times.items()
    }


def end_to_end(folder: Path, model: Path, pictures: dict[str, np.ndarray], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of the library's detection, and of the network alone, by picture (uint8 BGR)."""
    library = ctypes.CDLL(str(folder / "libretinaface.so"))
    library.retinaface_open.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(200)
    detector = library.retinaface_open(str(model).encode(), 1, error, ctypes.c_size_t(200))
    if not detector:
        raise BuildError(error.value.decode(errors="replace"))
    faces = ctypes.create_string_buffer(100 * 15 * 4)  # box, score, points: 15 float32 each
    rows = []
    for name, image in pictures.items():
        pixels = np.ascontiguousarray(image)
        arguments = (
            *(ctypes.c_void_p(detector), pixels.ctypes.data_as(ctypes.c_void_p), pixels.shape[1], pixels.shape[0]),
            *(ctypes.c_ssize_t(pixels.strides[0]), 0, ctypes.c_double(-1), faces, 100, error, ctypes.c_size_t(200)),
        )
        whole, network = [], []
        for turn in range(-3, rounds):  # the first ones warm up
            begin = time.thread_time()
            found = library.retinaface_detect(*arguments)
            middle = time.thread_time()
            library.retinaface_invoke(ctypes.c_void_p(detector), error, ctypes.c_size_t(200))
            end = time.thread_time()
            if found < 0:
                raise BuildError(error.value.decode(errors="replace"))
            if turn >= 0:
                whole.append(1000 * (middle - begin))
                network.append(1000 * (end - middle))
        ratio = statistics.median(a / b for a, b in zip(whole, network, strict=True))
        rows.append({"picture": name, "end_to_end_ms": _figures(whole), "invoke_ms": _figures(network), "ratio": ratio})
    library.retinaface_close(ctypes.c_void_p(detector))
    return rows


def run(options: Options) -> dict[str, Any]:
    """Build, measure and print.

    Raises:
        BuildError: what is measured cannot be built or run.
    """
    photos = [Path(photo) for photo in options.photos] or [PORTRAIT]
    pictures = {photo.name: read_image(photo) for photo in photos}
    first = next(iter(pictures.values()))
    pictures |= {f"{width}×{height}": cv2.resize(first, (width, height)) for width, height in SIZES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        report: dict[str, Any] = {
            "machine": machine(),
            "model": options.model.name,
            "cold_start_ms": cold_starts(folder, options.model.resolve(), photos[0].resolve(), options.rounds),
            "end_to_end": end_to_end(folder, options.model.resolve(), pictures, options.rounds),
        }
    print(f"cold start to the faces of {photos[0].name}, ms: least / median")
    for what, row in report["cold_start_ms"].items():
        parts = [f"{kind} {row[kind]['least']:6.1f} /{row[kind]['p50']:6.1f}" for kind in ("clock", "processor")]
        print(f"    {what:<20} {'   '.join(parts)}")
    print("one thread, ms of the processor: least / median")
    for row in report["end_to_end"]:
        times = [f"{row[key]['least']:6.2f} /{row[key]['p50']:6.2f}" for key in ("end_to_end_ms", "invoke_ms")]
        print(f"    {row['picture']:<20} end to end {times[0]}   network {times[1]}   ÷ {row['ratio']:.3f}")
    if options.json:
        write_json(options.json, report)
    return report


if __name__ == "__main__":
    start(run, Options)
