"""Make a training folder of unlabelled pictures: leave out copies of the evaluation photos, label the rest.

    python recipes/pictures.py --pictures FOLDER|PATTERN --leave_out WIDER_dev --output DIR

Writes DIR/label.txt and DIR/images (links to the pictures, which stay where they are). Each picture is detected in with
a frame of its own size around it, as a face that fills the picture is found more surely so.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
from tqdm import tqdm

from rf_keras.labels import format_label
from tflite.command import option, start
from tflite.detector import FaceDetector
from tflite.files import write_text
from tflite.finding import expand_inputs
from tflite.images import ImageError, read_image
from tflite.shipped import DEFAULT_MODEL

FRAME = 0.25  # of the longer side, on each side of the picture
SAME_BITS = 6  # of 64: pictures whose hashes differ in no more are copies of one another
HASH_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which pictures, and who labels them."""

    pictures: str = option(text="folder of pictures, searched with its subfolders, or a pattern")
    leave_out: str = option(text="folder of pictures whose copies are left out")
    model: Path = option(DEFAULT_MODEL, "detector that labels (.tflite)")
    output: Path = option(text="folder to make")
    score_threshold: float = option(0.5, "lowest score of a face that becomes a label", low=0, high=1)


def difference_hash(image: np.ndarray) -> np.ndarray:
    """uint8 BGR [H, W, 3] → bool [64]: whether each cell of a 9×8 thumbnail is brighter than the one to its right
    (dHash, Krawetz 2013): equal for copies of other size and compression."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, :-1] > small[:, 1:]).reshape(-1)


def label(detector: FaceDetector, image: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 [N, 4] and landmarks [N, 5, 2] of a picture's faces, in its pixels, boxes clipped to it."""
    edge = round(FRAME * max(image.shape[:2]))
    fill = tuple(round(value) for value in detector.spec.mean)
    framed = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=fill)
    found = detector.detect(framed, score_threshold=threshold)
    height, width = image.shape[:2]
    boxes = np.clip(found.boxes - edge, 0, [width, height, width, height])
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes[seen], (found.landmarks - edge)[seen]


def find_pictures(argument: str) -> list[tuple[Path, Path]]:
    """(path, name) of the pictures of a folder or glob pattern; ValueError where there is none."""
    found, errors = expand_inputs([argument])
    if errors:
        raise ValueError(errors[0])
    return found


def prepare(pictures: str, leave_out: str, model: Path, output: Path, threshold: float) -> dict[str, int]:
    """Write the folder; returns how many pictures, faces, copies left out and unreadable files there were."""
    known = np.array([difference_hash(read_image(path)) for path, _ in find_pictures(leave_out)])
    detector = FaceDetector(model)
    counts = dict.fromkeys(("pictures", "faces", "copies", "unreadable"), 0)
    lines: list[str] = []
    for path, name in tqdm(find_pictures(pictures), unit="picture", disable=None):
        try:
            image = read_image(path)
        except ImageError as error:
            print(error, file=sys.stderr)
            counts["unreadable"] += 1
            continue
        if (known != difference_hash(image)).sum(axis=1).min(initial=64) <= SAME_BITS:
            counts["copies"] += 1
            continue
        target = output / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(path.resolve())
        boxes, landmarks = label(detector, image, threshold)
        lines += [f"# {name.as_posix()}", *format_label(boxes, landmarks)]
        counts["pictures"] += 1
        counts["faces"] += len(boxes)
    write_text(output / "label.txt", "\n".join(lines) + "\n")
    return counts


def run(options: Options) -> dict[str, int]:
    """Make the folder; returns the counts of `prepare`."""
    counts = prepare(options.pictures, options.leave_out, options.model, options.output, options.score_threshold)
    print(f"{options.output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
