"""WIDER FACE average precision: the official tool's rules, on NumPy arrays.

Source: the evaluation tool of WIDER FACE (Yang et al. 2016, `eval_tools`), whose rules are:

- a detection belongs to the face it overlaps most; IoU uses inclusive pixels (a box from x1 to x2 is x2 − x1 + 1 wide)
  and must reach 0.5;
- detections are taken by falling score; the first on a counted face is a hit, every later one a false alarm;
- a detection on an ignored face (one outside the subset) is neither hit nor false alarm;
- scores are min-max normalised over the data set; precision and recall are read at 1,000 thresholds 0.999 … 0;
- AP is the area under the precision envelope (VOC 2010).

One difference: the tool skips images without any face, here their false alarms count. Every WIDER image has faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

IOU_THRESHOLD = 0.5
THRESHOLDS = 1000
SUBSETS = ("easy", "medium", "hard")


class GroundTruthError(ValueError):
    """The official .mat files are missing or malformed; one line that names file, finding and expectation."""


@dataclass(frozen=True)
class Matches:
    """Detections of one image by falling score, each with its face.

    Attributes:
        order: int64 [D], index of each into the detections given.
        scores: float64 [D], any scale.
        face: int64 [D], index of the face it overlaps most if IoU ≥ 0.5, else −1.
    """

    order: np.ndarray
    scores: np.ndarray
    face: np.ndarray


@dataclass(frozen=True)
class Curve:
    """Precision and recall at each threshold, highest threshold first; `ap` and both arrays in 0-1."""

    ap: float
    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True)
class OfficialFaces:
    """Ground truth of one WIDER image.

    Attributes:
        boxes: float32 [G, 4] x1 y1 x2 y2 in pixels, invalid faces included.
        valid: bool [G], not marked invalid by the annotators.
        counted: subset name → bool [G], the faces that count in it; all others are ignored.
    """

    boxes: np.ndarray
    valid: np.ndarray
    counted: dict[str, np.ndarray]


def inclusive_iou(boxes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """IoU of every pair on inclusive pixels: [D, 4] × [G, 4] (x1 y1 x2 y2) → float64 [D, G] in 0-1."""
    a, b = np.asarray(boxes, np.float64)[:, None, :], np.asarray(faces, np.float64)[None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1  # [D, G, 2]
    overlap = np.prod(np.maximum(sides, 0), axis=-1)
    area_a, area_b = np.prod(a[..., 2:] - a[..., :2] + 1, axis=-1), np.prod(b[..., 2:] - b[..., :2] + 1, axis=-1)
    return overlap / (area_a + area_b - overlap)


def match_detections(boxes: np.ndarray, scores: np.ndarray, faces: np.ndarray) -> Matches:
    """Give every detection of an image its face.

    Args:
        boxes: [D, 4] x1 y1 x2 y2 in pixels.
        scores: [D], higher is surer.
        faces: [G, 4] x1 y1 x2 y2 in pixels; all of them, ignored ones too.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    face = np.full(len(order), -1, np.int64)
    if len(order) and len(faces):
        iou = inclusive_iou(np.asarray(boxes)[order], faces)  # [D, G]
        best = iou.argmax(axis=1)
        face = np.where(iou[np.arange(len(order)), best] >= IOU_THRESHOLD, best, -1)
    return Matches(order, np.asarray(scores, np.float64)[order], face)


def first_on_face(matches: Matches) -> np.ndarray:
    """bool [D]: the best-scored detection of its face."""
    first = np.zeros(len(matches.face), bool)
    first[np.unique(matches.face, return_index=True)[1]] = True
    return first & (matches.face >= 0)


def average_precision(
    matches: Sequence[Matches], counted: Sequence[np.ndarray], left_out: Sequence[np.ndarray] | None = None
) -> Curve:
    """AP over a data set.

    Args:
        matches: one per image.
        counted: per image bool [G]: faces to find; detections on the others are ignored.
        left_out: per image bool [D] in the order of `matches`: detections to ignore besides. They still take part in
            the min-max normalisation of the scores.

    Returns:
        AP 0 where there is no face to find or no detection.
    """
    faces = int(sum(np.count_nonzero(c) for c in counted))
    scores = np.concatenate([m.scores for m in matches]) if matches else np.zeros(0)
    hits, proposals = judged(matches, counted, left_out)
    if not faces or not len(scores):
        return Curve(0.0, np.zeros(THRESHOLDS), np.zeros(THRESHOLDS))
    low, high = scores.min(), scores.max()
    normal = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS  # [T], falling to 0
    found_hits = _count_at(normal[hits], thresholds)
    found_all = _count_at(normal[proposals], thresholds)
    # Without proposals precision is 0/0 in the tool, which its envelope then skips; 0 has the same effect.
    precision = found_hits / np.maximum(found_all, 1)
    recall = found_hits / faces
    return Curve(voc_ap(recall, precision), precision, recall)


