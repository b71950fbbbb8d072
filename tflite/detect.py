"""Find faces in images.

    python -m tflite.detect IMAGE|FOLDER|'GLOB' … [--model M.tflite] [--output O] [--json F]

Prints a line per image. Files that cannot be processed are listed at the end and make the exit code 1; the others are
processed all the same.

--json writes an object: file as given → list of faces by score descending, each
{"box": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y]×5]} in image pixels, score 0-1; landmarks are left eye, right
eye, nose, left and right mouth corner (left of the picture).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
from absl import app, flags

from tflite.detector import FaceDetector
from tflite.draw import draw_detections
from tflite.files import expand_inputs, write_image, write_text
from tflite.preprocess import IMAGE_SUFFIXES, ImageError, read_image

# The newest shipped model; the one place that names it.
DEFAULT_MODEL = Path(__file__).parent / "models" / "retinaface_mnet025_640_int8.tflite"


def define_flags() -> None:
    """Called by the command only: absl's flags are global, and an import must not claim their names."""
    flags.DEFINE_string("model", str(DEFAULT_MODEL), "Model file (.tflite) written by quantization/convert.py.")
    flags.DEFINE_string(
        "output", None, "Annotated image (a file, for one input) or folder (for several; keeps names below a folder)."
    )
    flags.DEFINE_string("json", None, "Write the faces of all images to this JSON file.")
    flags.DEFINE_float("score_threshold", None, "Smallest probability of a face, 0-1 (default: the model's).", 0, 1)
    flags.DEFINE_float(
        "iou_threshold", None, "Overlap above which the weaker box goes, 0-1 (default: the model's).", 0, 1
    )
    flags.DEFINE_integer("num_threads", None, "CPU threads (default: one per core, at most 4).", lower_bound=1)


class Progress:
    """Images, rate and time left on one line of a terminal; silent elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.shown = total > 1 and sys.stderr.isatty()

    def step(self) -> None:
        self.done += 1
        if self.shown:
            rate = self.done / max(time.monotonic() - self.start, 1e-9)
            left = (self.total - self.done) / rate
            end = "\n" if self.done == self.total else ""
            text = f"\r{self.done}/{self.total} images, {rate:.1f} images/s, {left:.0f} s left\x1b[K{end}"
            print(text, end="", file=sys.stderr, flush=True)


def output_path(output: str | None, name: Path, count: int) -> Path | None:
    """Where the annotated image of the input called `name` goes."""
    if output is None:
        return None
    if Path(output).suffix.lower() not in IMAGE_SUFFIXES or Path(output).is_dir():
        return Path(output) / name
    if count > 1:
        raise ImageError(f"--output {output} is one image, but there are {count} inputs: expected a folder")
    return Path(output)


def run(arguments: list[str], options: flags.FlagValues) -> int:
    """The command; returns the exit code."""
    if not arguments:
        print("no input; expected image files, folders or patterns (--help lists the flags)", file=sys.stderr)
        return 2
    inputs, errors = expand_inputs(arguments)
    results: dict[str, list[dict[str, Any]]] = {}
    try:
        if inputs:
            output_path(options.output, inputs[0][1], len(inputs))
        detector = load_detector(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    progress = Progress(len(inputs))
    for path, name in inputs:
        try:
            image = read_image(path)
            start = time.perf_counter()
            faces = detector.detect(image, options.score_threshold, options.iou_threshold)
            milliseconds = 1000 * (time.perf_counter() - start)
            target = output_path(options.output, name, len(inputs))
            if target:
                write_image(target, draw_detections(image, faces))
        except ImageError as error:
            errors.append(str(error))
        except OSError as error:  # the output cannot be written
            errors.append(f"{error.filename or path}: {error.strerror}")
        else:
            results[str(path)] = faces.to_list()
            best = f", best score {faces.scores[0]:.3f}" if len(faces) else ""
            print(f"{path}: {len(faces)} face{'s' * (len(faces) != 1)}{best} ({milliseconds:.1f} ms)")
        progress.step()
    if options.json:
        write_text(Path(options.json), json.dumps(results, indent=1))
    if errors:
        print(f"{len(errors)} of {len(results) + len(errors)} inputs failed:", file=sys.stderr)
        for line in errors:
            print(f"  {line}", file=sys.stderr)
    return 1 if errors else 0


def load_detector(options: flags.FlagValues) -> FaceDetector:
    """The detector the flags ask for; says which interpreter runs."""
    if options.model == str(DEFAULT_MODEL) and not DEFAULT_MODEL.exists():
        raise ValueError(
            f"no model is shipped as {DEFAULT_MODEL}; pass --model M.tflite (quantization/convert.py writes one)"
        )
    detector = FaceDetector(options.model, options.num_threads)
    cv2.setNumThreads(detector.num_threads)
    spec = detector.spec
    print(
        f"{options.model}: {spec.quantization} {spec.input_width}×{spec.input_height}, {detector.interpreter_name}, "
        f"{detector.num_threads} thread{'s' * (detector.num_threads != 1)}",
        file=sys.stderr,
    )
    return detector


def main(argv: list[str]) -> int:
    return run(argv[1:], flags.FLAGS)


if __name__ == "__main__":
    define_flags()
    app.run(main)
