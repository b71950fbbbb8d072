"""Find faces in images, folders, videos and camera pictures.

    python -m tflite.detect PICTURE|FOLDER|'GLOB'|frame_%03d.jpg|VIDEO|CAMERA|URL|- … [--model M.tflite] [--output O]
        [--faces F [--format json|jsonl|coco|yolo|csv]] [--json F] [--jsonl F] [--crops DIR] [--track]

A camera is a number (0 is the first), a device such as /dev/video0, or picamera2; a URL is a stream (rtsp, http, …):
pictures are not fetched. - is one picture from stdin. What each thing was taken for is said. Pictures come first, then
the videos.

Prints a line per picture. Inputs that cannot be processed are listed at the end and make the exit code 1; the others
are processed all the same. A truncated picture counts as one that cannot be processed. A video that ends before its
announced length or is damaged, and a camera that is unplugged, give a warning and the exit code 1; what was found by
then is kept.

--json writes an object: file as given (for a frame: file#number) → list of faces by score descending, each
{"box": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y]×5]} in image pixels, score 0-1; landmarks are left eye, right
eye, nose, left and right mouth corner (left of the picture). --jsonl appends a line per image as it goes:
{"file": …, "faces": […]}, with "frame" and "time" in seconds for videos: of a file by its time stamps, of a camera by
the clock. --faces holds the same with named points and the size of each picture. F may be -, for stdout.

--mesh and --pose, of models with a mesh, add "mesh" ([[x, y, z]×468] in pixels; z away from the camera) and "pose"
(yaw, pitch, roll in degrees; positive: the nose to the right of the picture, up, the head clockwise).

--track adds "track", a number that a face keeps over frames. With --any_rotation, left is the left of the face seen
upright. No output may be an input or another output: that is checked before the first image. Ctrl-C, SIGTERM and SIGHUP
end it after the image at hand, with --json of those that were done; the exit code is then 130, 143 or 129.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tflite.command import start
from tflite.detect_options import DetectOptions
from tflite.detector import FaceDetector
from tflite.finder import load_detector, make_finder
from tflite.messages import Console, note
from tflite.outputs import UsageError, names_of_videos
from tflite.results import PipeClosed, Results, Stopped
from tflite.run import Reporter, Run
from tflite.settle import STDOUT, STDOUT_NAMES
from tflite.signals import Interrupted, Signals
from tflite.sources import Inputs, take

PIPE_CLOSED_CODE = 141  # 128 + SIGPIPE


def model_line(detector: FaceDetector) -> str:
    """Which model runs, and how."""
    spec, size = detector.spec, detector.input_size
    height, width = size if isinstance(size, tuple) else (spec.input_height, spec.input_width)
    return (
        f"{detector.name}: {spec.quantization} {width}×{height}, {detector.interpreter_name}, "
        f"{detector.num_threads} thread{'s' * (detector.num_threads != 1)}"
    )


def detect_files(options: DetectOptions) -> int:
    """The command; returns the exit code.

    Raises:
        UsageError: options that do not fit together, or outputs that would destroy a file.
        SpecError, ModelError: the model cannot be used.
        OSError: --json, --jsonl or --faces cannot be written.
    """
    if bool(options.source) == bool(options.images):
        raise UsageError(
            "expected image files, folders, patterns, videos or -, or else --source VIDEO (--help lists the flags)"
        )
    # By its own name stdout would be opened a second time, and one of the two would write over the other.
    json, jsonl, faces = (
        STDOUT if name in STDOUT_NAMES else name for name in (options.json, options.jsonl, options.faces)
    )
    options = replace(options, json=json, jsonl=jsonl, faces=faces)
    inputs = take(options.images, options.source)
    _check(options, inputs)
    if options.shard is not None:
        part, parts = options.shard
        inputs.pictures = inputs.pictures[part - 1 :: parts]
    code, failed, incomplete = 0, [], False  # type: int, list[str], bool
    if inputs.pictures or inputs.videos:
        with Signals() as signals:
            code, failed, incomplete = _run(options, inputs, signals)
    errors = inputs.errors + failed
    if errors:
        note(f"{len(errors)} input{'s' * (len(errors) != 1)} failed:")
        for line in errors:
            note(f"  {line}")
    return code or (1 if errors or incomplete else 0)


def _check(options: DetectOptions, inputs: Inputs) -> None:
    """Flags that do not fit what is to be processed."""
    if options.shard is not None and inputs.videos:
        raise UsageError("--shard splits pictures, and there are videos")
    if options.workers > 1:
        if options.num_threads not in (None, 1):
            raise UsageError("--workers have one thread each, expected no --num_threads")
        for flag in ("show", "track"):
            if getattr(options, flag):
                raise UsageError(f"--{flag} goes from picture to picture, expected no --workers")
        if any(str(path) == STDOUT for path, _ in inputs.pictures):
            raise UsageError("--workers read files, expected no - for stdin")


def _run(options: DetectOptions, inputs: Inputs, signals: Signals) -> tuple[int, list[str], bool]:
    """Exit code of an early end, else 0; a line for each input that failed; whether a video is incomplete."""
    console = Console()
    reporter = Reporter(console, options.quiet, STDOUT in (options.json, options.jsonl, options.faces))
    names = {str(path): name for path, name in inputs.pictures}
    results = Results(options, names, inputs.videos, console, reporter.tell)
    by_workers = options.workers > 1 and len(inputs.pictures) > 1
    detector = None
    if inputs.videos or not by_workers:
        detector = load_detector(options, options.num_threads)
        reporter.tell(model_line(detector))
        if options.quiet and options.delegate and " without " in detector.interpreter_name:
            reporter.warn(f"warning: {detector.interpreter_name}")
    for line in inputs.notes:
        reporter.tell(line)
    run = Run(options, results, signals, reporter)
    folders = names_of_videos(inputs.videos) if len(inputs.videos) > 1 or inputs.pictures else {}
    try:
        with results:
            if by_workers:
                run.images_by_workers(inputs.pictures)
            elif inputs.pictures and detector:
                run.images(inputs.pictures, make_finder(detector, options))
            for video in inputs.videos:
                assert detector is not None
                run.video(video, folders.get(video.name, Path()), make_finder(detector, options))
    except Stopped:
        return 0, run.errors, run.incomplete
    except PipeClosed:
        return PIPE_CLOSED_CODE, run.errors, run.incomplete
    except Interrupted as stop:
        total = f" of {len(inputs.pictures)} images" if not inputs.videos else " frames"
        note(f"{stop}: stopped after {run.done}{total}")
        return stop.exit_code, run.errors, run.incomplete
    return 0, run.errors, run.incomplete


if __name__ == "__main__":
    start(detect_files, DetectOptions)
