"""What a run of quantization-aware tuning does, step after step; each leaves a file that a resume starts from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from quantization.config import QatConfig
from quantization.fold import fold
from quantization.graph import FoldedNetwork, Ranges
from quantization.images import find_images, load_images
from quantization.qat_loop import Tuner
from quantization.recipe import quantize
from quantization.simulate import simulate, write_back
from rf_keras.config import ModelConfig, default_threshold
from rf_keras.evaluation.before_after import answered, has_points, measure, table, with_answered_points
from rf_keras.evaluation.keras_detector import InputSize, KerasDetector
from rf_keras.history import images_seen, part, parts_of
from rf_keras.labels import MAX_MISSING, NoLabels, Sample, read_labels
from rf_keras.labels.pictures import looks
from rf_keras.model_file import load_model, save_model
from rf_keras.run_dir import BEST, LAST
from tflite.finding import expand_inputs

ORIGINAL = "original.keras"  # the folded float network that the run imitates
TUNED_BY = "quantization-aware tuning by rf_keras"  # at the end of a weights file's source
START = "start.keras"  # the folded, equalized network with its ranges, before the first step


def read_samples(config: QatConfig) -> tuple[list[Sample], list[int]]:
    """The images, with labels where a folder has them, and how many each folder has; without labels they serve
    distillation only.

    Raises:
        ValueError: a folder without images, or labels missing for --multibox or --correct_with_labels.
    """
    samples: list[Sample] = []
    sizes: list[int] = []
    corrects = (config.distillation and config.distillation.correct_with_labels) or (0,) * len(config.data_dirs)
    for folder, needs_labels in zip(config.data_dirs, corrects, strict=True):
        try:
            samples += read_labels(folder)
        except NoLabels:
            if config.multibox or needs_labels:
                raise
            files, errors = expand_inputs([folder])
            if errors:
                raise ValueError(errors[0]) from None
            none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
            looked = looks([path for path, _ in files], MAX_MISSING, folder)
            samples += [Sample(path, *none, size=look.size, plain=look.plain) for path, look in looked.items()]
        sizes.append(len(samples) - sum(sizes))
    if len(samples) < config.batch + config.val_images:
        found = f"{', '.join(config.data_dirs)}: {len(samples)} images"
        raise ValueError(f"{found}, expected at least {config.batch} for a batch and {config.val_images} held out")
    return samples, sizes


def prepare(config: QatConfig, run_dir: Path) -> tuple[keras.Model, ModelConfig, dict[str, Any]]:
    """Write and return the original, its configuration and meta facts: the float network, folded.

    It stays in the run, so that a resume needs nothing else.

    Raises:
        ValueError: `layers` means none of its layers.
    """
    path = run_dir / ORIGINAL
    if not path.exists():
        model, network, meta = load_model(config.weights)
        folded = fold(model, network)
        save_model(folded.model, folded.config, path, meta)
    original = load_model(path)
    if not any(layer.weights and re.match(config.layers, layer.name) for layer in original[0].layers):
        raise ValueError(f"layers is {config.layers!r}, expected the beginning of layers' names, such as ssh_32")
    return original


def quantization_meta(config: QatConfig, ranges: Ranges) -> dict[str, Any]:
    """What convert.py reads back from the weights file."""
    return {"quantization": {"size": [config.size, config.size], "ranges": {k: list(v) for k, v in ranges.items()}}}


def start_point(
    original: FoldedNetwork, config: QatConfig, run_dir: Path, meta: dict[str, Any]
) -> tuple[FoldedNetwork, Ranges]:
    """The network as the recipe leaves it, and its ranges; computed once per run. Weights that were tuned before keep
    theirs."""
    path = run_dir / START
    if not path.exists() and "quantization" in meta:
        save_model(original.model, original.config, path, meta)
    if not path.exists():
        paths = find_images(config.data_dirs, config.recipe.calibration_images)
        images = load_images(paths, config.size, config.size, antialias=original.config.antialias)
        int8 = quantize(original, images, config.recipe)
        save_model(int8.network.model, original.config, path, meta | quantization_meta(config, int8.ranges))
    model, network, meta = load_model(path)
    ranges = {name: (low, high) for name, (low, high) in meta["quantization"]["ranges"].items()}
    return FoldedNetwork.of(model, network), ranges


def compare_with_float(
    original: keras.Model, simulated: keras.Model, network: ModelConfig, size: int, samples: Sequence[Sample], meta: Any
) -> dict[str, Any]:
    """Print the float network and the simulated int8 one side by side, on images held out.

    Args:
        original: folded float network; simulated: with its best weights.
        network: configuration of both.
        size: side of the input, pixels.
        samples: images; where they have no faces, or no landmarks, labelled, the float network's answers stand for
            labels.
        meta: facts of the float weights, which say from which score on a face counts.

    Returns:
        `float` and `int8`, as `before_after.measure` gives them.
    """
    threshold = default_threshold(meta)
    detectors = {
        name: KerasDetector(model, network, InputSize.square(size))
        for name, model in (("float", original), ("int8", simulated))
    }
    reference = ""
    if not any(len(sample.boxes) for sample in samples):
        print("no labels: the float network's faces stand for them")
        samples, reference = answered(detectors["float"], samples, threshold), "float"
    elif not has_points(samples):
        samples, reference = with_answered_points(detectors["float"], samples, threshold), "float"
    rows = {name: measure(detector, samples, threshold) for name, detector in detectors.items()}
    print(table(rows, reference))
    return rows


def run_all(config: QatConfig, run_dir: Path) -> dict[str, Any]:
    """Everything that the run has not done yet; returns `compare_with_float`'s figures.

    Raises:
        ValueError: data that cannot be used, or a loss that is not finite.
    """
    samples, sizes = read_samples(config)
    original, network, meta = prepare(config, run_dir)
    teacher = config.distillation.teacher if config.distillation else ""
    what = "quantization-aware tuning" + f" of {config.layers}" * bool(config.layers)
    mine = part(what, config.steps * config.batch, [config.size], config.data_dirs, teacher)
    parts = [*parts_of(meta), mine]
    origin = str(meta.get("source", Path(config.weights).name))
    meta = meta | {"source": origin if origin.endswith(TUNED_BY) else f"{origin}; {TUNED_BY}"}
    meta |= {"parts": parts, "images_seen": images_seen(parts)}
    meta.pop("ap", None)
    start, ranges = start_point(FoldedNetwork.of(load_model(run_dir / ORIGINAL)[0], network), config, run_dir, meta)
    simulated = simulate(start, ranges, learn_ranges=config.learn_ranges)
    tuner = Tuner(original, network, config, samples, sizes, run_dir)
    result = tuner.run(simulated)
    for name, weights in ((LAST, result.set_average), (BEST, result.set_best)):
        tuned = write_back(weights(), start)  # frozen ones come back rounded to float32
        final = tuned if config.learn_ranges else ranges
        save_model(start.model, network, run_dir / name, meta | quantization_meta(config, final))
    return compare_with_float(original, result.set_best(), network, config.size, tuner.held_out, meta)
