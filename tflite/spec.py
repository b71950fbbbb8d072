"""`retinaface.json`: everything a runtime must know about a model file, zip-appended to the .tflite itself.

TFLite's associated-file convention: a zip archive after the flatbuffer leaves a valid model that also opens with
`zipfile`. The dataclass below is the format, its defaults the reference network's. Thresholds live here, nowhere else.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tflite.archives import MemberError, open_zip, read_member, with_member
from tflite.messages import one_line, printable, shortened

SPEC_FILE = "retinaface.json"
FILE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every .tflite file
FORMAT_VERSION = 1
MAX_SPEC_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 31  # a flatbuffer cannot be larger
LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # left = the left of the picture


class SpecError(ValueError):
    """The metadata is missing, malformed or contradicts itself; the message names file, finding and expectation."""


@dataclass(frozen=True)
class ModelSpec:
    """Contents of `retinaface.json`.

    Attributes:
        input_height, input_width: pixels, multiples of 32.
        color_order: channel order of the input, always "BGR".
        mean: per channel, in `color_order`, subtracted from 0-255 pixels; also the letterbox fill.
        strides: feature strides in pixels, finest first.
        anchor_sizes: anchor side lengths in pixels, per level.
        variances: (centre, size) factors of the box code.
        landmark_names: order of the five points.
        antialias: pictures at least twice as large as the input are halved before the letterbox (`preprocess.shrink`).
            Not written where false, so that such files are those of earlier exports.
        score_threshold: default confidence for use, in (0, 1).
        iou_threshold: NMS drops a box whose IoU with a kept one is greater.
        max_candidates, max_faces: NMS limits (boxes in, faces out).
        quantization: "fp32", "fp16", "dynamic", "int8-ptq", "int8-qat", or another kind a converter names.
        ap: measured AP per precision, e.g. {"float": {...}, "int8": {...}}; empty when unknown.
        source: where the weights come from.
        format_version: of this file.
    """

    input_height: int = 640
    input_width: int = 640
    color_order: str = "BGR"
    mean: tuple[float, ...] = (104.0, 117.0, 123.0)
    strides: tuple[int, ...] = (8, 16, 32)
    anchor_sizes: tuple[tuple[float, ...], ...] = ((16, 32), (64, 128), (256, 512))
    variances: tuple[float, ...] = (0.1, 0.2)
    landmark_names: tuple[str, ...] = LANDMARK_NAMES
    antialias: bool = False
    score_threshold: float = 0.5
    iou_threshold: float = 0.4
    max_candidates: int = 5000
    max_faces: int = 750
    quantization: str = "fp32"
    ap: dict[str, Any] = field(default_factory=dict)
    source: str = "unknown"
    format_version: int = FORMAT_VERSION


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)  # isfinite() overflows on whole numbers beyond 1e308


def _positive_int(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(_is_number, value))


def spec_from_json(text: str, name: str) -> ModelSpec:
    """Parse and validate `retinaface.json`.

    Args:
        text: the JSON document.
        name: file to name in errors.

    Raises:
        SpecError: not JSON, unknown or missing fields, or values out of range.
    """

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise SpecError(shortened(f"{name}: {SPEC_FILE}: {printable(what)}"))

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name}: {SPEC_FILE} is not valid JSON ({one_line(error)})") from error
    need(isinstance(data, dict), f"expected an object, found {type(data).__name__}")
    version = data.get("format_version")
    need(
        type(version) is int and version == FORMAT_VERSION,
        f"format_version is {version!r}, this runtime reads {FORMAT_VERSION}",
    )
    known = {f.name for f in fields(ModelSpec)}
    data.setdefault("antialias", False)
    need(set(data) == known, f"fields missing: {sorted(known - set(data))}, unknown: {sorted(set(data) - known)}")

    for side in ("input_height", "input_width"):
        ok = _positive_int(data[side], 8192) and data[side] % 32 == 0
        need(ok, f"{side} is {data[side]!r}, expected a multiple of 32 up to 8192")
    need(data["color_order"] == "BGR", f"color_order is {data['color_order']!r}, expected 'BGR'")
    mean = data["mean"]
    need(_numbers(mean, 3) and all(0 <= m <= 255 for m in mean), f"mean is {mean!r}, expected 3 numbers in 0-255")
    strides, sizes = data["strides"], data["anchor_sizes"]
    ok = isinstance(strides, list) and 0 < len(strides) <= 8 and all(_positive_int(s, 256) for s in strides)
    need(ok and sorted(set(strides)) == strides, f"strides are {strides!r}, expected increasing whole numbers")
    ok = isinstance(sizes, list) and len(sizes) == len(strides)
    ok = ok and all(isinstance(level, list) and 0 < len(level) <= 16 for level in sizes)
    ok = ok and all(_is_number(size) and 0 < size <= 8192 for level in sizes for size in level)
    need(ok, f"anchor_sizes are {sizes!r}, expected a list of sizes in pixels for each of {len(strides)} strides")
    ok = _numbers(data["variances"], 2) and all(0 < v <= 10 for v in data["variances"])
    need(ok, f"variances are {data['variances']!r}, expected 2 positive numbers")
    need(data["landmark_names"] == list(LANDMARK_NAMES), f"landmark_names are not {list(LANDMARK_NAMES)}")
    for key in ("score_threshold", "iou_threshold"):
        need(_is_number(data[key]) and 0 < data[key] < 1, f"{key} is {data[key]!r}, expected a number in (0, 1)")
    for key in ("max_candidates", "max_faces"):
        need(_positive_int(data[key], 1_000_000), f"{key} is {data[key]!r}, expected a positive whole number")
    need(isinstance(data["antialias"], bool), f"antialias is {data['antialias']!r}, expected true or false")
    need(isinstance(data["ap"], dict), f"ap is {data['ap']!r}, expected an object")
    for key in ("quantization", "source"):
        need(isinstance(data[key], str), f"{key} is {data[key]!r}, expected text")

    data["anchor_sizes"] = tuple(tuple(level) for level in sizes)
    for key in ("mean", "strides", "variances", "landmark_names"):
        data[key] = tuple(data[key])
    return ModelSpec(**data)


def spec_to_json(spec: ModelSpec) -> str:
    """The text of `retinaface.json`.

    Raises:
        SpecError: it would not be read back.
    """
    contents = asdict(spec)
    if not spec.antialias:
        del contents["antialias"]
    text = json.dumps(contents, indent=1, ensure_ascii=False)
    spec_from_json(text, "new model")
    return text


def attach_spec(model: bytes, spec: ModelSpec) -> bytes:
    """The .tflite flatbuffer `model` with `spec` appended as a zip archive (same input, same bytes).

    Raises:
        SpecError: `spec` would not be read back.
    """
    return with_member(model, SPEC_FILE, spec_to_json(spec))


def read_model(path: str | Path) -> bytes:
    """A model file's bytes.

    Raises:
        SpecError: missing, unreadable, no regular file (a pipe or a device has no end), or too large for a model.
    """
    name = printable(path)
    try:
        path = Path(path)
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise SpecError(f"{name}: not a regular file, expected a .tflite file")
        if found.st_size > MAX_MODEL_BYTES:
            raise SpecError(f"{name}: {found.st_size} bytes, expected a .tflite file of at most {MAX_MODEL_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{name}: cannot read the model ({error.strerror})") from error
    except SpecError:
        raise
    except ValueError as error:  # a NUL byte in the name
        raise SpecError(f"{name}: cannot read the model ({error})") from error


def read_spec(model: str | Path | bytes, name: str | None = None) -> ModelSpec:
    """Read the spec out of a .tflite file or its bytes.

    Args:
        model: path, or the file's contents.
        name: what to call it in errors; the path by default.

    Raises:
        SpecError: missing, truncated, not a TFLite model, or metadata absent or invalid.
    """
    name = name or ("model" if isinstance(model, bytes) else printable(model))
    if not isinstance(model, bytes):
        model = read_model(model)
    if model[4:8] != FILE_IDENTIFIER:
        raise SpecError(f"{name}: not a TFLite model ({len(model)} bytes, no TFL3 identifier at byte 4)")
    try:
        with open_zip(model) as archive:
            text = read_member(archive, SPEC_FILE, MAX_SPEC_BYTES).decode("utf-8")
    except MemberError as error:
        raise SpecError(f"{name}: {error}") from error
    except Exception as error:  # a damaged archive raises BadZipFile, KeyError, zlib.error, struct.error, ValueError, …
        raise SpecError(
            f"{name}: no readable {SPEC_FILE} in the file; export it with quantization/convert.py (or it is truncated)"
        ) from error
    return spec_from_json(text, name)
