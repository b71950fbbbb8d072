"""What AP on WIDER FACE cannot see: faces that fill the frame, and pictures that lie on their side.

    python -m rf_keras.evaluate --model M.tflite --data_dir D --closeups --turned

A close-up is a photo cropped around one of its faces. A face counts as found when a detection at the model's default
threshold meets it by IoU ≥ 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from rf_keras.boxes import areas, intersections, iou
from rf_keras.evaluation.ground_truth import Truth
from rf_keras.labels import UNKNOWN
from tflite.images import read_image
from tflite.postprocess import Detections

LEAST_SIDE = 100  # pixels: both sides of a face that is shown from close by
MARGINS = (1.0, 0.5, 0.25, 0.1, 0.0)  # left on each side of the face's box, as shares of the box's sides
TURNS = (0, 90, 180, 270)  # degrees, anticlockwise
FOUND_IOU, FITTING_IOU = 0.5, 0.7
PIECE_SHARE = 0.7  # of the smaller of two boxes: from here on one is a piece of the other

Detect = Callable[[np.ndarray], Detections]


@dataclass(frozen=True, eq=False)
class View:
    """One picture made of a photo, and the face to find in it.

    Attributes:
        name: of the photo and the face's number.
        image: uint8 BGR [H, W, 3].
        box: float32 [4] x1 y1 x2 y2; landmarks: float32 [5, 2], all −1 where unknown; both in its pixels.
    """

    name: str
    image: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


@dataclass
class Tally:
    """Counts over views of one kind."""

    faces: int = 0
    found: int = 0
    fitting: int = 0
    pieces: int = 0
    errors: list[float] = field(default_factory=list)
    missed: list[tuple[View, Detections]] = field(default_factory=list)

    def add(self, view: View, faces: Detections, keep: int) -> None:
        """Judge the detections of one view; the first `keep` missed ones are kept for drawing."""
        overlap = iou(view.box[None], faces.boxes)[0]
        best = float(overlap.max(initial=0.0))
        self.faces += 1
        self.fitting += best >= FITTING_IOU
        self.pieces += has_pieces(view.box, faces.boxes)
        if best < FOUND_IOU:
            if len(self.missed) < keep:
                self.missed.append((view, faces))
            return
        self.found += 1
        if (view.landmarks != UNKNOWN).any():
            distance = np.linalg.norm(faces.landmarks[int(overlap.argmax())] - view.landmarks, axis=1).mean()
            self.errors.append(float(distance / np.sqrt(np.prod(view.box[2:] - view.box[:2]))))

    def metrics(self) -> dict[str, float | None]:
        """In percent: `found`, `found_70` (boxes of IoU ≥ 0.7), `pieces`, `nme` (of √(w·h)); None without a face."""

        def share(count: int) -> float | None:
            return 100 * count / self.faces if self.faces else None

        nme = 100 * float(np.mean(self.errors)) if self.errors else None
        return {
            "found": share(self.found),
            "found_70": share(self.fitting),
            "pieces": share(self.pieces),
            "nme": nme,
        }


def has_pieces(box: np.ndarray, found: np.ndarray) -> bool:
    """Whether two of the boxes found [N, 4] lie on the face `box` [4] and more than `PIECE_SHARE` of the smaller lies
    in the larger."""
    sizes = areas(found)
    on_face = intersections(box[None], found)[0] > PIECE_SHARE * np.minimum(sizes, areas(box[None]))
    mine, sizes = found[on_face], sizes[on_face]
    inside = intersections(mine, mine) > PIECE_SHARE * np.minimum(sizes[:, None], sizes[None])
    return bool(np.triu(inside, 1).any())


def large_faces(truths: Sequence[Truth]) -> list[tuple[Truth, list[int]]]:
    """Photos that hold faces of both sides ≥ `LEAST_SIDE` pixels, and which: of the official easy set where the truth
    has one, else of all valid ones."""
    chosen = []
    for truth in truths:
        counted = truth.counted.get("easy", truth.valid)
        large = counted & (truth.boxes[:, 2:] - truth.boxes[:, :2] >= LEAST_SIDE).all(axis=1)
        if large.any():
            chosen.append((truth, np.flatnonzero(large).tolist()))
    return chosen


def crop(image: np.ndarray, box: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo around a face's box [4] that leaves `margin` of the box's sides on each side, clipped to the
    photo; and its top left corner, float32 [2]."""
    sides = np.tile(box[2:] - box[:2], 2)
    height, width = image.shape[:2]
    edges = np.round(box + margin * sides * [-1, -1, 1, 1]).astype(int)
    x1, y1, x2, y2 = np.clip(edges, 0, [width, height, width, height]).tolist()
    return np.ascontiguousarray(image[y1:y2, x1:x2]), np.array([x1, y1], np.float32)


