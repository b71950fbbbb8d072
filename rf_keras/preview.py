"""See what training sees: augmented samples with their boxes, landmarks and matched anchors, as one picture.

python -m rf_keras.preview --count 16 --output grid.png --data_dir D --augment scale
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from rf_keras.augment_config import PRESETS
from rf_keras.config import REFERENCE_ANCHORS, SMALL_ANCHORS, ModelConfig
from rf_keras.labels import MAX_MISSING, UNKNOWN
from tflite.command import option, start
from tflite.draw import BOX_COLOR, LANDMARK_COLORS
from tflite.images import write_image
from tflite.messages import printable

ANCHOR_SETS = {"reference": REFERENCE_ANCHORS, "small": SMALL_ANCHORS}
ANCHOR_COLOR = (255, 160, 60)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to show."""

    count: int = option(16, "samples", low=1)
    output: Path = option(Path("samples.png"), "picture to write")
    data_dir: tuple[Path, ...] = option((), "folder with images/ and labels; repeatable (default: synthetic faces)")
    max_missing: float = option(
        MAX_MISSING, "largest share of labelled images that may be missing or unreadable, 0 to 1", low=0, high=1
    )
    augment: str = option("scale", "augmentation preset", choices=tuple(PRESETS))
    closeups: float = option(0.0, "share of the images that show one face filling the frame, 0 to 1", low=0, high=1)
    anchors: str = option("reference", "anchor sizes to match", choices=tuple(ANCHOR_SETS))
    size: int = option(640, "side of the square images, pixels, a multiple of 32")
    seed: int = option(0, "of order and augmentation")


def draw_batch(batch: dict[str, np.ndarray], model: ModelConfig) -> np.ndarray:
    """A grid of a batch's images with boxes (green), landmarks and the anchors matched to each face (blue).

    Landmarks have the colours of `tflite.draw`, so that a swap of left and right is seen. Returns uint8 BGR.
    """
    import tensorflow as tf

    from rf_keras.matching import match

    size = batch["image"].shape[1]
    anchors = model.anchors(size, size)
    matched = match(tf.constant(batch["boxes"]), tf.constant(batch["count"]), model, size, size).numpy()
    columns = math.ceil(math.sqrt(len(matched)))
    grid = np.zeros((math.ceil(len(matched) / columns) * size, columns * size, 3), np.uint8)
    for at, image in enumerate(batch["image"]):
        tile = image.copy()
        for x, y, side in anchors[matched[at] >= 0]:
            _rectangle(tile, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), ANCHOR_COLOR)
        faces = batch["count"][at]
        for box, points in zip(batch["boxes"][at, :faces], batch["landmarks"][at, :faces], strict=True):
            _rectangle(tile, box, BOX_COLOR)
            if (points != UNKNOWN).any():
                for (x, y), colour in zip(points, LANDMARK_COLORS, strict=True):
                    cv2.circle(tile, (round(float(x)), round(float(y))), max(1, size // 300), colour, -1, cv2.LINE_AA)
        row, column = divmod(at, columns)
        grid[row * size : (row + 1) * size, column * size : (column + 1) * size] = tile
    return grid


def _rectangle(image: np.ndarray, box: Sequence[float] | np.ndarray, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 1)


def run(options: Options) -> None:
    """Draw and write.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    import tensorflow as tf

    from rf_keras.pipeline import DataConfig, make_batches, read_folders, sample_stream, unreadable_images
    from rf_keras.synthetic import synthetic_dir

    samples, sizes = read_folders(options.data_dir or [synthetic_dir("train")], options.max_missing)
    recipe = replace(PRESETS[options.augment], closeup_share=options.closeups)
    config = DataConfig(size=options.size, batch=options.count, augment=recipe, seed=options.seed)
    stream = sample_stream(sizes, None, options.seed, options.count)
    try:
        batch = next(make_batches(samples, config, stream).as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        bad = unreadable_images(samples)
        if not bad:
            raise
        raise ValueError(f"{bad[0]}: no readable image ({len(bad)} of {len(samples)})") from error
    write_image(options.output, draw_batch(batch, ModelConfig(anchor_sizes=ANCHOR_SETS[options.anchors])))
    print(f"{options.count} samples, {int(batch['count'].sum())} faces: {printable(options.output)}")


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
