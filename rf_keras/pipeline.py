"""From samples to batches, inside tf.data: read, decode the window, augment, batch.

    python -m rf_keras.pipeline --show 16 --output grid.png --data_dir D --augment scale
    python -m rf_keras.pipeline --benchmark --size 640 --data_dir D

Item i of the stream draws its random numbers from (seed, i) alone: neither the number of threads nor a restart at any
item changes what it looks like. (Mixed with another of its batch, it also depends on how batches are shared out.)
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from absl import app, flags

from rf_keras import augment
from rf_keras.augment import PRESETS, AugmentConfig
from rf_keras.config import REFERENCE_ANCHORS, SMALL_ANCHORS, ModelConfig, TrainConfig
from rf_keras.matching import match
from rf_keras.synthetic import synthetic_dir
from rf_keras.teacher import open_teacher
from rf_keras.wider import UNKNOWN, Sample, read_labels
from tflite.command import flags_only, user_errors
from tflite.draw import BOX_COLOR, LANDMARK_COLORS
from tflite.files import write_text
from tflite.images import write_image
from tflite.spec import ModelSpec

ANCHOR_SETS = {"reference": REFERENCE_ANCHORS, "small": SMALL_ANCHORS}
ANCHOR_COLOR = (255, 160, 60)
CLOSEUP_STREAM = -(1 << 40)  # streams of random numbers of their own: what else is drawn stays


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
        teacher: file of a network that is asked about every image (`teacher.open_teacher`); None: nobody is.
        teacher_features: ask for its features, too.
        teacher_mirror: ask it about mirror images, too.
        corrections: give what corrects the teacher: all faces in view, and whether they hold.
    """

    size: int = 640
    more_sizes: tuple[int, ...] = ()
    batch: int = 8
    augment: AugmentConfig = PRESETS["reference"]
    seed: int = 0
    fill: tuple[float, ...] = ModelSpec.mean
    threads: int = 0
    teacher: str | None = None
    teacher_features: bool = False
    teacher_mirror: bool = False
    corrections: bool = False

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
        teacher=config.teacher,
        teacher_features=config.teacher_features > 0,
        teacher_mirror=config.teacher_mirror,
        corrections=any(config.label_trust),
    )


