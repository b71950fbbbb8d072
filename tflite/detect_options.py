"""The flags of the detect command."""

from __future__ import annotations

from dataclasses import dataclass

from tflite.command import option
from tflite.shapes import AUTO, InputSize, parse_input_size
from tflite.shipped import DEFAULT_NAME


@dataclass(frozen=True)
class DetectOptions:
    """The command's flags."""

    images: tuple[str, ...] = option((), "image files, folders, patterns, or - for stdin", arguments="only")
    model: str = option(DEFAULT_NAME, "model file (.tflite), or the name of a shipped one: fast_320, mnet025_640, …")
    input_size: InputSize = option(
        AUTO,
        "pixels of the network's input: auto (the least that holds the picture at the model's own scale), HEIGHTxWIDTH "
        "of multiples of 32 from 64 to 1280, or own (the model's)",
        parse=parse_input_size,
    )
    source: str | None = option(None, "video file, or number of a camera (0 is the first), in place of images")
    output: str | None = option(
        None, "annotated image or video (a file, for one input) or folder (keeps names below a folder)"
    )
    json: str | None = option(None, "write the faces of all images to this JSON file, or - for stdout")
    jsonl: str | None = option(None, "append one JSON line per image to this file, or - for stdout")
    crops: str | None = option(None, "folder for one aligned 112×112 PNG per face (ArcFace template)")
    blur: bool = option(False, "make faces unrecognisable in --output instead of drawing boxes")
    show: bool = option(False, "show each image in a window; any key goes on, Esc or q ends")
    tile: int | None = option(
        None, "also detect on overlapping tiles of this many pixels: small faces in large photos", low=32
    )
    score_threshold: float | None = option(
        None, "smallest probability of a face, 0-1 (the model's where not given)", low=0, high=1
    )
    iou_threshold: float | None = option(
        None, "overlap above which the weaker box goes, 0-1 (the model's where not given)", low=0, high=1
    )
    num_threads: int | None = option(None, "CPU threads (one per core, at most 4, where not given)", low=1)