def turn(image: np.ndarray, points: np.ndarray, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and points [..., 2] in its pixels, turned anticlockwise by a multiple of 90°."""
    for _ in range(degrees // 90 % 4):
        points = np.stack([points[..., 1], image.shape[1] - points[..., 0]], axis=-1)
        image = np.rot90(image)
    return np.ascontiguousarray(image), points


def _boxed(corners: np.ndarray) -> np.ndarray:
    """Two corners [2, 2] in any order → x1 y1 x2 y2."""
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)


def closeup_views(truth: Truth, faces: Iterable[int], margin: float, image: np.ndarray) -> Iterable[View]:
    """Each of the faces, cropped out of its photo."""
    for face in faces:
        part, corner = crop(image, truth.boxes[face], margin)
        limit = np.tile(np.array(part.shape[1::-1], np.float32), 2)
        box = np.clip(truth.boxes[face] - np.tile(corner, 2), 0, limit)
        known = (truth.landmarks[face] != UNKNOWN).any()
        landmarks = truth.landmarks[face] - corner if known else truth.landmarks[face]
        yield View(f"{truth.image.stem}_{face}", part, box, landmarks)


def turned_views(truth: Truth, faces: Iterable[int], degrees: int, image: np.ndarray) -> Iterable[View]:
    """Each of the faces in the whole photo, turned."""
    for face in faces:
        turned, corners = turn(image, truth.boxes[face].reshape(2, 2), degrees)
        landmarks = truth.landmarks[face]
        if (landmarks != UNKNOWN).any():
            landmarks = turn(image, landmarks, degrees)[1]
        yield View(f"{truth.image.stem}_{face}", turned, _boxed(corners), landmarks)


def measure(
    detect: Detect, truths: Sequence[Truth], closeups: bool, turned: bool, progress: bool = True, keep: int = 0
) -> tuple[dict[str, Any], dict[str, Tally]]:
    """Run a detector over close-ups and turned photos.

    Args:
        detect: uint8 BGR image → detections in its pixels, at the model's default threshold.
        truths: labelled photos; `large_faces` chooses among their faces.
        closeups, turned: what to measure.
        progress: show a progress bar.
        keep: missed views to keep per kind, for drawing.

    Returns:
        `closeups` and `turned` where asked for: margin, or degrees, → `Tally.metrics`, and `faces`; and the tallies by
        name, e.g. `closeup_0.25` or `turned_90`.
    """
    chosen = large_faces(truths)
    kinds: dict[str, tuple[Callable[..., Iterable[View]], float]] = {}
    if closeups:
        kinds |= {f"closeup_{margin:g}": (closeup_views, margin) for margin in MARGINS}
    if turned:
        kinds |= {f"turned_{degrees}": (turned_views, degrees) for degrees in TURNS}
    tallies = {name: Tally() for name in kinds}
    for truth, faces in tqdm(chosen, unit="photo", desc="close-ups", disable=None if progress else True, leave=False):
        image = read_image(truth.image)
        for name, (views, amount) in kinds.items():
            found: Detections | None = None
            for view in views(truth, faces, amount, image):
                if found is None or views is closeup_views:  # a turned photo is the same for all of its faces
                    found = detect(view.image)
                tallies[name].add(view, found, keep)
    results: dict[str, Any] = {"faces": sum(len(faces) for _, faces in chosen), "photos": len(chosen)}
    for group in ("closeup", "turned"):
        if rows := {name.split("_")[1]: t.metrics() for name, t in tallies.items() if name.startswith(group)}:
            results["closeups" if group == "closeup" else group] = rows
    return results, tallies


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""

    def row(title: str, key: str, rows: dict[str, dict[str, float | None]]) -> str:
        return f"    {title:<26}" + "".join("     –" if r[key] is None else f"{r[key]:6.1f}" for r in rows.values())

    lines = []
    for group, title in (("closeups", "margin around the face"), ("turned", "turned by degrees")):
        if rows := results.get(group):
            lines.append(f"{results['faces']} faces of at least {LEAST_SIDE} px in {results['photos']} photos, percent")
            lines.append(f"    {title:<26}" + "".join(f"{name:>6}" for name in rows))
            lines.append(row("found (IoU 0.5)", "found", rows))
            lines.append(row("found, box to IoU 0.7", "found_70", rows))
            lines.append(row("with a second box on it", "pieces", rows))
            lines.append(row("landmark NME", "nme", rows))
    return "\n".join(lines)