def read_folders(
    data_dirs: Sequence[str | Path], max_missing: float = 0.0, trust: Sequence[int] = ()
) -> tuple[list[Sample], list[int]]:
    """Samples of several folders, joined, and how many come from each (what `sample_stream` needs).

    Args:
        max_missing: as `read_labels` takes it.
        trust: per folder 1 where its samples are `trusted`, else 0; empty: nowhere.
    """
    groups = [read_labels(folder, max_missing) for folder in data_dirs]
    flags = trust or [0] * len(groups)
    samples = [replace(one, trusted=bool(flag)) for group, flag in zip(groups, flags, strict=True) for one in group]
    return samples, [len(group) for group in groups]


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
) -> tf.data.Dataset:
    """Batches of augmented images.

    Args:
        samples: what the stream's indices point at.
        stream: int64 [total] indices, e.g. of `sample_stream`; `np.arange(len(samples))` for one pass in order.
        start: first item to make, e.g. step · batch on a resume: later items are the same as in an unbroken run.
        drop_remainder: leave out a last batch that is not full.
        worker: (index, count): make only this worker's rows, a contiguous share of each batch.
        replicas: accelerators of this worker: its share comes as that many batches, one for each.

    Returns:
        Dataset of dicts, in the order of the stream: `image` uint8 [B, S, S, 3] BGR, S of batch i (items i · batch and
        on) being the i-th of `size` and `more_sizes`, counted round; `boxes` float32 [B, G, 4] x1, y1,
        x2, y2 in pixels of that image; `landmarks` float32 [B, G, 5, 2], all −1 where unknown; `count` int32 [B]: rows
        of `boxes` and `landmarks` that are faces. G is the batch's largest count, at least 1; the rest is zeros
        (landmarks −1). With a teacher also what `Teacher.maps` gives. With `corrections` also `in_view`, float32
        [B, V, 4], every face that can be seen, however small or cut, clipped to the image, V at least 1 and the rest
        zeros; and `trusted`, bool [B]: images of trusted samples that were neither mixed nor tilted.

    Raises:
        ValueError: the batch cannot be shared evenly, or the stream does not fit the samples.
        tf.errors.InvalidArgumentError while iterating: a file is no readable image (`unreadable_images` names it).
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
    trusted = tf.constant([sample.trusted for sample in samples])

    @tf.autograph.experimental.do_not_convert  # plain tensor code; converting it takes seconds
    def make_item(position: tf.Tensor, sample: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = slice(starts[sample], ends[sample])
        item = tf.io.read_file(paths[sample]), boxes[rows], landmarks[rows], position, trusted[sample]
        if not config.more_sizes:
            return augment_item(*item, config)
        turns = [replace(config, size=size, more_sizes=()) for size in (config.size, *config.more_sizes)]
        turn = tf.cast(position // config.batch % len(turns), tf.int32)
        chosen: dict[str, tf.Tensor] = tf.switch_case(turn, [partial(augment_item, *item, one) for one in turns])
        return chosen

    side = None if config.more_sizes else config.size
    shapes = {"image": [side, side, 3], "boxes": [None, 4], "landmarks": [None, 5, 2], "count": []}
    padding = {
        "image": np.uint8(0),
        "boxes": np.float32(0),
        "landmarks": np.float32(UNKNOWN),
        "count": np.int32(0),
    }
    if config.corrections:
        shapes |= {"in_view": [None, 4], "trusted": []}
        padding |= {"in_view": np.float32(0), "trusted": np.bool_(False)}
    if config.augment.needs_teacher:
        shapes["mix"], padding["mix"] = [augment.MIX_DRAWS + augment.TILT_DRAWS], np.float32(0)
    data = tf.data.Dataset.from_tensor_slices((positions, stream[positions]))
    data = data.map(make_item, num_parallel_calls=config.threads or tf.data.AUTOTUNE, deterministic=True)
    data = data.padded_batch(config.batch // (workers * replicas), shapes, padding, drop_remainder)
    data = data.map(_at_least_one_row)
    if config.augment.needs_teacher:
        data = data.map(partial(_mix, config=config))
    if config.teacher:
        teacher = open_teacher(config.teacher, features=config.teacher_features, mirror=config.teacher_mirror)
        data = data.map(lambda batch: {**batch, **teacher.maps(batch["image"])})
    return data.prefetch(2)


def distribute_batches(
    strategy: tf.distribute.Strategy, samples: Sequence[Sample], config: DataConfig, stream: np.ndarray, start: int = 0
) -> Any:
    """`make_batches` spread over a strategy's replicas: each worker decodes only its own rows of the global batch.

    (`experimental_distribute_dataset` would have every worker decode all of them.)
    """

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // workers
        worker = (context.input_pipeline_id, workers)
        return make_batches(samples, config, stream, start, worker=worker, replicas=replicas)

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


@tf.autograph.experimental.do_not_convert
def _mix(batch: dict[str, tf.Tensor], config: DataConfig) -> dict[str, tf.Tensor]:
    """The batch with its images tilted and mixed as their draws say."""
    rest = {key: value for key, value in batch.items() if key != "mix"}
    mix, tilt = tf.split(batch["mix"], [augment.MIX_DRAWS, augment.TILT_DRAWS], axis=1)
    image, recipe = batch["image"], config.augment
    if recipe.tilt_share:
        image = augment.tilt_images(image, tilt, recipe.tilt_share, config.fill)
    if recipe.mix_share:
        image = augment.mix_images(image, mix, recipe.mix_share)
    if "trusted" in rest:
        rest["trusted"] &= (tilt[:, 0] >= recipe.tilt_share) & (mix[:, 0] >= recipe.mix_share)
    return {**rest, "image": image}


def augment_item(
    data: tf.Tensor,
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    position: tf.Tensor,
    trusted: tf.Tensor,
    config: DataConfig,
) -> dict[str, tf.Tensor]:
    """One image file and its faces → one training example.

    Args:
        data: string scalar, the bytes of a JPEG, PNG or BMP file (stored orientation: EXIF is not applied, as labels
            refer to stored pixels).
        boxes: float32 [N, 4]; landmarks: float32 [N, 5, 2]; in pixels of the file.
        position: int64 scalar, the item's place in the stream; with the seed it decides all that is random.
        trusted: bool scalar, `Sample.trusted`.

    Returns:
        `image`, `boxes`, `landmarks`, `count` as `make_batches` gives them, without the batch dimension, and likewise
        `in_view` and `trusted` where it gives those; where images are mixed or tilted also `mix`, the draws of
        `augment.mix_images` and `augment.tilt_images`.
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
    visible = tf.stack([0, 0, width, height])
    if recipe.closeup_share:
        seed = tf.stack([tf.constant(config.seed, tf.int64), CLOSEUP_STREAM - position])
        closeup_draws = tf.random.stateless_uniform([augment.CLOSEUP_DRAWS], seed=seed)
        close, *closeup = augment.choose_closeup(boxes, landmarks, height, width, closeup_draws, recipe.closeup_share)
        window, visible = tf.where(close, closeup[0], window), tf.where(close, closeup[1], visible)
    place = augment.place_window(window, height, width, size, visible)
    image = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_and_crop_jpeg(data, tf.stack(place[:4]), channels=3),
        lambda: decoded[place.top : place.top + place.height, place.left : place.left + place.width],
    )

    if recipe.reference_colour:
        image = augment.reference_colour(tf.cast(image, tf.float32), colour_draws, recipe)
    image = augment.resize(image, place.out_height, place.out_width, interpolation, recipe)
    if recipe.has_colour and not recipe.reference_colour:
        image = augment.linear_colour(image, colour_draws, recipe)
    image = tf.saturate_cast(image + 0.5, tf.uint8)
    image = augment.fill_square(image, place, config.fill[::-1], size)
    image = augment.mirror_and_swap(image, flip)
    in_view = augment.faces_in_view(boxes, place, flip, size) if config.corrections else None
    boxes, landmarks = augment.move_faces(boxes, landmarks, window, place, flip, recipe, size)
    item = {"image": image, "boxes": boxes, "landmarks": landmarks, "count": tf.shape(boxes)[0]}
    if in_view is not None:
        item |= {"in_view": in_view, "trusted": trusted}
    if recipe.needs_teacher:
        seed = tf.stack([tf.constant(config.seed, tf.int64), -1 - position])  # a stream of its own: the rest stays
        item["mix"] = tf.random.stateless_uniform([augment.MIX_DRAWS + augment.TILT_DRAWS], seed=seed)
    return item


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


