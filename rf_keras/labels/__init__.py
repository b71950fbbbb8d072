"""Labelled pictures: COCO JSON, YOLO, Pascal VOC, WIDER FACE, label.txt and labelv2.txt, read alike and written back.

Boxes and points are in the pixels of the picture as a viewer shows it: turned as EXIF says.
"""

from rf_keras.labels.checks import check_apart
from rf_keras.labels.model import LABEL_FILE, UNKNOWN, LabelError, NoLabels, Sample
from rf_keras.labels.reading import MAX_MISSING, describe, read_labels
from rf_keras.labels.retinaface import format_label

__all__ = [
    "LABEL_FILE",
    "MAX_MISSING",
    "UNKNOWN",
    "LabelError",
    "NoLabels",
    "Sample",
    "check_apart",
    "describe",
    "format_label",
    "read_labels",
]
