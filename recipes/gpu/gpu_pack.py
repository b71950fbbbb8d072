"""What `gpu_train.py` takes along to a GPU, and what it brings back as a weights file.

    python recipes/gpu/gpu_pack.py --weights W.keras --teacher scrfd.onnx --data_dir D … --pack PACKED
    python recipes/gpu/gpu_pack.py --weights W.keras --arrays OUT/corrected.npz --output NEW.keras [--plot curves.png]

The images that the training of W held out stay out here, too.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import tensorflow as tf
import tf_keras as keras

from recipes.gpu.features import add_feature_heads, feature_sums, teacher_features
from rf_keras.config import REFERENCE_ANCHORS, ModelConfig
from rf_keras.distillation.losses import corrected_by_labels, teacher_sums
from rf_keras.distillation.teacher import Scrfd
from rf_keras.labels import Sample
from rf_keras.losses import normalize
from rf_keras.model import flatten_outputs
from rf_keras.model_file import load_model, save_model
from rf_keras.train_loop import split_samples, split_settings
from tflite.command import option, start
from tflite.files import replacing
from tflite.images import read_image
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

CHECK_SIZE = 320  # pixels
LARGEST = 640  # pixels, side of the canvas that each image has in GPU memory
PART_BYTES = 46 * 1024 * 1024  # a call takes 64 MiB, of which the repository needs 15


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to pack, or to unpack."""

    weights: Path = option(text="weights file (.keras) to start from")
    teacher: Path | None = option(None, "ONNX file of the teacher")
    data_dir: tuple[Path, ...] = option((), "folders that W was trained on, in their order; repeatable")
    correct_with_labels: tuple[int, ...] = option(
        (), "per --data_dir 1 where labels correct the teacher, else 0 (default: nowhere)"
    )
    pack: Path | None = option(None, "folder to write")
    arrays: Path | None = option(None, "file that gpu_train.py wrote")
    output: Path | None = option(None, "weights file to write (.keras)")
    plot: Path | None = option(None, "picture of the log beside --arrays to write (.png)")


def to_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """ "layer/variable" → values."""
    return {
        f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}": variable.numpy()
        for layer in model.layers
        for variable in layer.weights
    }


