"""Procedural faces with landmarks on cluttered backgrounds: training data that needs no download.

    python -m rf_keras.synthetic --output D --count 800 --seed 1 --size 320

Cartoons, not people: what they share with photos is the layout of a face, its sizes, turns, light, blur and occlusion,
and a background full of things that look a little like one. Image i of a seed is the same whatever the count is.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from rf_keras.cache import cache_dir
from rf_keras.labels import LABEL_FILE, format_label
from rf_keras.synthetic_face import draw_face, draw_lookalike
from tflite.command import option, start

LEFT_AFTER = 3600.0  # seconds without a new picture, after which a temporary folder is that of a killed run
VERSION = 2  # in the cache folder's name: raise it when the pictures change
SPLITS = {"train": (800, 1), "val": (100, 2)}  # images, seed
DEFAULT_SIZE = 320
MIN_FACE = 16.0  # pixels: the shorter side of the smallest face's box, about


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    output: Path = option(text="new folder for images/ and label.txt")
    count: int = option(SPLITS["train"][0], "images")
    seed: int = option(1, "image i depends on (seed, i) only")
    size: int = option(DEFAULT_SIZE, "side of the square images, pixels")


class Face(NamedTuple):
    """A face that was drawn: box float [4] x1, y1, x2, y2 and landmarks float [5, 2], in pixels of the image."""

    box: np.ndarray
    landmarks: np.ndarray


def make_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Face]]:
    """One picture: uint8 BGR [size, size, 3] and its faces (0 to about 8)."""
    image = _background(rng, size)
    faces: list[Face] = []
    taken: list[np.ndarray] = []
    for is_face, width in _plan(rng, size):
        place = _free_place(rng, size, width, taken)
        if place is None:
            continue
        draw = draw_face if is_face else draw_lookalike
        sprite = draw(rng, 0.5 * width)
        roll = rng.normal(0, 14) if rng.random() < 0.85 else rng.uniform(-60, 60)
        to_image = _paste(image, sprite.picture, sprite.alpha, sprite.half_width, 0.5 * width, roll, place)
        outline = cv2.transform(sprite.outline[None], to_image)[0]
        box = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
        taken.append(box)
        if is_face:
            faces.append(Face(box, cv2.transform(sprite.landmarks[None], to_image)[0]))
            if rng.random() < 0.18:
                _occlude(rng, image, box)  # before the next, smaller face, which is not to vanish behind it
    return _camera(rng, image), faces


def make_dataset(folder: str | Path, count: int, seed: int, size: int = DEFAULT_SIZE) -> Path:
    """Writes `images/*.jpg` and `label.txt`, the format that `wider.read_labels` reads.

    Args:
        folder: new or empty folder; it appears complete or not at all.
        count: images.
        seed: image i depends on (seed, i) only.
        size: side of the square images in pixels, at least 64.

    Returns:
        folder.

    Raises:
        ValueError: bad count or size.
        FileExistsError: the folder exists and is not empty.
    """
    folder = Path(folder)
    if count < 1 or size < 64:
        raise ValueError(f"count {count}, size {size}: expected count >= 1 and size >= 64")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty, expected a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.*/images"):
        if time.time() - path.stat().st_mtime > LEFT_AFTER:
            shutil.rmtree(path.parent, ignore_errors=True)
    # A killed run leaves the temporary folder behind, never a half-filled data set.
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        (temporary / "images").mkdir()
        lines = []
        for index in tqdm(range(count), desc=f"synthetic faces → {folder}", unit="image", disable=count < 50):
            rng = np.random.default_rng((seed, index))
            image, faces = make_image(rng, size)
            name = f"{index:05d}.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
            if not cv2.imwrite(str(temporary / "images" / name), image, quality):
                raise OSError(f"{folder}: an image cannot be written")
            lines.append(f"# {name}")
            lines += format_label(
                np.array([face.box for face in faces]).reshape(-1, 4),
                np.array([face.landmarks for face in faces]).reshape(-1, 5, 2),
            )
        (temporary / LABEL_FILE).write_text("\n".join(lines) + "\n")
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def synthetic_dir(split: str, size: int = DEFAULT_SIZE) -> Path:
    """The built-in data set's folder ("train" or "val"), made on first use.

    It lies in `cache.cache_dir`; version, size, seed and count are in its name.
    """
    count, seed = SPLITS[split]
    folder = cache_dir() / f"synthetic-v{VERSION}-{split}-{size}px-seed{seed}-{count}"
    if not folder.is_dir():
        # Two processes may start at once: each makes its own copy, the first to finish gives it its name.
        with contextlib.suppress(FileExistsError):
            try:
                make_dataset(folder, count, seed, size)
            except OSError:
                if not folder.is_dir():
                    raise
    return folder


def _plan(rng: np.random.Generator, size: int) -> list[tuple[bool, float]]:
    """(is it a face, width in pixels) of what to draw, large ones first so that small ones stand in front."""
    largest = np.log(0.72 * size)
    if rng.random() < 0.15:  # a portrait: one large face, perhaps small ones
        widths = [rng.uniform(0.35, 0.72) * size]
        widths += list(np.exp(rng.uniform(np.log(MIN_FACE), np.log(max(0.2 * size, MIN_FACE)), rng.integers(0, 3))))
    elif rng.random() < 0.25:  # a group: much the same size
        middle = rng.uniform(np.log(1.2 * MIN_FACE), np.log(max(0.16 * size, 1.2 * MIN_FACE)))
        widths = list(np.exp(np.clip(middle + rng.normal(0, 0.15, rng.integers(3, 9)), np.log(MIN_FACE), largest)))
    else:
        widths = list(np.exp(rng.uniform(np.log(MIN_FACE), largest, rng.integers(0, 6))))
    lookalikes = np.exp(rng.uniform(np.log(MIN_FACE), np.log(max(0.35 * size, MIN_FACE)), rng.integers(0, 5)))
    things = [(True, float(width)) for width in widths] + [(False, float(width)) for width in lookalikes]
    return sorted(things, key=lambda thing: -thing[1])


def _free_place(rng: np.random.Generator, size: int, width: float, taken: Sequence[np.ndarray]) -> np.ndarray | None:
    """A centre (x, y) where a face of this width hides next to nothing of the others; None after 25 tries."""
    half = np.array([0.5, 0.68]) * width
    low, high = np.minimum(half * 0.8, size / 2), np.maximum(size - half * 0.8, size / 2)
    for _ in range(25):
        centre = rng.uniform(low, high)
        box = np.concatenate([centre - 1.15 * half, centre + 1.15 * half])
        if all(_overlap(box, other) < 0.12 for other in taken):
            return centre
    return None


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over the smaller area."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(sides.prod() / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()))


def _paste(
    image: np.ndarray,
    picture: np.ndarray,
    alpha: np.ndarray,
    drawn_half: float,
    half: float,
    roll: float,
    centre: np.ndarray,
) -> np.ndarray:
    """Blends a sprite into `image`, turned by `roll` degrees; returns the 2×3 map from sprite to image pixels."""
    height, width = alpha.shape
    scale = half / drawn_half
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), roll, scale)
    matrix[:, 2] += centre - (width / 2, height / 2)
    corners = cv2.transform(np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32), matrix)[0]
    x1, y1 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    x2, y2 = np.minimum(np.ceil(corners.max(axis=0)).astype(int), image.shape[1::-1])
    if x2 <= x1 or y2 <= y1:
        return matrix
    local = matrix.copy()
    local[:, 2] -= (x1, y1)
    # Pixel centres lie at half coordinates in labels, at whole ones in OpenCV.
    local[:, 2] += local[:, :2] @ (0.5, 0.5) - 0.5
    warped = cv2.warpAffine(picture, local, (x2 - x1, y2 - y1), borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(alpha, local, (x2 - x1, y2 - y1)).astype(np.float32) / 255
    image[y1:y2, x1:x2] = cv2.blendLinear(warped, image[y1:y2, x1:x2].copy(), weight, 1 - weight)
    return matrix


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    grey = rng.uniform(20, 235)
    blue, green, red = (int(min(255, max(0, grey + tint))) for tint in rng.normal(0, 40, 3))
    return blue, green, red


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Gradient, cloudy texture, then shapes, stripes and text of every size."""
    corners = np.array([[_colour(rng), _colour(rng)], [_colour(rng), _colour(rng)]], np.float32)
    image = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    for cells in rng.choice([3, 6, 12, 25, 50, 100], 3, replace=False):
        noise = rng.standard_normal((cells, cells, 3), np.float32) * np.float32(rng.uniform(2, 18))
        if rng.random() < 0.5:
            noise[..., 1:] = noise[..., :1]
        image = cv2.add(image, cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR))
    picture = cv2.convertScaleAbs(image)
    for _ in range(rng.integers(8, 45)):
        _clutter(rng, picture, float(np.exp(rng.uniform(np.log(4), np.log(0.4 * size)))))
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.5))  # out of focus behind the people
    return picture


