"""Damaged images, metadata and models, against the promise: a clear error or a result, never anything else.

    python -m tests.tflite.fuzz images|metadata|models MODEL COUNT [SEED]

Prints a JSON object: how many ended as "result" or "error", and for models also as "interpreter crash" or "timeout".
Exits with a traceback on any other outcome. Models run in a forked process each, because an interpreter may crash on a
damaged one (LiteRT 2.3.0 did not in 2,000).
"""

from __future__ import annotations

import collections
import io
import json
import math
import os
import random
import resource
import signal
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tflite.conftest import photo
from tflite.detector import FaceDetector
from tflite.images import ImageError, read_image
from tflite.interpreter import ModelError
from tflite.spec import SPEC_FILE, SpecError

SECONDS_PER_MODEL = 20


def mutate(data: bytes, chance: random.Random, start: int = 0) -> bytes:
    """Some bytes changed, cut, doubled or moved, from `start` on."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        i = chance.randrange(start, max(len(damaged), start + 1))
        kind = chance.randrange(6)
        if kind <= 1 and i < len(damaged):
            damaged[i] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 2 and i < len(damaged):
            damaged[i] ^= 1 << chance.randrange(8)
        elif kind == 3:
            del damaged[i : i + chance.choice((1, 4, 100, len(damaged)))]
        elif kind == 4:
            damaged[i:i] = damaged[i : i + chance.randrange(1, 64)]
        else:
            j = chance.randrange(start, max(len(damaged), start + 1))
            damaged[i : i + 8] = damaged[j : j + 8]
    return bytes(damaged)


def image_seeds() -> list[bytes]:
    """One small file of each format, grey, alpha, palette, 16 bits, EXIF and animation among them."""
    picture = Image.fromarray(photo(24, 32, ((4, 4, 9),))[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    variants: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((picture, form, {}) for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")),
        (picture, "JPEG", {"exif": exif, "progressive": True}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("RGBA"), "WEBP", {"lossless": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 80), "PNG", {}),
        (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(90)]}),
    ]
    seeds = []
    for image, form, options in variants:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        seeds.append(buffer.getvalue())
    return seeds


def fuzz_images(model: bytes, count: int, chance: random.Random) -> collections.Counter[str]:
    seeds, outcomes = image_seeds(), collections.Counter[str]()
    detector = FaceDetector(model, num_threads=1)
    for i in range(count):
        try:
            image = read_image(mutate(seeds[i % len(seeds)], chance))
        except ImageError as error:
            assert "\n" not in str(error), error
            outcomes["error"] += 1
            continue
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, (image.dtype, image.shape)
        if i % 10 == 0:
            detector.detect(image)
        outcomes["result"] += 1
    return outcomes


VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1e308, -0.0, 0.5, math.nan, math.inf, "", "BGR", "RGB", [], {},
    [0], [1, 2, 3], [[16, 32]], [[]], [[], [], []], [1e9] * 3,
    [8, 16, 32], [1, 2, 4], [32, 64, 96], [[[]]], 64, 96, 8192,
)  # fmt: skip


def mutate_metadata(text: str, chance: random.Random) -> bytes:
    """Another value for a field, a field more or less, or damaged bytes."""
    if chance.random() < 0.3:
        return mutate(text.encode(), chance)
    data = json.loads(text)
    for _ in range(chance.choice((1, 1, 2))):
        key = chance.choice([*data, "another"])
        if chance.random() < 0.1:
            data.pop(key, None)
        elif isinstance(data.get(key), list) and data[key] and chance.random() < 0.5:
            data[key][chance.randrange(len(data[key]))] = chance.choice(VALUES)
        else:
            data[key] = chance.choice(VALUES)
    return json.dumps(data).encode()


def with_metadata(flatbuffer: bytes, text: bytes) -> bytes:
    buffer = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(SPEC_FILE, text)
    return buffer.getvalue()


def use_model(model: bytes) -> str:
    """Load and run once."""
    try:
        faces = FaceDetector(model, num_threads=1).detect(photo(), 0.02)
    except (SpecError, ModelError) as error:
        assert "\n" not in str(error), error
        return "error"
    json.dumps(faces.to_list(), allow_nan=False)
    return "result"


def split(model: bytes) -> tuple[bytes, str]:
    """The flatbuffer and the metadata's text."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        first = min(info.header_offset for info in archive.infolist())
        return model[:first], archive.read(SPEC_FILE).decode()


def fuzz_metadata(model: bytes, count: int, chance: random.Random) -> collections.Counter[str]:
    """Damaged JSON, and damaged bytes of the archive; the flatbuffer stays whole."""
    flatbuffer, text = split(model)
    outcomes = collections.Counter[str]()
    for i in range(count):
        if i % 3:
            damaged = with_metadata(flatbuffer, mutate_metadata(text, chance))
        else:
            damaged = mutate(model, chance, start=len(flatbuffer))
        outcomes[use_model(damaged)] += 1
    return outcomes


def fuzz_models(model: bytes, count: int, chance: random.Random) -> collections.Counter[str]:
    """Damaged flatbuffers with whole metadata, each in a process of its own."""
    flatbuffer, text = split(model)
    outcomes = collections.Counter[str]()
    for _ in range(count):
        outcomes[in_child(with_metadata(mutate(flatbuffer, chance, start=8), text.encode()), use_model)] += 1
    return outcomes


def in_child(model: bytes, use: Callable[[bytes], str]) -> str:
    """`use(model)` in a forked process; a Python exception there is raised here."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        signal.alarm(SECONDS_PER_MODEL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LiteRT's own messages
        code = 3
        try:
            code = {"result": 0, "error": 1}[use(model)]
        except MemoryError:
            code = 1
        except BaseException:
            import traceback

            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) == signal.SIGALRM else "interpreter crash"
    assert os.WEXITSTATUS(status) in (0, 1), "our code raised something else; see above"
    return ("result", "error")[os.WEXITSTATUS(status)]


def main() -> None:
    kind, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    sys.modules["tensorflow"] = None  # type: ignore[assignment] # one interpreter is enough, and TensorFlow takes seconds
    warnings.simplefilter("ignore")
    fuzz = {"images": fuzz_images, "metadata": fuzz_metadata, "models": fuzz_models}[kind]
    print(json.dumps(fuzz(path.read_bytes(), count, random.Random(seed))))


if __name__ == "__main__":
    main()