def set_arrays(model: keras.Model, arrays: dict[str, np.ndarray], name: str) -> None:
    """The inverse; `name` is that of the file, for the error.

    Raises:
        ValueError: other names or shapes.
    """
    wanted = {key: value.shape for key, value in to_arrays(model).items()}
    found = {key: value.shape for key, value in arrays.items()}
    if wanted != found:
        differing = sorted(key for key in wanted | found if wanted.get(key) != found.get(key))[0]
        raise ValueError(f"{name}: {differing} is {found.get(differing)}, expected {wanted.get(differing)}")
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(arrays[f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}"])


def check_network(config: ModelConfig, name: str) -> None:
    """Refuse what `gpu_train.py` has no twin of."""
    twin = {"backbone": "fast", "activation": "relu", "class_logits": 1, "anchor_sizes": REFERENCE_ANCHORS}
    for key, value in twin.items():
        if getattr(config, key) != value:
            raise ValueError(f"{name}: {key} is {getattr(config, key)}, expected {value}, of which there is a twin")


def check_values(
    model: keras.Model, config: ModelConfig, teacher: str, samples: Sequence[Sample]
) -> dict[str, np.ndarray]:
    """What rf_keras computes on two images with many faces: `gpu_train.py` compares itself with it before it trains."""
    size = CHECK_SIZE
    chosen = sorted(samples, key=lambda sample: -len(sample.boxes))[:2]
    boxes = np.zeros((2, max(1, *(len(sample.boxes) for sample in chosen)), 4), np.float32)
    images = np.empty((2, size, size, 3), np.uint8)
    for row, sample in enumerate(chosen):
        image, scale = letterbox(read_image(sample.image), size, size, ModelSpec.mean)[:2]
        images[row] = image
        boxes[row, : len(sample.boxes)] = np.clip(sample.boxes * scale, 0, size)
    answers, trusted = tf.constant(Scrfd(teacher, mirror=True)(images)), np.array([True, False])
    maps = teacher_features(teacher, images)
    network = add_feature_heads(model, config, maps.shape[-1])
    outputs = network(tf.cast(images, tf.float32) - tf.constant(ModelSpec.mean), training=False)
    predictions = flatten_outputs(outputs[:-1], config)
    sums = teacher_sums(predictions, answers, tf.constant(config.anchors(size, size)), config.variances)
    losses = normalize(sums, sums.positives, sums.positives_with_landmarks)
    cells = [(size // stride) ** 2 for stride in config.strides]
    parts = feature_sums(outputs[-1], tf.constant(maps), answers, cells, config.anchors_per_cell)
    features = parts.images / len(images) + parts.faces / tf.maximum(parts.faces_unknown, 1.0)
    return {
        "image": images,
        "in_view": boxes,
        "trusted": trusted,
        "answers": answers.numpy(),
        "corrected": corrected_by_labels(answers, tf.constant(boxes), tf.constant(trusted), size).numpy(),
        "logit": (predictions[0][..., 1] - predictions[0][..., 0]).numpy(),
        "delta": predictions[1].numpy(),
        "landmark": predictions[2].numpy(),
        "losses": np.array([losses.total + features, *losses[1:], features], np.float32),
    }


def pack(weights: str, teacher: str, data_dirs: Sequence[str], trust: Sequence[int], folder: Path) -> None:
    """Images, faces, teacher and weights as `gpu_train.py` reads them."""
    model, config, meta = load_model(weights)
    check_network(config, weights)
    if not meta.get("train"):
        raise ValueError(f"{weights}: no training settings inside, expected a file that rf_keras.train wrote")
    recipe = dataclasses.replace(split_settings(meta["train"]), data_dirs=tuple(data_dirs), val_dir=None)
    samples, sizes, validation = split_samples(recipe)
    trusted = np.repeat(np.array(trust or [0] * len(sizes), bool), sizes)
    folders = np.repeat(np.arange(len(sizes)), sizes)
    rows = []
    part, offset = 0, 0
    (folder / "base").mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(samples))  # any one part is a fair sample of all
    file = None
    for index in order:
        data = samples[index].image.read_bytes()
        if file is None or offset + len(data) > PART_BYTES:
            part, offset = (part + 1, 0) if file else (0, 0)
            if file:
                file.close()
            (folder / f"part{part}").mkdir(exist_ok=True)
            file = (folder / f"part{part}" / "images.bin").open("wb")
        file.write(data)
        height, width = read_image(data).shape[:2]
        if max(height, width) > LARGEST:
            raise ValueError(f"{samples[index].image}: {width}×{height} pixels, expected at most {LARGEST}: shrink it")
        rows.append((part, offset, len(data), folders[index], width, height, len(samples[index].boxes)))
        offset += len(data)
    if file:
        file.close()
    table = np.array(rows, np.int64)
    np.savez_compressed(
        folder / "base" / "faces.npz",
        part=table[:, 0],
        start=table[:, 1],
        length=table[:, 2],
        folder=table[:, 3],
        size=table[:, 4:6],
        count=table[:, 6],
        trusted=trusted[order],
        boxes=np.concatenate([samples[index].boxes for index in order]).astype(np.float32),
    )
    arrays = to_arrays(model) | {"blocks": np.array(config.blocks)}
    np.savez(folder / "base" / "student.npz", **arrays)  # type: ignore[arg-type]
    np.savez_compressed(folder / "base" / "check.npz", **check_values(model, config, teacher, samples))  # type: ignore[arg-type]
    (folder / "base" / "scrfd.onnx").write_bytes(Path(teacher).read_bytes())
    print(f"{folder}: {len(samples)} images in {part + 1} parts, {len(validation)} held out")


def unpack(weights: str, arrays: str, output: str) -> None:
    """The weights file that `arrays` are of; `weights` says which network, and what it learned before."""
    model, config, meta = load_model(weights)
    with np.load(arrays) as loaded:
        set_arrays(model, dict(loaded), arrays)
    for outdated in ("ap", "averaged"):
        meta.pop(outdated, None)
    save_model(model, config, output, meta | {"source": f"{meta.get('source', weights)}; recipes/gpu/gpu_train.py"})
    print(f"wrote {output}")


def plot(log: Path, output: Path) -> None:
    """The losses of `gpu_train.py`'s log over the images seen, its parts one after the other."""
    from matplotlib.figure import Figure

    rows = np.atleast_2d(np.genfromtxt(log, delimiter=","))
    seen = rows[:, 1]
    restarts = np.flatnonzero(np.diff(seen) < 0) + 1
    for row in restarts:
        seen[row:] += seen[row - 1]
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axis = figure.add_subplot()
    for column, name in enumerate(("total", "box", "score", "landmark", "features"), 3):
        axis.plot(seen / 1000, rows[:, column], label=name)
    for row in restarts:
        axis.axvline(seen[row] / 1000, color="0.6", linestyle=":")
        axis.text(seen[row] / 1000, axis.get_ylim()[1], " labels correct", va="top", color="0.4")
    axis.set(xlabel="thousand images", ylabel="training loss, first size", ylim=(0, None))
    axis.legend(ncols=5, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.15))
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(f"wrote {output}")


def run(options: Options) -> None:
    """Pack or unpack.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    weights = str(options.weights)
    if options.arrays:
        if not options.output:
            raise ValueError("--arrays needs --output")
        unpack(weights, str(options.arrays), str(options.output))
        if options.plot:
            plot(options.arrays.parent / "log.csv", options.plot)
    elif options.pack and options.teacher and options.data_dir:
        folders = [str(folder) for folder in options.data_dir]
        pack(weights, str(options.teacher), folders, options.correct_with_labels, options.pack)
    else:
        raise ValueError("give --pack with --teacher and --data_dir, or --arrays with --output")


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
