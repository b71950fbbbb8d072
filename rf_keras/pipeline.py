"""From samples to batches, inside tf.data: read, decode the window, augment, batch.

    python -m rf_keras.pipeline --show 16 --output grid.png --data_dir D --augment scale
    python -m rf_keras.pipeline --benchmark --size 640 --data_dir D

Item i of the stream draws its random numbers from (seed, i) alone: neither the number of threads nor a restart at any
item changes what it looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from rf_keras import augment
from rf_keras.augment import PRESETS, AugmentConfig
from rf_keras.wider import UNKNOWN, Sample, read_labels
from tflite.spec import ModelSpec


@dataclass(frozen=True)
class DataConfig:
    """How batches are made.

    Attributes:
        size: side of the square images, in pixels.
        batch: images per batch; with several workers, over all of them.
        augment: see `AugmentConfig`; named ones are in `augment.PRESETS`.
        seed: of all random choices.
        fill: colour (BGR, 0-255) outside the photo.
        threads: images worked on at once; 0 lets tf.data choose.
    """

    size: int = 640
    batch: int = 8
    augment: AugmentConfig = PRESETS["reference"]
    seed: int = 0
    fill: tuple[float, ...] = ModelSpec.mean
    threads: int = 0


def read_folders(data_dirs: Sequence[str | Path], max_missing: float = 0.0) -> tuple[list[Sample], list[int]]:
    """Samples of several folders, joined, and how many come from each (what `sample_stream` needs)."""
    groups = [read_labels(folder, max_missing) for folder in data_dirs]
    return [sample for group in groups for sample in group], [len(group) for group in groups]


def sample_stream(sizes: Sequence[int], weights: Sequence[float] | None, seed: int, total: int) -> np.ndarray:
    """Which sample each item of a training run shows.

    Args:
        sizes: samples per data folder; folder d's samples have the indices after those of the folders before it.
        weights: share of the items from each folder, in any unit; None: in proportion to `sizes`, i.e. one shuffle of
            everything per pass.
        total: items in the run.

    Returns:
        int64 [total] sample indices. Each folder is reshuffled on every pass over it, so no sample is seen a second
        time before all of its folder were seen. A longer run starts with the items of a shorter one.

    Raises:
        ValueError: an empty folder, or weights that are negative, all zero or of the wrong count.
    """
    sizes = list(sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"data folders hold {sizes} images, expected at least one each")
    if weights is None:
        return _passes(sum(sizes), seed, 0, total)
    weights = [float(weight) for weight in weights]
    if len(weights) != len(sizes) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError(f"data weights are {weights}, expected {len(sizes)} numbers >= 0, not all 0")
    shares = np.asarray(weights) / sum(weights)
    folder = np.random.default_rng((seed, len(sizes))).choice(len(sizes), size=total, p=shares)  # [total]
    stream = np.empty(total, np.int64)
    first = 0
    for index, size in enumerate(sizes):
        mine = folder == index
        stream[mine] = first + _passes(size, seed, index + 1, int(mine.sum()))
        first += size
    return stream


def _passes(size: int, seed: int, key: int, total: int) -> np.ndarray:
    passes = -(-total // size)
    shuffled = [np.random.default_rng((seed, key, number)).permutation(size) for number in range(passes)]
    return np.concatenate(shuffled)[:total].astype(np.int64) if shuffled else np.empty(0, np.int64)


def make_batches(
    samples: Sequence[Sample],
    config: DataConfig,
    stream: np.ndarray,
    start: int = 0,
    drop_remainder: bool = True,
    worker: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of augmented images.

    Args:
        samples: what the stream's indices point at.
        stream: int64 [total] indices, e.g. of `sample_stream`; `np.arange(len(samples))` for one pass in order.
        start: first item to make, e.g. step · batch on a resume: later items are the same as in an unbroken run.
        drop_remainder: leave out a last batch that is not full.
        worker: (index, count): this worker's rows, a contiguous share of each batch; `batch` is a multiple of count.

    Returns:
        Dataset of dicts, in the order of the stream: `image` uint8 [B, S, S, 3] BGR; `boxes` float32 [B, G, 4] x1, y1,
        x2, y2 in pixels of that image; `landmarks` float32 [B, G, 5, 2], all −1 where unknown; `count` int32 [B]: rows
        of `boxes` and `landmarks` that are faces. G is the batch's largest count, at least 1; the rest is zeros
        (landmarks −1).

    Raises:
        ValueError: the batch cannot be shared by the workers, or the stream does not fit the samples.
        tf.errors.InvalidArgumentError while iterating: a file is no readable image (`unreadable_images` names it).
    """
    index, workers = worker
    if config.batch % workers or not 0 <= index < workers:
        raise ValueError(f"worker {index} of {workers} cannot take a share of batches of {config.batch}")
    if len(stream) and not 0 <= stream.min() <= stream.max() < len(samples):
        raise ValueError(f"the stream names samples {stream.min()} to {stream.max()}, expected 0 to {len(samples) - 1}")
    local = config.batch // workers
    positions = np.arange(start, len(stream), dtype=np.int64)
    if workers > 1:
        whole = positions[: len(positions) // config.batch * config.batch]
        positions = whole.reshape(-1, workers, local)[:, index].reshape(-1)

    paths = tf.constant([str(sample.image) for sample in samples])
    counts = [len(sample.boxes) for sample in samples]
    ends = tf.constant(np.cumsum(counts), tf.int64)
    starts = ends - tf.constant(counts, tf.int64)
    # One table for all faces: tf.data then hands out slices and never goes back to Python.
    boxes = tf.constant(np.concatenate([sample.boxes for sample in samples]), tf.float32)
    landmarks = tf.constant(np.concatenate([sample.landmarks for sample in samples]), tf.float32)

    def make_item(position: tf.Tensor, sample: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = slice(starts[sample], ends[sample])
        return augment_item(tf.io.read_file(paths[sample]), boxes[rows], landmarks[rows], position, config)

    shapes = {"image": [config.size, config.size, 3], "boxes": [None, 4], "landmarks": [None, 5, 2], "count": []}
    padding = {
        "image": np.uint8(0),
        "boxes": np.float32(0),
        "landmarks": np.float32(UNKNOWN),
        "count": np.int32(0),
    }
    data = tf.data.Dataset.from_tensor_slices((positions, stream[positions]))
    data = data.map(make_item, num_parallel_calls=config.threads or tf.data.AUTOTUNE, deterministic=True)
    data = data.padded_batch(local, shapes, padding, drop_remainder)
    return data.map(_at_least_one_row).prefetch(2)


def _at_least_one_row(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch of negatives gets one padding row: consumers take maxima over faces, and there is none over nothing."""
    rows = tf.shape(batch["boxes"])[1]
    missing = tf.maximum(1 - rows, 0)
    boxes = tf.pad(batch["boxes"], [[0, 0], [0, missing], [0, 0]])
    landmarks = tf.pad(batch["landmarks"], [[0, 0], [0, missing], [0, 0], [0, 0]], constant_values=UNKNOWN)
    return {**batch, "boxes": boxes, "landmarks": landmarks}


def augment_item(
    data: tf.Tensor, boxes: tf.Tensor, landmarks: tf.Tensor, position: tf.Tensor, config: DataConfig
) -> dict[str, tf.Tensor]:
    """One image file and its faces → one training example.

    Args:
        data: string scalar, the bytes of a JPEG, PNG or BMP file (stored orientation: EXIF is not applied, as labels
            refer to stored pixels).
        boxes: float32 [N, 4]; landmarks: float32 [N, 5, 2]; in pixels of the file.
        position: int64 scalar, the item's place in the stream; with the seed it decides all that is random.

    Returns:
        `image`, `boxes`, `landmarks`, `count` as `make_batches` gives them, without the batch dimension.
    """
    recipe, size = config.augment, config.size
    candidates = recipe.crop_trials * 3
    draws = tf.random.stateless_uniform(
        [candidates + augment.COLOUR_DRAWS + 2], seed=tf.stack([tf.constant(config.seed, tf.int64), position])
    )
    window_draws = tf.reshape(draws[:candidates], [-1, 3])
    colour_draws = draws[candidates : candidates + augment.COLOUR_DRAWS]
    flip, interpolation = draws[-2] < recipe.flip_chance, draws[-1]

    # Only the window of a JPEG is decoded; other formats have to be decoded to learn their size.
    is_jpeg = tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff")
    shape, decoded = tf.cond(
        is_jpeg,
        lambda: (tf.io.extract_jpeg_shape(data), tf.zeros([0, 0, 3], tf.uint8)),
        lambda: _decode_other(data),
    )
    height, width = shape[0], shape[1]
    window = augment.choose_window(boxes, height, width, window_draws, recipe, size)
    place = augment.place_window(window, height, width, size)
    image = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_and_crop_jpeg(data, tf.stack(place[:4]), channels=3),
        lambda: decoded[place.top : place.top + place.height, place.left : place.left + place.width],
    )

    image = augment.change_colour(tf.cast(image, tf.float32), colour_draws, recipe)
    image = augment.resize(image, place.out_height, place.out_width, interpolation, recipe)
    image = tf.saturate_cast(tf.round(image), tf.uint8)
    image = augment.fill_square(image, place, config.fill[::-1], size)
    image = augment.mirror_and_swap(image, flip)
    boxes, landmarks = augment.move_faces(boxes, landmarks, window, place, flip, recipe, size)
    return {"image": image, "boxes": boxes, "landmarks": landmarks, "count": tf.shape(boxes)[0]}


def _decode_other(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return tf.shape(image), image


def unreadable_images(samples: Sequence[Sample]) -> list[Path]:
    """The samples' files that TensorFlow cannot decode: decodes them all, so call it once batches have failed."""

    def readable(path: tf.Tensor) -> bool:
        try:
            tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        except tf.errors.OpError:
            return False
        return True

    return [sample.image for sample in samples if not readable(str(sample.image))]
