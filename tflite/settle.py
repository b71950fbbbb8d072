"""Which file each result of the detect command goes to, checked before the first image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tflite.detect_options import DetectOptions
from tflite.files import free_name
from tflite.formats import BY_SUFFIX, FORMATS, YOLO, format_of, yolo_name
from tflite.images import WRITABLE
from tflite.messages import printable
from tflite.outputs import (
    OutputPlan,
    UsageError,
    annotated_names,
    check_file,
    check_folder,
    check_text_file,
    is_folder_name,
    names_of_videos,
)
from tflite.shipped import find_model
from tflite.sources import FILE, VideoSource
from tflite.video_out import VIDEO_SUFFIXES

STDOUT = "-"
STDOUT_NAMES = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass
class Targets:
    """Input as given → file for its result.

    Attributes:
        pictures: annotated pictures.
        videos: annotated videos.
        faces: name below the folder of --faces, where that is one.
        format: of --faces.
    """

    pictures: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    faces: dict[str, Path] = field(default_factory=dict)
    format: str | None = None


def settle_outputs(options: DetectOptions, names: dict[str, Path], videos: Sequence[VideoSource]) -> Targets:
    """Check every output.

    Args:
        names: picture → its name below output folders.

    Raises:
        UsageError: flags that do not fit together, an output that is an input or another output, or that cannot be
            written.
    """
    targets, plan = Targets(), OutputPlan()
    to_stdout = [flag for flag in ("json", "jsonl", "faces") if getattr(options, flag) == STDOUT]
    if len(to_stdout) > 1:
        raise UsageError(f"--{to_stdout[0]} and --{to_stdout[1]} are both stdout, expected one of them there")
    if (options.blur or options.blur_mode) and not (options.output or options.show):
        raise UsageError("--blur needs --output or --show: it changes the annotated images")
    if options.format and not options.faces:
        raise UsageError("--format is that of --faces, which is missing")
    model = find_model(options.model)
    plan.protect(model, f"the model {printable(model)}")
    for source in (*names, *(video.name for video in videos if video.kind == FILE)):
        if source != STDOUT:
            plan.protect(Path(source), f"the input {printable(source)}")
    for flag, value in (("--json", options.json), ("--jsonl", options.jsonl)):
        if value and value != STDOUT:
            check_text_file(flag, Path(value))
            plan.claim(Path(value), flag)
    if options.faces:
        _settle_faces(options, names, targets, plan)
    if options.output:
        _settle_annotated(options.output, names, videos, targets, plan)
    if options.crops:
        check_folder("--crops", Path(options.crops))
        plan.claim_crops(Path(options.crops), names)
    return targets


def _settle_faces(options: DetectOptions, names: dict[str, Path], targets: Targets, plan: OutputPlan) -> None:
    faces = options.faces or ""
    targets.format = format_of(faces, options.format)
    if targets.format is None:
        raise UsageError(
            f"--faces {printable(faces)}: expected --format {'|'.join(FORMATS)}, or a name in {' '.join(BY_SUFFIX)}"
        )
    if targets.format != YOLO:
        if faces != STDOUT:
            check_text_file("--faces", Path(faces))
            plan.claim(Path(faces), "--faces")
        return
    if faces == STDOUT:
        raise UsageError("--faces - cannot be yolo, which is a file per picture: expected a folder")
    check_folder("--faces", Path(faces))
    taken: set[Path] = set()
    numbers: dict[Path, int] = {}
    for source, name in names.items():
        targets.faces[source] = free_name(yolo_name(name), taken, numbers)
        plan.claim(Path(faces) / targets.faces[source], f"--faces of {printable(source)}")


def _settle_annotated(
    output: str, names: dict[str, Path], videos: Sequence[VideoSource], targets: Targets, plan: OutputPlan
) -> None:
    path = Path(output)
    shown, suffix = printable(output), path.suffix.lower()
    inputs = len(names) + len(videos)
    if inputs == 1 and videos and not path.is_dir():
        if suffix not in VIDEO_SUFFIXES:
            raise UsageError(f"--output {shown}: expected a video file ({' '.join(VIDEO_SUFFIXES)})")
        check_file("--output", path)
        plan.claim(path, "--output")
        targets.videos[videos[0].name] = path
        return
    if is_folder_name(output):
        check_folder("--output", path)
        targets.pictures = annotated_names(path, names, plan)
        for source, name in names_of_videos(videos).items():
            targets.videos[source] = path / name
            plan.claim(path / name, f"--output of {printable(source)}")
        return
    if path.exists() and suffix not in WRITABLE:
        raise UsageError(f"--output {shown} is a file, expected a folder or an image file")
    if inputs > 1:
        raise UsageError(f"--output {shown} is one image, but there are {inputs} inputs: expected a folder")
    if suffix not in WRITABLE:
        raise UsageError(
            f"--output {shown}: no picture is written as {printable(suffix)}, expected {' '.join(WRITABLE)}, "
            "or a folder: one that exists, or a name that ends in /"
        )
    check_file("--output", path)
    targets.pictures = annotated_names(path.parent, {source: Path(path.name) for source in names}, plan)
