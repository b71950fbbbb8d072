"""Draws one cartoon face, or a thing that only resembles one, for `synthetic.py`.

Coordinates while drawing: the head is an ellipsoid with half width 1, x to the right, y down, origin between nose
bridge and nose tip; turned by yaw and pitch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 1.75, 1.75, 2.0, 2.3  # room around the origin, in half widths
SUBPIXEL_BITS = 4
# From very light to very dark, BGR; a face's tone lies between two of them.
SKIN = np.array(
    [(205, 222, 250), (180, 205, 241), (150, 185, 230), (125, 163, 215),
     (96, 134, 190), (66, 98, 150), (45, 66, 105), (32, 45, 72)],
    np.float32,
)  # fmt: skip
HAIR = np.array(
    [(25, 25, 28), (30, 45, 70), (50, 80, 120), (95, 150, 200), (150, 205, 230), (40, 65, 150), (170, 170, 172)]
)

Colour = tuple[float, float, float]


class Sprite(NamedTuple):
    """A drawing to paste.

    Attributes:
        picture: uint8 BGR [h, w, 3].
        alpha: uint8 [h, w], 255 where drawn.
        half_width: pixels per unit of the drawing, i.e. half the head's width.
        outline: float32 [K, 2], forehead to chin without ears, in pixels: its bounds are the face box.
        landmarks: float32 [5, 2] in pixels, in the order of `LANDMARK_NAMES`.
    """

    picture: np.ndarray
    alpha: np.ndarray
    half_width: float
    outline: np.ndarray
    landmarks: np.ndarray


class _Canvas:
    """Antialiased shapes in head coordinates, with their coverage."""

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self.origin = np.array([LEFT, TOP]) * unit
        shape = (round((TOP + BOTTOM) * unit), round((LEFT + RIGHT) * unit))
        self.picture = np.zeros((*shape, 3), np.uint8)
        self.alpha = np.zeros(shape, np.uint8)

    def pixels(self, points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
        return (np.asarray(points, np.float64) * self.unit + self.origin).astype(np.float32)

    def fill(self, points: np.ndarray, colour: Colour, cover: bool = True) -> None:
        fixed = [np.round((self.pixels(points) - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)]
        cv2.fillPoly(self.picture, fixed, colour, cv2.LINE_AA, SUBPIXEL_BITS)
        if cover:
            cv2.fillPoly(self.alpha, fixed, 255, cv2.LINE_AA, SUBPIXEL_BITS)

    def line(self, points: Sequence[Sequence[float]] | np.ndarray, colour: Colour, width: float) -> None:
        fixed = [np.round((self.pixels(points) - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)]
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.picture, fixed, False, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _oval(
    centre: Sequence[float], half: Sequence[float], start: float = 0, stop: float = 360, turn: float = 0
) -> np.ndarray:
    """Points [K, 2] of an elliptic arc; degrees, clockwise from the right as y points down."""
    points = _arc(start, stop) * half
    if turn:
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        points = points @ np.array([[c, s], [-s, c]])
    return points + centre


@functools.lru_cache
def _arc(start: float, stop: float) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, 28))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _shade(colour: Sequence[float] | np.ndarray, factor: float) -> Colour:
    blue, green, red = (min(255.0, max(0.0, float(channel) * factor)) for channel in colour)
    return blue, green, red


def _between(rng: np.random.Generator, ramp: np.ndarray, spread: float) -> np.ndarray:
    at = rng.uniform(0, len(ramp) - 1)
    low = int(at)
    mixed = ramp[low] + (at - low) * (ramp[min(low + 1, len(ramp) - 1)] - ramp[low])
    return np.clip(mixed + rng.normal(0, spread, 3), 0, 255)


class _Head(NamedTuple):
    """Shape and pose: chin at `chin`, hairline at `hairline` (y), and where a point of the surface appears."""

    chin: float
    hairline: float
    jaw: float
    yaw: float  # radians, > 0: turned to the picture's right
    pitch: float

    def outline(self) -> np.ndarray:
        """[K, 2], the whole skull; the lower half narrows towards the chin."""
        angle = np.radians(np.linspace(0, 360, 56, endpoint=False))
        x, y = np.cos(angle), np.sin(angle)
        lower = np.maximum(y, 0)
        return np.stack([x * (1 - self.jaw * lower**2), np.where(y > 0, y * self.chin, y * 1.35)], axis=1)

    def see(self, x: float, y: float) -> np.ndarray:
        """Surface point (x, y) of the front view → where it appears after the turn."""
        depth = np.sqrt(max(0.0, 1 - 0.85 * x * x - 0.45 * y * y))
        return np.array(
            [x * np.cos(self.yaw) + depth * np.sin(self.yaw), y * np.cos(self.pitch) + depth * np.sin(self.pitch)]
        )

    def narrow(self, x: float) -> float:
        """How much narrower a feature at x looks because it faces away."""
        return max(0.3, math.cos(self.yaw + 0.9 * x))


def _pixel_unit(half_width: float) -> float:
    # Drawn larger than its final size, so that pasting averages; large faces may be a little soft.
    return float(np.clip(1.6 * half_width, 28, 110))


def draw_face(rng: np.random.Generator, half_width: float) -> Sprite:
    """A random face to be pasted with half its head width = `half_width` pixels."""
    canvas = _Canvas(_pixel_unit(half_width))
    head = _Head(
        chin=rng.uniform(1.25, 1.5),
        hairline=rng.uniform(-1.15, -0.75),
        jaw=rng.uniform(0.0, 0.28),
        yaw=np.radians(np.clip(rng.normal(0, 22), -55, 55)),
        pitch=np.radians(np.clip(rng.normal(0, 10), -25, 25)),
    )
    skin, hair = _between(rng, SKIN, 6), _between(rng, HAIR, 12)
    _body(rng, canvas, skin)
    style = rng.choice(["short", "long", "bald", "hat", "scarf"], p=[0.42, 0.26, 0.12, 0.14, 0.06])
    if style in ("long", "scarf"):
        canvas.fill(_oval((0, 0.2), (rng.uniform(1.2, 1.45), rng.uniform(1.6, 2.0))), _shade(hair, 0.85))
    if style != "scarf":
        for side in (-1, 1):
            if side * head.yaw < 0.25:  # the ear that points away is hidden
                canvas.fill(_oval((side * 1.0, 0.05), (0.16, 0.28)), _shade(skin, 0.85))
    outline = head.outline()
    canvas.fill(outline, _shade(skin, 1.0))
    _features(rng, canvas, head, skin, hair)
    if style != "bald":
        _hair(rng, canvas, head, hair, str(style))
    _light(rng, canvas)
    seen = outline[outline[:, 1] >= (head.hairline if style != "bald" else -1.2)]
    return _finish(canvas, half_width, seen, _landmarks(head))


def _landmarks(head: _Head) -> np.ndarray:
    mouth = head.chin - 0.56
    spots = [(-0.42, -0.18), (0.42, -0.18), (0.0, 0.28), (-0.33, mouth), (0.33, mouth)]
    points = np.array([head.see(x, y) for x, y in spots])
    points[2] += 0.14 * np.array([np.sin(head.yaw), np.sin(head.pitch)])  # the nose stands out of the ellipsoid
    return points


def _features(rng: np.random.Generator, canvas: _Canvas, head: _Head, skin: np.ndarray, hair: np.ndarray) -> None:
    """Beard, eyes, brows, glasses, nose and mouth around the landmarks."""
    marks = _landmarks(head)
    if rng.random() < 0.18:
        beard = np.array([head.see(x, y) for x, y in ((-0.85, 0.25), (-0.45, 0.5), (0.45, 0.5), (0.85, 0.25))])
        chin = _oval((0, head.chin - 0.75), (0.9 * (1 - head.jaw * 0.6), 0.72), 0, 180)
        canvas.fill(np.concatenate([chin, beard]), _shade(hair, rng.uniform(0.8, 1.1)))
    opened = rng.uniform(0.45, 1.0) if rng.random() < 0.9 else 0.12
    iris = _between(rng, np.array([(40, 60, 90), (120, 90, 50), (70, 110, 80), (30, 35, 45)], np.float32), 8)
    gaze = rng.uniform(-0.05, 0.05)
    brow = rng.uniform(0.2, 0.32)
    for (x, y), side in zip(marks[:2], (-1, 1), strict=True):
        wide = 0.22 * head.narrow(side * 0.42)
        canvas.fill(_oval((x, y), (wide * 1.25, 0.17)), _shade(skin, 0.86), cover=False)
        canvas.fill(_oval((x, y), (wide, 0.115 * opened)), (235, 238, 240), cover=False)
        if opened > 0.2:
            canvas.fill(
                _oval((x + gaze, y), (0.095 * wide / 0.22, 0.1 * opened + 0.01)), _shade(iris, 1.0), cover=False
            )
            canvas.fill(_oval((x + gaze, y), (0.045, 0.05)), (15, 15, 15), cover=False)
        canvas.line(_oval((x, y), (wide, 0.13 * opened), 185, 355), _shade(skin, 0.35), 0.045)
        canvas.line(_oval((x, y - brow + 0.1), (wide * 1.25, 0.16), 200, 340, side * 6), _shade(hair, 0.7), 0.08)
    if rng.random() < 0.2:
        _glasses(rng, canvas, head, marks)
    nose, bridge = marks[2], head.see(0.0, -0.15)
    shadow = np.sign(head.yaw), 0.0
    wing = np.array([0.17, 0.05])
    canvas.fill(np.array([bridge, nose + wing, nose + wing * (-1, 1)]), _shade(skin, 0.93), cover=False)
    canvas.line(np.array([bridge, nose - wing * shadow]), _shade(skin, 0.62), 0.04)
    for x in (-0.09, 0.09):
        canvas.fill(_oval((nose[0] + x, nose[1] + 0.07), (0.055, 0.035)), _shade(skin, 0.4), cover=False)
    if rng.random() < 0.06:
        _mask(rng, canvas, head, marks)
    else:
        _mouth(rng, canvas, head, marks, skin)


def _glasses(rng: np.random.Generator, canvas: _Canvas, head: _Head, marks: np.ndarray) -> None:
    frame = _shade(rng.uniform(10, 120, 3), 1.0)
    sun = rng.random() < 0.35
    half = rng.uniform(0.24, 0.32)
    for (x, y), side in zip(marks[:2], (-1, 1), strict=True):
        lens = _oval((x, y), (half * head.narrow(side * 0.42), half * 0.8))
        if sun:
            canvas.fill(lens, _shade((30, 26, 24), 1.0), cover=False)
        canvas.line(lens, frame, 0.05)
    canvas.line(np.array([marks[0] + (half, 0), marks[1] - (half, 0)]), frame, 0.05)


def _mouth(rng: np.random.Generator, canvas: _Canvas, head: _Head, marks: np.ndarray, skin: np.ndarray) -> None:
    left, right = marks[3], marks[4]
    middle, half = (left + right) / 2, (right - left) / 2
    lips = _shade(skin * (0.62, 0.6, 0.85) + rng.uniform(-15, 25, 3) * (0.3, 0.2, 1), 1.0)
    smile = rng.uniform(-0.08, 0.2)
    t = np.linspace(-1, 1, 15)
    bow = (1 - t**2)[:, None]
    spine = middle + t[:, None] * half
    upper = spine + bow * (0.0, smile - rng.uniform(0.05, 0.09))
    gap = rng.uniform(0.02, 0.3) if rng.random() < 0.45 else 0.0
    lower = spine + bow * (0.0, smile + gap + rng.uniform(0.06, 0.12))
    canvas.fill(np.concatenate([upper, lower[::-1]]), lips, cover=False)
    if gap > 0.05:
        inside = np.concatenate([spine + bow * (0.0, smile), (spine + bow * (0.0, smile + gap))[::-1]])
        canvas.fill(0.86 * (inside - middle) + middle, (40, 30, 70), cover=False)
        teeth = np.concatenate([spine + bow * (0.0, smile), (spine + bow * (0.0, smile + 0.45 * gap))[::-1]])
        canvas.fill(0.8 * (teeth - middle) + middle, (225, 232, 235), cover=False)
    else:
        canvas.line(spine + bow * (0.0, smile), _shade(lips, 0.55), 0.035)


def _mask(rng: np.random.Generator, canvas: _Canvas, head: _Head, marks: np.ndarray) -> None:
    top = head.see(0.0, 0.15)
    edge = _oval((0, head.chin - 0.72), (0.93 * (1 - head.jaw * 0.5), 0.7), 0, 180)
    cloth = _between(rng, np.array([(235, 225, 205), (220, 180, 120), (40, 40, 40), (240, 240, 240)], np.float32), 8)
    canvas.fill(np.concatenate([edge, top[None]]), _shade(cloth, 1.0), cover=False)
    canvas.line(np.stack([marks[3] - (0.2, 0), marks[4] + (0.2, 0)]), _shade(cloth, 0.8), 0.04)


def _hair(rng: np.random.Generator, canvas: _Canvas, head: _Head, hair: np.ndarray, style: str) -> None:
    """The cap of hair, hat or scarf above the hairline; nothing of it lies inside the face box's outline by much."""
    line = head.hairline
    side = np.sqrt(max(0.05, 1 - (line / 1.35) ** 2))
    parting = rng.uniform(-0.5, 0.5)
    fringe = np.array([(-side - 0.1, line + 0.35), (-side * 0.8, line), (parting, line - rng.uniform(-0.1, 0.15)),
                       (side * 0.8, line), (side + 0.1, line + 0.35)])  # fmt: skip
    crown = rng.uniform(1.45, 1.75)
    cap = _oval((0, -0.15), (rng.uniform(1.08, 1.22), crown - 0.1), 180, 360)
    colour = _shade(hair, 1.0)
    if style in ("hat", "scarf"):
        colour = _shade(rng.uniform(15, 230, 3), 1.0)
    canvas.fill(np.concatenate([cap, fringe[::-1]]), colour)
    if style == "hat" and rng.random() < 0.6:
        canvas.fill(_oval((0, line), (1.45, 0.16)), _shade(colour, 0.8))
    elif style != "hat":
        for x in np.linspace(-0.8, 0.8, 7):
            canvas.line(_oval((x * 0.7, -0.2), (abs(x) + 0.15, crown - 0.25), 250, 290), _shade(colour, 0.8), 0.02)