def judged(
    matches: Sequence[Matches], counted: Sequence[np.ndarray], left_out: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of all detections, image after image, those that hit, and those that are not ignored: bool [D] each; arguments
    as `average_precision`."""
    hits, proposals = [np.zeros(0, bool)], [np.zeros(0, bool)]
    for index, (found, wanted) in enumerate(zip(matches, counted, strict=True)):
        on_face = found.face >= 0
        on_counted = on_face.copy()
        on_counted[on_face] = np.asarray(wanted, bool)[found.face[on_face]]
        kept = on_counted | ~on_face
        if left_out is not None:
            kept &= ~left_out[index]
        proposals.append(kept)
        hits.append(kept & on_counted & first_on_face(found))
    return np.concatenate(hits), np.concatenate(proposals)


class OperatingPoint(NamedTuple):
    """What a score threshold gives; all but the threshold in percent, precision None without a detection."""

    threshold: float
    precision: float | None
    recall: float
    f1: float


def operating_points(
    matches: Sequence[Matches], counted: Sequence[np.ndarray], thresholds: Sequence[float] | np.ndarray
) -> list[OperatingPoint]:
    """Precision, recall and F1 of the detections from each score threshold on; arguments as `average_precision`."""
    faces = int(sum(np.count_nonzero(c) for c in counted))
    scores = np.concatenate([np.zeros(0), *(m.scores for m in matches)])
    hits, proposals = judged(matches, counted)
    found_hits, found_all = _count_at(scores[hits], thresholds), _count_at(scores[proposals], thresholds)
    points = []
    for threshold, hit, every in zip(thresholds, found_hits.tolist(), found_all.tolist(), strict=True):
        f1 = 200 * hit / (every + faces) if every + faces else 0.0
        recall = 100 * hit / faces if faces else 0.0
        points.append(OperatingPoint(float(threshold), 100 * hit / every if every else None, recall, f1))
    return points


def best_f1(matches: Sequence[Matches], counted: Sequence[np.ndarray]) -> OperatingPoint | None:
    """The threshold of the highest F1, the highest of several; None without a detection."""
    scores = np.unique(np.concatenate([np.zeros(0), *(m.scores for m in matches)]))[::-1]
    # Rounded down to what a person would write, so that the detection itself stays above.
    points = operating_points(matches, counted, np.unique(np.floor(scores * 1e4) / 1e4)[::-1])
    return max(points, key=lambda point: point.f1, default=None)


def _count_at(scores: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many scores are ≥ each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def voc_ap(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the precision envelope; `recall` must not fall. Source: VOC 2010 development kit."""
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def read_ground_truth(gt_dir: str | Path) -> dict[str, OfficialFaces]:
    """Read the official files `wider_face_val.mat` and `wider_{easy,medium,hard}_val.mat`.

    Returns:
        "event/image" (no suffix) → its faces.

    Raises:
        GroundTruthError: a file is missing or is not what it should be.
    """
    folder = Path(gt_dir)
    names = _load_mat(folder / "wider_face_val.mat", ("event_list", "file_list", "face_bbx_list", "invalid_label_list"))
    subsets = {s: _load_mat(folder / f"wider_{s}_val.mat", ("gt_list",))["gt_list"] for s in SUBSETS}
    truth = {}
    try:
        for event, event_name in enumerate(names["event_list"][:, 0]):
            for image, image_name in enumerate(names["file_list"][event, 0][:, 0]):
                boxes = names["face_bbx_list"][event, 0][image, 0].astype(np.float32).reshape(-1, 4)
                boxes[:, 2:] += boxes[:, :2]  # the files hold x y w h
                counted = {}
                for subset, lists in subsets.items():
                    counted[subset] = np.zeros(len(boxes), bool)
                    counted[subset][lists[event, 0][image, 0].astype(np.int64).ravel() - 1] = True  # MATLAB's from 1
                valid = names["invalid_label_list"][event, 0][image, 0].ravel() == 0
                truth[f"{event_name[0]}/{image_name[0]}"] = OfficialFaces(boxes, valid, counted)
    except (IndexError, ValueError, AttributeError, TypeError) as error:
        raise GroundTruthError(f"{folder}: the .mat files do not fit each other ({error})") from error
    return truth


def _load_mat(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # only here, so that AP on label.txt needs no SciPy

    if not path.is_file():
        raise GroundTruthError(f"{path}: not found; --gt_dir needs the official WIDER FACE evaluation .mat files")
    try:
        content = loadmat(str(path))
    except Exception as error:  # loadmat raises whatever its parser stumbles over
        raise GroundTruthError(f"{path}: not a readable .mat file ({type(error).__name__}: {error})") from error
    if missing := [key for key in keys if key not in content]:
        raise GroundTruthError(f"{path}: lacks {missing}; expected an official WIDER FACE evaluation file")
    return content