def _clutter(rng: np.random.Generator, image: np.ndarray, reach: float) -> None:
    size = image.shape[0]
    x, y = rng.uniform(0, size, 2).astype(int).tolist()
    a, b = np.maximum(reach * rng.uniform(0.2, 1, 2), 1).astype(int).tolist()
    colour, angle = _colour(rng), float(rng.uniform(0, 360))
    thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 5))
    kind = rng.integers(6)
    if kind == 0:
        cv2.rectangle(image, (x - a, y - b), (x + a, y + b), colour, thickness, cv2.LINE_AA)
    elif kind == 1:
        cv2.ellipse(image, (x, y), (a, b), angle, 0, 360, colour, thickness, cv2.LINE_AA)
    elif kind == 2:
        points = (np.array([x, y]) + rng.uniform(-reach, reach, (int(rng.integers(3, 7)), 2))).astype(np.int32)
        cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
    elif kind == 3:
        end = (x + int(3 * a * np.cos(angle)), y + int(3 * a * np.sin(angle)))
        cv2.line(image, (x, y), end, colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind == 4:
        step = max(3, a // 4)
        for offset in range(0, 2 * a, step):
            cv2.line(image, (x + offset, y - b), (x + offset, y + b), colour, max(1, step // 2), cv2.LINE_AA)
    else:
        text = "".join(rng.choice(list("ABEGKMORSXaegos0368&%:.")) for _ in range(rng.integers(2, 7)))
        cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, reach / 40 + 0.2, colour, 2, cv2.LINE_AA)


def _occlude(rng: np.random.Generator, image: np.ndarray, box: np.ndarray) -> None:
    """A thing in front of a face: over one side or the lower part, at most about a third of the box."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    share = rng.uniform(0.1, 0.33)
    side = rng.integers(3)
    if side == 2:
        corner, far = (x1 - 0.1 * width, y2 - share * height), (x2 + 0.1 * width, y2 + 0.3 * height)
    else:
        edge = x1 if side == 0 else x2
        corner, far = (edge - share * width, y1 - 0.2 * height), (edge + share * width, y2 + 0.2 * height)
    points = np.array([corner, (far[0], corner[1]), far, (corner[0], far[1])])
    points += rng.uniform(-0.08, 0.08, (4, 2)) * (width, height)
    cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], _colour(rng), cv2.LINE_AA, shift=4)


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light, colour cast, blur and noise of the whole picture."""
    size = image.shape[0]
    light = cv2.resize(rng.uniform(0.65, 1.2, (3, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    gains = (rng.uniform(0.6, 1.2) * rng.uniform(0.85, 1.15, 3)).tolist()
    picture = cv2.multiply(image, cv2.merge([light * gain for gain in gains]), dtype=cv2.CV_8U)
    if rng.random() < 0.12:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3))
    elif rng.random() < 0.15:
        length = int(rng.integers(2, 6))
        kernel = np.full((1, length), 1 / length, np.float32)
        picture = cv2.filter2D(picture, -1, kernel if rng.random() < 0.5 else kernel.T)
    grain = rng.integers(-128, 128, image.shape, np.int8)
    return cv2.addWeighted(picture, 1, grain, rng.uniform(0, 0.13), 0, dtype=cv2.CV_8U)


def run(options: Options) -> None:
    """Make the data set."""
    folder = make_dataset(options.output, options.count, options.seed, options.size)
    print(f"{options.count} images and their {LABEL_FILE} are in {folder}")


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