# ---- the command -----------------------------------------------------------------------------------------------------


def draw_batch(batch: dict[str, np.ndarray], model: ModelConfig) -> np.ndarray:
    """A grid of a batch's images with boxes (green), landmarks and the anchors matched to each face (blue).

    Landmarks have the colours of `tflite.draw`, so that a swap of left and right is seen. Returns uint8 BGR.
    """
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


def measure(samples: Sequence[Sample], stream: np.ndarray, config: DataConfig, batches: int) -> dict[str, Any]:
    """Speed of the pipeline alone, after two batches of warm-up: images/s and CPU milliseconds per image."""
    iterator = iter(make_batches(samples, config, stream))
    for _ in range(2):
        next(iterator)
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    images, seconds = batches * config.batch, time.perf_counter() - start
    return {
        "size": config.size,
        "batch": config.batch,
        "images": images,
        "images_per_second": images / seconds,
        "cpu_ms_per_image": 1000 * (time.process_time() - cpu_start) / images,
        "cores": os.cpu_count(),
    }


def _run(args: flags.FlagValues) -> None:
    if bool(args.show) == args.benchmark:
        raise ValueError("give either --show N or --benchmark")
    samples, sizes = read_folders(args.data_dir or [synthetic_dir("train")], args.max_missing)
    batch = args.show or args.batch
    recipe = replace(PRESETS[args.augment], closeup_share=args.closeups)
    config = DataConfig(size=args.size, batch=batch, augment=recipe, seed=args.seed)
    stream = sample_stream(sizes, None, args.seed, batch if args.show else batch * (args.batches + 4))
    try:
        if args.show:
            model = ModelConfig(anchor_sizes=ANCHOR_SETS[args.anchors])
            pictures = next(make_batches(samples, config, stream).as_numpy_iterator())
            write_image(Path(args.output), draw_batch(pictures, model))
            print(f"{args.show} samples, {int(pictures['count'].sum())} faces: {args.output}")
        else:
            result = measure(samples, stream, config, args.batches) | {"augment": args.augment}
            print(
                f"pipeline alone, {args.augment} at {args.size}, batch {batch}, {result['cores']} cores: "
                f"{result['images_per_second']:.0f} images/s, {result['cpu_ms_per_image']:.1f} ms of CPU per image"
            )
            if args.json:
                write_text(Path(args.json), json.dumps(result, indent=1) + "\n")
    except tf.errors.InvalidArgumentError as error:
        bad = unreadable_images(samples)
        if not bad:
            raise
        raise ValueError(f"{bad[0]}: no readable image ({len(bad)} of {len(samples)}), expected JPEG or PNG") from error


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    with user_errors():
        _run(flags.FLAGS)


def define_flags() -> None:
    """Only when run as a command: training imports this module and has flags of its own."""
    flags.DEFINE_integer("show", 0, "draw N augmented samples with boxes, landmarks and matched anchors", 0)
    flags.DEFINE_string("output", "samples.png", "picture that --show writes")
    flags.DEFINE_boolean("benchmark", False, "measure the pipeline alone")
    flags.DEFINE_integer("batches", 50, "batches that --benchmark times", 1)
    flags.DEFINE_string("json", None, "file for the figures of --benchmark")
    flags.DEFINE_multi_string("data_dir", None, "folder with images/ and labels; repeatable (default: synthetic faces)")
    flags.DEFINE_float("max_missing", 0.0, "largest share of labelled images that may be missing", 0, 1)
    flags.DEFINE_enum("augment", "scale", list(PRESETS), "augmentation preset")
    flags.DEFINE_float("closeups", 0.0, "share of the images that show one face filling the frame", 0, 1)
    flags.DEFINE_enum("anchors", "reference", list(ANCHOR_SETS), "anchor sizes that --show matches")
    flags.DEFINE_integer("size", 640, "side of the square images, pixels, a multiple of 32")
    flags.DEFINE_integer("batch", 8, "images per batch of --benchmark", 1)
    flags.DEFINE_integer("seed", 0, "seed of order and augmentation")


if __name__ == "__main__":
    define_flags()
    app.run(main)
