"""What evaluation compares with: faces of label.txt, of the official .mat files, or of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rf_keras.evaluation.wider_ap import GroundTruthError, OfficialFaces, inclusive_iou, read_ground_truth
from rf_keras.wider import LABEL_FILE, Sample, read_labels
from tflite.images import IMAGE_SUFFIXES

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
    """

    image: Path
    boxes: np.ndarray
    landmarks: np.ndarray
    valid: np.ndarray
    counted: dict[str, np.ndarray] = field(default_factory=dict)


def truth_of_samples(samples: Sequence[Sample]) -> list[Truth]:
    """Every labelled face counts."""
    return [Truth(s.image, s.boxes, s.landmarks, np.ones(len(s.boxes), bool)) for s in samples]


def read_truth(data_dir: str | Path, gt_dir: str | Path | None = None) -> list[Truth]:
    """The images of a data folder and their faces.

    Args:
        data_dir: folder with `images/` and, unless `gt_dir` is given, labels (see `read_labels`).
        gt_dir: folder of the official .mat files. Then the images are those of `data_dir` that they know, as
            `images/<event>/<name>`; a label.txt only adds landmarks.

    Raises:
        LabelError, GroundTruthError: nothing to evaluate on, or malformed files.
    """
    if gt_dir is None:
        return truth_of_samples(read_labels(data_dir))
    images = Path(data_dir) / "images"
    if not images.is_dir():
        raise GroundTruthError(
            f"{images}: no such folder, expected the images of WIDER FACE as images/<event>/<name>.jpg"
        )
    official = read_ground_truth(gt_dir)
    files = sorted(path for path in images.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    known = [path for path in files if _key(path) in official]
    if not known:
        raise GroundTruthError(f"{images}: none of its {len(files)} images is one that the .mat files in {gt_dir} know")
    labels = {}
    if (Path(data_dir) / LABEL_FILE).is_file():
        labels = {_key(sample.image): sample for sample in read_labels(data_dir)}
    return [_official_truth(path, official[_key(path)], labels.get(_key(path))) for path in known]


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _official_truth(path: Path, faces: OfficialFaces, labels: Sample | None) -> Truth:
    landmarks = np.full((len(faces.boxes), 5, 2), -1, np.float32)
    if labels is not None and len(labels.boxes) and len(faces.boxes):
        iou = inclusive_iou(labels.boxes, faces.boxes)
        best = iou.argmax(axis=1)
        same = iou[np.arange(len(best)), best] >= SAME_BOX_IOU
        landmarks[best[same]] = labels.landmarks[same]
    return Truth(path, faces.boxes, landmarks, faces.valid, faces.counted)
