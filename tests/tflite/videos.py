"""Small video files with faults, made from whole ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

CONTAINERS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
Edit = Callable[[bytes, bytes], bytes]


def write_video(path: Path, codec: str, frames: int = 100, fps: float = 25.0) -> Path:
    """A textured picture of 160×120 that moves, with a bright square on it."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 150, (120, 160, 3), dtype=np.uint8), (0, 0), 1.0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (160, 120))
    for i in range(frames):
        image = np.roll(noise, 3 * i, 1)
        image[40:72, i : i + 32] = 230
        writer.write(image)
    writer.release()
    return path


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each box of an MP4 file."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def edited(data: bytes, edit: Edit) -> bytes:
    """The boxes with their bodies changed by `edit` (kind, body), sizes set anew."""
    parts = []
    for kind, body in boxes(data):
        new = edited(body, edit) if kind in NESTED else edit(kind, body)
        parts.append(struct.pack(">I", len(new) + 8) + kind + new)
    return b"".join(parts)


def with_index_first(data: bytes) -> bytes:
    """The MP4 with its moov before its mdat, as files for the web have it: a truncated one can be opened."""
    shift = next(len(body) for kind, body in boxes(data) if kind == b"moov") + 8

    def moved(kind: bytes, body: bytes) -> bytes:
        if kind != b"stco":
            return body
        count = struct.unpack_from(">I", body, 4)[0]
        offsets = struct.unpack_from(f">{count}I", body, 8)
        return body[:8] + struct.pack(f">{count}I", *(offset + shift for offset in offsets))

    parts = dict(boxes(edited(data, moved)))
    order = [kind for kind in parts if kind not in (b"moov", b"mdat")] + [b"moov", b"mdat"]
    return b"".join(struct.pack(">I", len(parts[kind]) + 8) + kind + parts[kind] for kind in order)


def with_slow_half(data: bytes, frames: int, slower: int) -> bytes:
    """The MP4 with the frames of its second half `slower` times as long; its moov comes last."""
    half = frames // 2

    def longer(kind: bytes, body: bytes) -> bytes:
        place = {b"mvhd": 16, b"mdhd": 16, b"tkhd": 20, b"elst": 8}.get(kind)
        if kind == b"stts":
            (step,) = struct.unpack_from(">I", body, 12)
            return body[:4] + struct.pack(">5I", 2, half, step, half, slower * step)
        if place is None:
            return body
        (duration,) = struct.unpack_from(">I", body, place)
        return body[:place] + struct.pack(">I", duration * (1 + slower) // 2) + body[place + 4 :]

    return edited(data, longer)
