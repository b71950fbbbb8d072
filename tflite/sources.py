"""What an argument of the detect command is: pictures, a video file, a camera or a stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tflite.finding import VIDEO_INPUTS, Found, find_pictures
from tflite.heif import brands
from tflite.images import HEIF_SUFFIXES, IMAGE_SUFFIXES
from tflite.messages import printable

FILE, CAMERA, STREAM = "video file", "camera", "stream"
PICAMERA2 = "picamera2"
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "mms")
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.+")
CAMERA_DEVICE = re.compile(r"/dev/video\d+")
STDIN = "-"


class SourceError(ValueError):
    """The argument cannot be processed; the message is one line."""


@dataclass(frozen=True)
class VideoSource:
    """A video to open.

    Attributes:
        name: as given.
        kind: `FILE`, `CAMERA` or `STREAM`.
    """

    name: str
    kind: str


@dataclass
class Inputs:
    """What the command line names.

    Attributes:
        pictures: as `Found.pictures`; they come first.
        videos: in the order given.
        errors, notes: as `Found`.
    """

    pictures: list[tuple[Path, Path]] = field(default_factory=list)
    videos: list[VideoSource] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def video_source(text: str) -> VideoSource | None:
    """The camera, stream or video file that `text` names; None where it names pictures.

    A file is taken for what its suffix says, and one without a known suffix for what its first bytes say.

    Raises:
        SourceError: a URL of a picture, or of a scheme that is no stream's.
    """
    if url := URL.fullmatch(text):
        scheme, suffix = url[1].lower(), Path(urlsplit(text).path).suffix.lower()
        if suffix in (*IMAGE_SUFFIXES, *HEIF_SUFFIXES):
            raise SourceError(
                f"{printable(text)}: pictures are not fetched from the network, expected a file; streams are read"
            )
        if scheme not in STREAM_SCHEMES:
            raise SourceError(f"{printable(text)}: no known kind of stream, expected {', '.join(STREAM_SCHEMES)}")
        return VideoSource(text, STREAM)
    path = Path(text)
    if not path.is_file():
        is_camera = (text.isascii() and text.isdecimal()) or text == PICAMERA2 or CAMERA_DEVICE.fullmatch(text)
        return VideoSource(text, CAMERA) if is_camera and not path.is_dir() else None
    suffix = path.suffix.lower()
    if suffix in VIDEO_INPUTS or (suffix not in (*IMAGE_SUFFIXES, *HEIF_SUFFIXES) and _starts_as_video(path)):
        return VideoSource(text, FILE)
    return None


def _starts_as_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return not any(brand.startswith((b"avi", b"he", b"mif", b"msf")) for brand in brands(head))
    return head[:4] in (b"\x1a\x45\xdf\xa3", b"FLV\x01") or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def take(arguments: Sequence[str], source: str | None) -> Inputs:
    """Sort what the command line names.

    Args:
        arguments: files, folders, patterns, cameras, streams, or - for a picture from stdin.
        source: of --source: a video, a camera or a stream, whatever its name looks like.
    """
    inputs = Inputs()
    pictures: list[str] = []
    for argument in arguments:
        try:
            video = video_source(argument)
        except SourceError as error:
            inputs.errors.append(str(error))
            continue
        if video is None:
            pictures.append(argument)
        elif video not in inputs.videos:
            inputs.videos.append(video)
    found: Found = find_pictures(pictures)
    inputs.pictures = [(path, Path("stdin.png") if str(path) == STDIN else name) for path, name in found.pictures]
    inputs.errors += found.errors
    inputs.notes += found.notes
    if source is not None:
        try:
            video = video_source(source)
        except SourceError as error:
            inputs.errors.append(str(error))
        else:
            inputs.videos.append(video or VideoSource(source, FILE))
    return inputs
