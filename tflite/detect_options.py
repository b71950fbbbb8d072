"""The flags of the detect command."""

from __future__ import annotations

from dataclasses import dataclass

from tflite.blur import MODES
from tflite.command import option
from tflite.formats import FORMATS
from tflite.shapes import AUTO, InputSize, parse_input_size
from tflite.shipped import DEFAULT_NAME

AUTO_TILE = "auto"


def parse_tile(text: str) -> int | str:
    """Read --tile.

    Raises:
        ValueError: neither "auto" nor a number of at least 32; one line.
    """
    if text == AUTO_TILE:
        return text
    if text.isascii() and text.isdecimal() and len(text) < 7 and int(text) >= 32:
        return int(text)
    raise ValueError(f"--tile is {text!r}, expected auto or a number of pixels, at least 32")


def parse_shard(text: str) -> tuple[int, int]:
    """Read --shard I/N.

    Raises:
        ValueError: anything else than two numbers, 1 ≤ I ≤ N; one line.
    """
    part, slash, parts = text.partition("/")
    numbers = slash and all(one.isascii() and one.isdecimal() and len(one) < 10 for one in (part, parts))
    if numbers and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise ValueError(f"--shard is {text!r}, expected I/N such as 1/4, the first of four parts")


@dataclass(frozen=True)
class DetectOptions:
    """The command's flags."""

    images: tuple[str, ...] = option(
        (), "pictures, folders, patterns, videos, cameras, streams, or -", arguments="only"
    )
    model: str = option(DEFAULT_NAME, "model file (.tflite), or the name of a shipped one: fast_320, mnet025_640, …")
    input_size: InputSize = option(
        AUTO,
        "pixels of the network's input: auto (the model's own, or a side 3/4, 7/10 or 3/5 of it where the picture "
        "fits), HEIGHTxWIDTH of multiples of 32 from 64 to 1280, or own (the model's)",
        parse=parse_input_size,
    )
    source: str | None = option(
        None, "video file, camera (0 is the first; picamera2 on a Raspberry Pi) or stream, in place of images"
    )
    every: int = option(1, "of a video only each so many-th frame", low=1)
    fps: float | None = option(None, "of a video at most so many frames per second", low=0.001)
    output: str | None = option(
        None, "annotated image or video (a file, for one input) or folder (keeps names below a folder)"
    )
    json: str | None = option(None, "write the faces of all images to this JSON file, or - for stdout")
    jsonl: str | None = option(None, "append one JSON line per image to this file, or - for stdout")
    faces: str | None = option(
        None, "write the faces in --format to this file (yolo: folder), or - for stdout; points have names"
    )
    format: str | None = option(
        None, "of --faces; by its suffix where not given (jsonl and csv are appended to)", choices=FORMATS
    )
    crops: str | None = option(None, "folder for one aligned 112×112 PNG per face (ArcFace template)")
    mesh: bool = option(False, "draw each face's mesh, and write it to --json, --jsonl and --faces (json, jsonl)")
    pose: bool = option(False, "draw each head's axes, and write yaw, pitch and roll in degrees like --mesh")
    blur: bool = option(False, "make faces unrecognisable in --output instead of drawing boxes")
    blur_mode: str | None = option(
        None,
        "--blur by pixelate (6×6 cells over a face; where not given), mosaic (cells of a power of two of pixels, at "
        "least a sixth of the face, that stand still in a video), fill (grey)",
        choices=MODES,
    )
    show: bool = option(False, "show each image in a window; any key goes on, Esc or q ends")
    track: bool = option(False, "number faces over frames, in order of the pictures or of a video, and smooth them")
    hold: int = option(5, "frames for which --track blurs the place of a face that is missed", low=0, high=1000)
    tile: int | str | None = option(
        None,
        "also detect on overlapping tiles of this many pixels, or auto: small faces in large photos",
        parse=parse_tile,
    )
    any_rotation: bool = option(
        False,
        "detect on four turns of each picture, in four times the time; without it lying faces are often "
        "missed, and the points of faces on their heads are wrong",
    )
    score_threshold: float | None = option(
        None, "smallest probability of a face, 0-1 (the model's where not given)", low=0, high=1
    )
    iou_threshold: float | None = option(
        None, "overlap above which the weaker box goes, 0-1 (the model's where not given)", low=0, high=1
    )
    max_faces: int | None = option(None, "of each picture only so many, those of the highest score", low=1)
    min_size: float | None = option(None, "leave out faces whose shorter side has fewer pixels", low=0)
    num_threads: int | None = option(None, "CPU threads (one per core, at most 4, where not given)", low=1)
    workers: int = option(1, "processes of one thread each, for many pictures", low=1, high=256)
    shard: tuple[int, int] | None = option(
        None, "I/N: only every N-th picture from the I-th, 1 ≤ I ≤ N, for job arrays", parse=parse_shard
    )
    delegate: str | None = option(
        None, "shared library of an accelerator, PATH[:key=value…]; the CPU where it cannot be used"
    )
    quiet: bool = option(False, "print only warnings and errors, and what - asks for")