def _body(rng: np.random.Generator, canvas: _Canvas, skin: np.ndarray) -> None:
    if rng.random() < 0.7:
        shoulders = rng.uniform(1.4, 1.74)
        cloth = _shade(rng.uniform(10, 240, 3), 1.0)
        canvas.fill(_oval((0, BOTTOM), (shoulders, rng.uniform(0.55, 0.8)), 180, 360), cloth)
    canvas.fill(np.array([(-0.5, 0.6), (0.5, 0.6), (0.6, 1.9), (-0.6, 1.9)]), _shade(skin, 0.75))


def _light(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Light from one side, and darker towards the edge of the head."""
    height, width = canvas.alpha.shape
    x = (np.arange(width, dtype=np.float32) + 0.5) / canvas.unit - LEFT
    y = (np.arange(height, dtype=np.float32) + 0.5) / canvas.unit - TOP
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.4)
    vignette = rng.uniform(0, 0.18)
    column = 1 + strength * np.cos(angle) * x - vignette * x**2
    row = strength * np.sin(angle) * 0.7 * y - vignette * 0.5 * y**2
    mottle = cv2.resize(rng.normal(0, 0.04, (12, 12)).astype(np.float32), (width, height))
    field = np.maximum(column[None] + row[:, None] + mottle, 0.15).astype(np.float32)
    cv2.multiply(canvas.picture, cv2.merge([field] * 3), dst=canvas.picture, dtype=cv2.CV_8U)


def _finish(canvas: _Canvas, half_width: float, outline: np.ndarray, landmarks: np.ndarray) -> Sprite:
    picture: np.ndarray = canvas.picture
    alpha: np.ndarray = canvas.alpha
    unit = canvas.unit
    points, marks = canvas.pixels(outline), canvas.pixels(landmarks)
    if unit > 2.2 * half_width:  # too small to draw directly: average down before the turn samples it
        shrink = 1.5 * half_width / unit
        width, height = (max(1, round(side * shrink)) for side in alpha.shape[::-1])
        ratio = np.array([width, height], np.float32) / alpha.shape[::-1]
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))
        points, marks, unit = points * ratio, marks * ratio, unit * float(ratio.mean())
    return Sprite(picture, alpha, unit, points, marks)


def draw_lookalike(rng: np.random.Generator, half_width: float) -> Sprite:
    """No face: the back of a head, a bare oval, or an oval with dots where no eyes, nose and mouth would be."""
    canvas = _Canvas(_pixel_unit(half_width))
    head = _Head(rng.uniform(1.0, 1.5), -1.0, rng.uniform(0, 0.3), 0.0, 0.0)
    skin, hair = _between(rng, SKIN, 12), _between(rng, HAIR, 12)
    kind = rng.integers(3)
    if kind == 0:
        _body(rng, canvas, skin)
        for side in (-1, 1):
            canvas.fill(_oval((side, 0.05), (0.16, 0.28)), _shade(skin, 0.85))
        canvas.fill(head.outline() * (1.05, 0.95), _shade(hair, 1.0))
    else:
        canvas.fill(head.outline(), _shade(skin if rng.random() < 0.6 else rng.uniform(0, 255, 3), 1.0))
    if kind == 1:  # dots, but not where eyes, nose and mouth are: on one side, or in a line
        spots = rng.uniform(-0.5, 0.5, (int(rng.integers(1, 5)), 2)) * (0.5, 1.6) + (rng.choice([-0.35, 0.35]), 0)
        for x, y in spots:
            canvas.fill(
                _oval((x, y), rng.uniform(0.05, 0.25, 2).tolist()), _shade(rng.uniform(0, 255, 3), 1.0), cover=False
            )
    _light(rng, canvas)
    return _finish(canvas, half_width, head.outline(), np.zeros((5, 2)))
