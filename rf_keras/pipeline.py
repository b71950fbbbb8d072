"""From samples to batches, inside tf.data: read, decode the window, augment, batch.

Item i of the stream draws its random numbers from (seed, i) alone: neither the number of threads nor a restart at any
item changes what it looks like. (Mixed with another of its batch, it also depends on how batches are shared out.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rf_keras import augment
from rf_keras.augment_config import PRESETS, AugmentConfig
from rf_keras.config import TrainConfig
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.mixing import MIX_DRAWS, mix_batch
from rf_keras.distillation.teacher import open_teacher
from rf_keras.labels import MAX_MISSING, UNKNOWN, Sample, read_labels
from tflite.images import ImageError, read_image
from tflite.spec import ModelSpec

CLOSEUP_STREAM = -(1 << 40)  # streams of random numbers of their own: what else is drawn stays
# Around the window that is decoded of a JPEG: at its edge libjpeg makes colours up where it lacks the neighbours.
DECODED_MARGIN = 16


@dataclass(frozen=True)
class DataConfig:
    """How batches are made.

    Attributes:
        size: side of the square images, in pixels.
        more_sizes: further sides; batches take turns, `size` first.
        batch: images per batch; with several workers, over all of them.
        augment: see `AugmentConfig`; named ones are in `augment.PRESETS`.
        seed: of all random choices.
        fill: colour (BGR, 0-255) outside the photo.
        threads: images worked on at once; 0 lets tf.data choose.
        distillation: who is asked about every image, and whether labels correct the answers; None: nobody is.
    """

    size: int = 640
    more_sizes: tuple[int, ...] = ()
    batch: int = 8
    augment: AugmentConfig = PRESETS["reference"]
    seed: int = 0
    fill: tuple[float, ...] = ModelSpec.mean
    threads: int = 0
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        for size in (self.size, *self.more_sizes):
            if size < 32 or size % 32:
                raise ValueError(f"size is {size}, expected a multiple of 32 pixels")
        if self.batch < 1 or self.threads < 0:
            raise ValueError(f"batch {self.batch}, threads {self.threads}: expected batch >= 1, threads >= 0")


def data_config(config: TrainConfig) -> DataConfig:
    """How a training run makes its batches."""
    return DataConfig(
        size=config.size,
        more_sizes=config.more_sizes,
        batch=config.batch,
        augment=replace(PRESETS[config.augment], closeup_share=config.closeups),
        seed=config.seed,
        distillation=config.distillation,
    )


def read_folders(
    data_dirs: Sequence[str | Path], max_missing: float = MAX_MISSING, split: str = "train"
) -> tuple[list[Sample], list[int]]:
    """Samples of several folders, joined, and how many come from each (what `sample_stream` needs).

    `max_missing` and `split` as `read_labels` takes them.
    """
    groups = [read_labels(folder, max_missing, split=split) for folder in data_dirs]
    return [sample for group in groups for sample in group], [len(group) for group in groups]


def correcting(distillation: Distillation | None, sizes: Sequence[int]) -> np.ndarray | None:
    """Which samples correct a teacher: bool [N], for folders of `sizes` samples each; None where nobody's do."""
    if distillation is None or not any(distillation.correct_with_labels):
        return None
    return np.repeat(np.array(distillation.correct_with_labels, bool), sizes)


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
    replicas: int = 1,
    corrected: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of augmented images.

    Args:
        samples: what the stream's indices point at.
        stream: int64 [total] indices, e.g. of `sample_stream`; `np.arange(len(samples))` for one pass in order.
        start: first item to make, e.g. step · batch on a resume: later items are the same as in an unbroken run.
        drop_remainder: leave out a last batch that is not full.
        worker: (index, count): make only this worker's rows, a contiguous share of each batch.
        replicas: accelerators of this worker: its share comes as that many batches, one for each.
        corrected: bool [N], samples whose labels correct a teacher (`correcting`); None: nobody's do.

    Returns:
        Dataset of dicts, in the order of the stream: `image` uint8 [B, S, S, 3] BGR, S of batch i (items i · batch and
        on) being the i-th of `size` and `more_sizes`, counted round; `boxes` float32 [B, G, 4] x1, y1,
        x2, y2 in pixels of that image; `landmarks` float32 [B, G, 5, 2], all −1 where unknown; `count` int32 [B]: rows
        of `boxes` and `landmarks` that are faces. G is the batch's largest count, at least 1; the rest is zeros
        (landmarks −1). With a teacher also `teacher`, its answers (`Scrfd.__call__`). With `corrected` also `in_view`,
        float32 [B, V, 4], every face that can be seen, however small or cut, clipped to the image, V at least 1 and the
        rest zeros; and `corrected`, bool [B]: images of such samples that were not mixed.

    Raises:
        ValueError: the batch cannot be shared evenly, or the stream does not fit the samples.
        tf.errors.OpError while iterating: a file is no readable image (`unreadable_images` names it).
    """
    index, workers = worker
    if config.batch % (workers * replicas) or not 0 <= index < workers:
        raise ValueError(
            f"worker {index} of {workers} with {replicas} replicas cannot take a share of batches of {config.batch}"
        )
    if len(stream) and not 0 <= stream.min() <= stream.max() < len(samples):
        raise ValueError(f"the stream names samples {stream.min()} to {stream.max()}, expected 0 to {len(samples) - 1}")
    positions = np.arange(start, len(stream), dtype=np.int64)
    if workers * replicas > 1:
        whole = positions[: len(positions) // config.batch * config.batch]
        positions = whole.reshape(-1, workers, config.batch // workers)[:, index].reshape(-1)

    paths = tf.constant([str(sample.image) for sample in samples])
    counts = [len(sample.boxes) for sample in samples]
    ends = tf.constant(np.cumsum(counts), tf.int64)
    starts = ends - tf.constant(counts, tf.int64)
    # One table for all faces: tf.data then hands out slices and never goes back to Python.
    boxes = tf.constant(np.concatenate([sample.boxes for sample in samples]), tf.float32)
    landmarks = tf.constant(np.concatenate([sample.landmarks for sample in samples]), tf.float32)
    corrects = tf.constant(np.zeros(len(samples), bool) if corrected is None else corrected)
    plain = tf.constant([sample.plain for sample in samples])
    regions = [len(sample.ignored) for sample in samples]
    region_ends = tf.constant(np.cumsum(regions), tf.int64)
    region_starts = region_ends - tf.constant(regions, tf.int64)
    ignored = tf.constant(np.concatenate([sample.ignored for sample in samples]), tf.float32) if any(regions) else None

    @tf.autograph.experimental.do_not_convert  # plain tensor code; converting it takes seconds
    def make_item(position: tf.Tensor, sample: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = slice(starts[sample], ends[sample])
        picture = Picture(paths[sample], plain[sample])
        hidden = None if ignored is None else ignored[region_starts[sample] : region_ends[sample]]
        item = picture, boxes[rows], landmarks[rows], hidden, position
        more = {} if corrected is None else {"corrected": corrects[sample]}
        if not config.more_sizes:
            return augment_item(*item, config, more)
        turns = [replace(config, size=size, more_sizes=()) for size in (config.size, *config.more_sizes)]
        turn = tf.cast(position // config.batch % len(turns), tf.int32)
        chosen: dict[str, tf.Tensor] = tf.switch_case(turn, [partial(augment_item, *item, one, more) for one in turns])
        return chosen

    side = None if config.more_sizes else config.size
    shapes = {"image": [side, side, 3], "boxes": [None, 4], "landmarks": [None, 5, 2], "count": []}
    padding = {
        "image": np.uint8(0),
        "boxes": np.float32(0),
        "landmarks": np.float32(UNKNOWN),
        "count": np.int32(0),
    }
    if corrected is not None:
        shapes |= {"in_view": [None, 4], "corrected": []}
        padding |= {"in_view": np.float32(0), "corrected": np.bool_(False)}
    if config.augment.needs_teacher:
        shapes["mix"], padding["mix"] = [MIX_DRAWS], np.float32(0)
    data = tf.data.Dataset.from_tensor_slices((positions, stream[positions]))
    data = data.map(make_item, num_parallel_calls=config.threads or tf.data.AUTOTUNE, deterministic=True)
    data = data.padded_batch(config.batch // (workers * replicas), shapes, padding, drop_remainder)
    data = data.map(_at_least_one_row)
    if config.augment.needs_teacher:
        data = data.map(partial(mix_batch, share=config.augment.mix_share))
    if config.distillation is not None:
        teacher = open_teacher(config.distillation)
        data = data.map(lambda batch: {**batch, "teacher": teacher.answers(batch["image"])})
    return data.prefetch(2)


def distribute_batches(
    strategy: tf.distribute.Strategy,
    samples: Sequence[Sample],
    config: DataConfig,
    stream: np.ndarray,
    start: int = 0,
    corrected: np.ndarray | None = None,
) -> Any:
    """`make_batches` spread over a strategy's replicas: each worker decodes only its own rows of the global batch.

    (`experimental_distribute_dataset` would have every worker decode all of them.)
    """

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // workers
        worker = (context.input_pipeline_id, workers)
        return make_batches(samples, config, stream, start, worker=worker, replicas=replicas, corrected=corrected)

    return strategy.distribute_datasets_from_function(worker_batches)


@tf.autograph.experimental.do_not_convert
def _at_least_one_row(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch of negatives gets one padding row: consumers take maxima over faces, and there is none over nothing."""

    def padded(name: str, value: float = 0.0) -> tf.Tensor:
        missing = tf.maximum(1 - tf.shape(batch[name])[1], 0)
        return tf.pad(
            batch[name], [[0, 0], [0, missing], *[[0, 0]] * (batch[name].shape.rank - 2)], constant_values=value
        )

    in_view = {"in_view": padded("in_view")} if "in_view" in batch else {}
    return {**batch, **in_view, "boxes": padded("boxes"), "landmarks": padded("landmarks", UNKNOWN)}


