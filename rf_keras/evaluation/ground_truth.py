"""What evaluation compares with: labelled faces, those of the official .mat files, or both."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rf_keras.evaluation.wider_ap import GroundTruthError, OfficialFaces, inclusive_iou, read_ground_truth
from rf_keras.labels import MAX_MISSING, UNKNOWN, NoLabels, Sample, read_labels
from tflite.finding import images_below

SAME_BOX_IOU = 0.9  # both sources hold the annotators' boxes; rounding aside they are equal


@dataclass(frozen=True, eq=False)
class Truth:
    """One image to evaluate on.

    Attributes:
        image: path of the file.
        boxes: float32 [G, 4] x1 y1 x2 y2 in image pixels.
        landmarks: float32 [G, 5, 2] in image pixels; all −1 where unknown.
        valid: bool [G]; detections on the others are neither hits nor false alarms.
        counted: official subset → bool [G]; empty without .mat files.
        split_size: images of the official split that this is one of; 0 without .mat files.
    """

    image: Path
    boxes: np.ndarray
    landmarks: np.ndarray
    valid: np.ndarray
    counted: dict[str, np.ndarray] = field(default_factory=dict)
    split_size: int = 0


def truth_of_samples(samples: Sequence[Sample]) -> list[Truth]:
    """Every labelled face counts, but for those to ignore."""
    return [
        Truth(
            s.image,
            np.concatenate([s.boxes, s.ignored]),
            np.concatenate([s.landmarks, np.full((len(s.ignored), 5, 2), UNKNOWN, np.float32)]),
            np.arange(len(s.boxes) + len(s.ignored)) < len(s.boxes),
        )
        for s in samples
    ]


def read_truth(data_dir: str | Path, gt_dir: str | Path | None = None, max_missing: float = MAX_MISSING) -> list[Truth]:
    """The images of a data folder and their faces.

    Args:
        data_dir: folder with pictures and, unless `gt_dir` is given, labels; or a label file (see `read_labels`).
        gt_dir: folder of the official .mat files. Then the images are those below `data_dir` that they know, as
            `<event>/<name>` or by their names alone; labels only add landmarks.
        max_missing: as `read_labels` takes it.

    Raises:
        LabelError, GroundTruthError: nothing to evaluate on, or malformed files.
    """
    if gt_dir is None:
        return truth_of_samples(read_labels(data_dir, max_missing, split="val"))
    images = Path(data_dir) / "images"
    if not images.is_dir():
        images = Path(data_dir)
    if not images.is_dir():
        raise GroundTruthError(f"{images}: no such folder, expected one with images of WIDER FACE")
    official = read_ground_truth(gt_dir)
    by_name = {key.rpartition("/")[2]: key for key in official}
    unreadable: list[str] = []
    files = images_below(images, unreadable)
    if unreadable:
        raise GroundTruthError(unreadable[0])
    keys = {path: key for path in files if (key := _key(path, official, by_name))}
    if not keys:
        raise GroundTruthError(f"{images}: none of its {len(files)} images is one that the .mat files in {gt_dir} know")
    labels: dict[Path, Sample] = {}
    with contextlib.suppress(NoLabels):
        labels = {sample.image: sample for sample in read_labels(data_dir, max_missing)}
    return [_official_truth(path, official[key], labels.get(path), len(official)) for path, key in keys.items()]


def _key(path: Path, official: Mapping[str, OfficialFaces], by_name: Mapping[str, str]) -> str | None:
    """event/name of a file in the .mat files; None where they do not know it."""
    key = f"{path.parent.name}/{path.stem}"
    return key if key in official else by_name.get(path.stem)


def _official_truth(path: Path, faces: OfficialFaces, labels: Sample | None, split_size: int) -> Truth:
    landmarks = np.full((len(faces.boxes), 5, 2), UNKNOWN, np.float32)
    if labels is not None and len(labels.boxes) and len(faces.boxes):
        iou = inclusive_iou(labels.boxes, faces.boxes)
        best = iou.argmax(axis=1)
        same = iou[np.arange(len(best)), best] >= SAME_BOX_IOU
        landmarks[best[same]] = labels.landmarks[same]
    return Truth(path, faces.boxes, landmarks, faces.valid, faces.counted, split_size)
