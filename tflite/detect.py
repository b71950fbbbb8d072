"""Find faces in images, folders, videos and camera pictures.

    python -m tflite.detect IMAGE|FOLDER|'GLOB'|- … [--model M.tflite] [--output O] [--json F] [--jsonl F] [--crops DIR]
    python -m tflite.detect --source VIDEO|CAMERA_NUMBER [--output O.mp4] [--jsonl F] …

Prints a line per image; - reads one image from stdin. Inputs that cannot be processed are listed at the end and make
the exit code 1; the others are processed all the same. A truncated image counts as one that cannot be processed.

--json writes an object: file as given (for a frame: file#number) → list of faces by score descending, each
{"box": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y]×5]} in image pixels, score 0-1; landmarks are left eye, right
eye, nose, left and right mouth corner (left of the picture). --jsonl writes a line per image as it goes:
{"file": …, "faces": […]}, with "frame" and "time" in seconds for videos. F may be -, for stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags
from tqdm import tqdm

from tflite.command import user_errors
from tflite.detector import FaceDetector
from tflite.images import ImageError, expand_inputs, read_image
from tflite.interpreter import ModelError
from tflite.postprocess import Detections
from tflite.results import Results, Stopped, UsageError
from tflite.tiling import detect_tiled
from tflite.video import Video

# The newest shipped model; the one place that names it.
DEFAULT_MODEL = Path(__file__).parent / "models" / "retinaface_fast_640_int8.tflite"

Find = Callable[[np.ndarray], Detections]


def define_flags() -> None:
    """Called by the command only: absl's flags are global, and an import must not claim their names."""
    text, number = flags.DEFINE_string, flags.DEFINE_integer
    text("model", str(DEFAULT_MODEL), "Model file (.tflite) written by quantization/convert.py.")
    text("source", None, "Video file, or number of a camera (0 is the first), in place of images.")
    text("output", None, "Annotated image or video (a file, for one input) or folder (keeps names below a folder).")
    text("json", None, "Write the faces of all images to this JSON file.")
    text("jsonl", None, "Write one JSON line per image to this file, or - for stdout.")
    text("crops", None, "Folder for one aligned 112×112 PNG per face (ArcFace template).")
    flags.DEFINE_bool("blur", False, "Make faces unrecognisable in --output instead of drawing boxes.")
    flags.DEFINE_bool("show", False, "Show each image in a window; any key goes on, Esc or q ends.")
    number("tile", None, "Also detect on overlapping tiles of this many pixels: small faces in large photos.", 32)
    flags.DEFINE_float("score_threshold", None, "Smallest probability of a face, 0-1 (default: the model's).", 0, 1)
    flags.DEFINE_float(
        "iou_threshold", None, "Overlap above which the weaker box goes, 0-1 (default: the model's).", 0, 1
    )
    number("num_threads", None, "CPU threads (default: one per core, at most 4).", 1)


def load_detector(model: str, num_threads: int | None) -> FaceDetector:
    """The detector the flags ask for; says which interpreter runs.

    Raises:
        SpecError, ModelError: the model cannot be used.
    """
    if model == str(DEFAULT_MODEL) and not DEFAULT_MODEL.exists():
        raise ModelError(f"{model}: no model is shipped here; expected --model M.tflite (quantization/convert.py)")
    detector = FaceDetector(model, num_threads)
    cv2.setNumThreads(detector.num_threads)
    spec = detector.spec
    print(
        f"{model}: {spec.quantization} {spec.input_width}×{spec.input_height}, {detector.interpreter_name}, "
        f"{detector.num_threads} thread{'s' * (detector.num_threads != 1)}",
        file=sys.stderr,
    )
    return detector


def read_input(path: Path) -> np.ndarray:
    return read_image(sys.stdin.buffer.read(), "stdin") if str(path) == "-" else read_image(path)


def read_ahead(paths: list[Path]) -> Iterator[Future[np.ndarray]]:
    """Read the next image while the caller detects on this one; a future raises what reading raised."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(read_input, paths[0])
        for path in paths[1:]:
            current, following = following, pool.submit(read_input, path)
            yield current
        yield following


def run_images(inputs: list[tuple[Path, Path]], find: Find, results: Results, say: Callable[[str], None]) -> list[str]:
    """Process image files; returns a line for each that failed."""
    errors = []
    progress = tqdm(total=len(inputs), unit="image", disable=None)  # None: on a terminal only
    start_all = time.monotonic()
    for (path, name), future in zip(inputs, read_ahead([path for path, _ in inputs]), strict=True):
        try:
            image = future.result()
            start = time.perf_counter()
            found = find(image)
            milliseconds = 1000 * (time.perf_counter() - start)
            results.add(str(path), Path("stdin.png") if str(path) == "-" else name, image, found)
        except ImageError as error:
            errors.append(str(error))
        except OSError as error:
            errors.append(f"{path}: cannot write its output ({error.filename}: {error.strerror})")
        else:
            best = f", best score {found.scores[0]:.3f}" if len(found) else ""
            say(f"{path}: {len(found)} face{'s' * (len(found) != 1)}{best} ({milliseconds:.1f} ms)")
        progress.update()
    progress.close()
    if len(inputs) > 1:
        rate = len(inputs) / (time.monotonic() - start_all)
        print(f"{len(inputs)} images, {rate:.1f} images/s with reading and writing", file=sys.stderr)
    return errors


def run_video(source: str, video: Video, find: Find, results: Results) -> None:
    """Process all frames; Ctrl-C ends a camera's stream like the end of a file."""
    progress = tqdm(total=video.frames or None, unit="frame", disable=None)
    start = time.monotonic()
    frames = faces = 0
    try:
        for number, frame in enumerate(video):
            found = find(frame)
            faces += len(found)
            results.add(source, Path(f"frame_{number:06d}"), frame, found, number)
            frames += 1
            progress.update()
    except KeyboardInterrupt:
        pass
    progress.close()
    if not frames:
        raise ImageError(f"{source}: not one frame can be decoded, expected a complete video")
    rate = frames / (time.monotonic() - start)
    print(f"{source}: {frames} frames, {faces} faces, {rate:.1f} frames/s", file=sys.stderr)


def run(arguments: list[str], options: flags.FlagValues) -> int:
    """The command; returns the exit code."""
    if bool(options.source) == bool(arguments):
        raise UsageError(
            "expected image files, folders, patterns or -, or else --source VIDEO (--help lists the flags)"
        )
    inputs, errors = expand_inputs(arguments)
    video = Video(options.source) if options.source else None
    if video or inputs:
        detector = load_detector(options.model, options.num_threads)
        with Results(options, len(inputs), video.fps if video else 0) as results:

            def find(image: np.ndarray) -> Detections:
                if options.tile:
                    return detect_tiled(detector, image, options.tile, options.score_threshold, options.iou_threshold)
                return detector.detect(image, options.score_threshold, options.iou_threshold)

            def say(line: str) -> None:
                tqdm.write(line, file=sys.stderr if "-" in (options.json, options.jsonl) else sys.stdout)

            try:
                if video:
                    run_video(options.source, video, find, results)
                else:
                    errors += run_images(inputs, find, results, say)
            except Stopped:
                pass
    if errors:
        print(f"{len(errors)} input{'s' * (len(errors) != 1)} failed:", file=sys.stderr)
        for line in errors:
            print(f"  {line}", file=sys.stderr)
    return 1 if errors else 0


def main(argv: list[str]) -> int:
    with user_errors():
        return run(argv[1:], flags.FLAGS)


if __name__ == "__main__":
    define_flags()
    app.run(main)