class Picture:
    """One image file in the graph, decoded as `tflite.images.read_image` does it.

    TensorFlow decodes the window alone of a plain JPEG, several times as fast; all else is read by `read_image`.

    Args:
        path: string scalar.
        plain: bool scalar, `Sample.plain`.

    Attributes:
        height, width: int32 scalars, of the upright image.
    """

    def __init__(self, path: tf.Tensor, plain: tf.Tensor) -> None:
        def of_header() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            data = tf.io.read_file(path)
            return data, tf.io.extract_jpeg_shape(data)[:2], tf.zeros([0, 0, 3], tf.uint8)

        def of_pixels() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image = tf.numpy_function(_read_rgb, [path], tf.uint8)
            image.set_shape([None, None, 3])
            return tf.constant(b""), tf.shape(image)[:2], image

        self._plain = plain
        self._data, shape, self._pixels = tf.cond(plain, of_header, of_pixels)
        self.height, self.width = shape[0], shape[1]

    def window(self, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """uint8 [height, width, 3], RGB; the window lies inside the image."""

        def decoded() -> tf.Tensor:
            y, x = tf.maximum(top - DECODED_MARGIN, 0), tf.maximum(left - DECODED_MARGIN, 0)
            end_y = tf.minimum(top + height + DECODED_MARGIN, self.height)
            end_x = tf.minimum(left + width + DECODED_MARGIN, self.width)
            image = tf.io.decode_and_crop_jpeg(
                self._data, tf.stack([y, x, end_y - y, end_x - x]), channels=3, dct_method="INTEGER_ACCURATE"
            )
            return image[top - y : top - y + height, left - x : left - x + width]

        return tf.cond(self._plain, decoded, lambda: self._pixels[top : top + height, left : left + width])


def _read_rgb(path: bytes) -> np.ndarray:
    return np.ascontiguousarray(read_image(path.decode("utf-8", "surrogateescape"))[..., ::-1])


def augment_item(
    picture: Picture,
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    ignored: tf.Tensor | None,
    position: tf.Tensor,
    config: DataConfig,
    more: dict[str, tf.Tensor],
) -> dict[str, tf.Tensor]:
    """One image file and its faces → one training example.

    Args:
        picture: the image.
        boxes: float32 [N, 4]; landmarks: float32 [N, 5, 2]; in pixels of the upright image.
        ignored: float32 [M, 4] in the same pixels, painted over with `fill` where no face lies; None: nothing is.
        position: int64 scalar, the item's place in the stream; with the seed it decides all that is random.
        config: of the images.
        more: goes into the result; with `corrected` in it, `in_view` does, too.

    Returns:
        `image`, `boxes`, `landmarks`, `count` as `make_batches` gives them, without the batch dimension, and likewise
        `in_view` and `corrected` where it gives those; where images are mixed also `mix`, the draws of
        `mixing.mix_images`.
    """
    recipe, size = config.augment, config.size
    candidates = recipe.crop_trials * 3
    draws = tf.random.stateless_uniform(
        [candidates + augment.COLOUR_DRAWS + 2], seed=tf.stack([tf.constant(config.seed, tf.int64), position])
    )
    window_draws = tf.reshape(draws[:candidates], [-1, 3])
    colour_draws = draws[candidates : candidates + augment.COLOUR_DRAWS]
    flip, interpolation = draws[-2] < recipe.flip_chance, draws[-1]

    height, width = picture.height, picture.width
    window = augment.choose_window(boxes, height, width, window_draws, recipe, size)
    visible = tf.stack([0, 0, width, height])
    if recipe.closeup_share:
        seed = tf.stack([tf.constant(config.seed, tf.int64), CLOSEUP_STREAM - position])
        closeup_draws = tf.random.stateless_uniform([augment.CLOSEUP_DRAWS], seed=seed)
        close, *closeup = augment.choose_closeup(boxes, landmarks, height, width, closeup_draws, recipe.closeup_share)
        window, visible = tf.where(close, closeup[0], window), tf.where(close, closeup[1], visible)
    place = augment.place_window(window, height, width, size, visible)
    image = picture.window(place.top, place.left, place.height, place.width)

    if recipe.reference_colour:
        image = augment.reference_colour(tf.cast(image, tf.float32), colour_draws, recipe)
    image = augment.resize(image, place.out_height, place.out_width, interpolation, recipe)
    if recipe.has_colour and not recipe.reference_colour:
        image = augment.linear_colour(image, colour_draws, recipe)
    image = tf.saturate_cast(image + 0.5, tf.uint8)
    image = augment.fill_square(image, place, config.fill[::-1], size)
    if ignored is not None:
        image = augment.paint_over(image, ignored, boxes, place, config.fill[::-1])
    image = augment.mirror_and_swap(image, flip)
    in_view = augment.faces_in_view(boxes, place, flip, size) if "corrected" in more else None
    boxes, landmarks = augment.move_faces(boxes, landmarks, window, place, flip, recipe, size)
    item = {"image": image, "boxes": boxes, "landmarks": landmarks, "count": tf.shape(boxes)[0]}
    if in_view is not None:
        item |= {**more, "in_view": in_view}
    if recipe.needs_teacher:
        seed = tf.stack([tf.constant(config.seed, tf.int64), -1 - position])  # a stream of its own: the rest stays
        item["mix"] = tf.random.stateless_uniform([MIX_DRAWS], seed=seed)
    return item


def unreadable_images(samples: Sequence[Sample]) -> list[Path]:
    """The samples' files that cannot be decoded: decodes them all, so call it once batches have failed."""

    def readable(sample: Sample) -> bool:
        try:
            if sample.plain:
                tf.io.decode_jpeg(tf.io.read_file(str(sample.image)), channels=3)
            else:
                read_image(sample.image)
        except (tf.errors.OpError, ImageError):
            return False
        return True

    return [sample.image for sample in samples if not readable(sample)]
