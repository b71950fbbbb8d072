"""Read labelled pictures of any known format, check them and write them in another.

    python -m rf_keras.labels IN                                      what it is, and what looks wrong in it
    python -m rf_keras.labels IN --output OUT --format coco|yolo|voc|wider|label

IN is a folder or a label file: COCO JSON, YOLO (data.yaml, or labels/ beside images/), Pascal VOC, WIDER FACE's own
format, label.txt, labelv2.txt; or what `python -m tflite.detect --json F` or `--jsonl F` wrote, as pseudo-labels.
Pictures and labels are as a viewer shows them: turned by EXIF. Points are YOLO's keypoints and VOC's parts; what is to
be ignored is COCO's iscrowd, VOC's difficult, WIDER's invalid and a class "ignore" of YOLO.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_keras.labels.model import LabelError
from rf_keras.labels.reading import MAX_MISSING, describe, read_labels
from rf_keras.labels.writing import FORMATS, PLACEMENTS, write_set
from tflite.command import option, start


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, and what to write."""

    source: tuple[Path, ...] = option((), "folder or label file to read", arguments="only")
    output: Path | None = option(None, "folder to write to, new or empty")
    format: str | None = option(None, "of the labels to write", choices=tuple(FORMATS))
    pictures: str = option("link", "link to the pictures in --output, copy them, or none of that", choices=PLACEMENTS)
    classes: str = option("", "names of the classes that are faces, comma-separated (default: those named face)")
    split: str = option("train", "part of a YOLO data.yaml to take", choices=("train", "val"))
    least_score: float = option(0.0, "of a detector's answers, those to take", low=0, high=1)
    max_missing: float = option(
        MAX_MISSING, "largest share of labelled images that may be missing or unreadable, 0 to 1", low=0, high=1
    )
    json: Path | None = option(None, "file to write the counts to")


def run(options: Options) -> dict[str, Any]:
    """Read, print, write; returns the counts.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    if len(options.source) != 1:
        raise LabelError(f"{len(options.source)} sources, expected one folder or label file")
    if bool(options.output) != bool(options.format):
        raise LabelError("--output and --format go together: give both, or none to look only")
    (source,) = options.source
    classes = [name for name in options.classes.split(",") if name]
    samples = read_labels(
        source, options.max_missing, split=options.split, classes=classes, least_score=options.least_score
    )
    counts: dict[str, Any] = {
        "format": describe(source),
        "images": len(samples),
        "faces": sum(len(sample.boxes) for sample in samples),
        "with_points": sum(int((sample.landmarks != -1).any(axis=(1, 2)).sum()) for sample in samples),
        "ignored": sum(len(sample.ignored) for sample in samples),
    }
    print(
        f"{source}: {counts['format']}, {counts['images']} images, {counts['faces']} faces, "
        f"{counts['with_points']} with points, {counts['ignored']} to ignore"
    )
    if options.output and options.format:
        for line in write_set(samples, options.output, options.format, options.pictures):
            print(line)
        print(f"wrote {options.output}")
    return counts


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
