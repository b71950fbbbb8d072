"""Export a trained model to one self-describing .tflite file, or to ONNX.

    python quantization/convert.py --int8                                    newest run, else the shipped `fast`
    python quantization/convert.py --int8 --weights W.keras --data_dir PHOTOS --output M.tflite
    python quantization/convert.py --int8 --weights QAT_RUN                  ranges come from the run
    python quantization/convert.py --fp16|--dynamic|--fp32 --weights W.keras
    python quantization/convert.py --onnx [--int8] --weights W.keras         for ONNX Runtime, OpenVINO, ncnn

The file has one input `image` and nine outputs `score_8` … `landmark_32`; `retinaface.json` inside says the rest.
Weights with a mesh branch (quantization/train_mesh.py) give three outputs more, and the mesh's basis in the file.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from quantization.config import Recipe
from rf_keras.config import TAUGHT_THRESHOLD, default_threshold
from tflite.command import option, settings_of, start
from tflite.files import replacing
from tflite.mesh import attach_basis
from tflite.messages import note, printable
from tflite.spec import ModelSpec, attach_spec

if TYPE_CHECKING:
    import numpy as np

    from quantization.graph import FoldedNetwork
    from quantization.recipe import Int8Network
    from quantization.source import WeightsSource

KINDS = ("fp32", "fp16", "dynamic", "int8")
CHECKED_IMAGES = 8  # the written file is run on so many of the images


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to export, and how. `recipe`: settings of `config.Recipe`."""

    int8: bool = option(False, "int8 weights, activations, input and outputs")
    fp16: bool = option(False, "float16 weights, float32 input and outputs")
    dynamic: bool = option(False, "int8 weights, float activations quantized on the fly")
    fp32: bool = option(False, "everything float32")
    onnx: bool = option(False, "write .onnx: float32, or with --int8 the .tflite file's integers between float32 ends")
    weights: Path | None = option(
        None, "weights file (.keras) or run directory (default: the newest run, else the shipped)"
    )
    data_dir: tuple[Path, ...] = option(
        (),
        "folder of calibration images (labels not needed); repeatable (default: the run's own, else photos/ or images/ "
        "in the current folder, else drawn faces)",
    )
    size: str | None = option(
        None, "input in pixels, N or HEIGHTxWIDTH, multiples of 32 (default: the run's, else 640)"
    )
    output: Path | None = option(
        None, "file to write, .tflite or .onnx (default: beside the weights; for shipped ones, here)"
    )
    score_threshold: float | None = option(
        None,
        f"probability from which the file counts a face by default (default: {ModelSpec.score_threshold}; "
        f"{TAUGHT_THRESHOLD} for networks taught by a teacher, whose scores are lower)",
        low=0.01,
        high=0.99,
    )
    recipe: dict[str, Any] = settings_of(Recipe)
    json: Path | None = option(None, "file to write the figures to")

    @property
    def kind(self) -> str:
        """The one of `KINDS` that was chosen; fp32 where `onnx` alone is given.

        Raises:
            ValueError: none or several, or one that ONNX files cannot be.
        """
        chosen = [kind for kind in KINDS if getattr(self, kind)] or ["fp32"] * self.onnx
        if self.onnx and chosen not in (["fp32"], ["int8"]):
            raise ValueError(f"--onnx goes with --int8 or alone, found {' '.join(f'--{kind}' for kind in chosen)}")
        if len(chosen) != 1:
            given = " ".join(f"--{kind}" for kind in chosen) or "none"
            raise ValueError(f"give exactly one of {' '.join(f'--{kind}' for kind in KINDS)}, found {given}")
        return chosen[0]


def warn(text: str) -> None:
    """One line to stderr."""
    note(f"warning: {text}")


def warn_of_size(source: WeightsSource, size: tuple[int, int]) -> None:
    """Say where a size was not trained for.

    Crops of N pixels hold no face above N, and a network trained on them cuts larger ones into pieces; ranges that were
    tuned at one size need not fit another.
    """
    training = source.meta.get("train") or {}
    trained = max([training.get("size") or 0, *training.get("more_sizes", ())])
    if trained and max(size) > trained:
        warn(
            f"{source.weights}: trained at {trained} pixels, exporting at {size[0]}×{size[1]}: faces above "
            f"{trained} pixels were never seen; train the last part at {max(size)}"
        )
    tuned = (source.meta.get("quantization") or {}).get("size")
    if tuned and tuple(tuned) != size:
        warn(f"{source.weights}: ranges were tuned at {tuned} pixels, exporting at {list(size)}")


def run(options: Options) -> dict[str, Any]:
    """Export, write, run what was written, print the figures and return them.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    kind = options.kind
    from quantization.export import to_tflite
    from quantization.fold import fold
    from quantization.images import find_images, load_images
    from quantization.mesh_branch import with_branch
    from quantization.recipe import export_int8, with_stored_ranges
    from quantization.source import find_source, parse_side
    from quantization.standard_metadata import add_standard_metadata
    from quantization.verify import graph_problems
    from rf_keras.mesh.basis import stored_basis
    from rf_keras.model_file import load_model

    recipe = Recipe(**options.recipe)
    source = find_source(options.weights)
    suffix = ".onnx" if options.onnx else ".tflite"
    output = options.output or source.output_for(kind, suffix)
    if output.suffix != suffix:
        raise ValueError(f"--output is {str(output)!r}, expected a name ending in {suffix}")
    size = parse_side(options.size, source)
    warn_of_size(source, size)
    calibrated = kind == "int8" and not source.meta.get("quantization")
    folders = source.calibration_folders(options.data_dir) if calibrated else source.images_from(options.data_dir)
    print(
        f"weights: {printable(source.weights)} ({printable(source.how)}); input {size[0]}×{size[1]}; "
        f"images from {', '.join(map(printable, folders))}"
    )
    network = fold(*load_model(source.weights)[:2], *size)
    basis = stored_basis(source.meta, network.config.mesh, str(source.weights))
    if basis and options.onnx:
        warn("an ONNX file has no place for the mesh's basis: written without the mesh")
        network, basis = with_branch(network, 0).copy(*size), None
    int8 = with_stored_ranges(network, source.meta) if kind == "int8" else None
    needed = recipe.calibration_images if calibrated else CHECKED_IMAGES
    images = load_images(find_images(folders, needed), *size, antialias=network.config.antialias)
    if calibrated:
        int8 = quantize_and_say(network, images, recipe)

    spec = network.config.spec(
        *size,
        quantization=kind if int8 is None else "int8-ptq" if calibrated else "int8-qat",
        source=str(source.meta.get("source", source.weights.name)),
        ap=source.meta.get("ap") or {},
        score_threshold=options.score_threshold or default_threshold(source.meta),
    )
    if options.onnx:
        figures = write_onnx(output, network, int8, spec, images[:CHECKED_IMAGES])
        report(figures)
        return figures | {"weights": str(source.weights), "score_threshold": spec.score_threshold}
    licence = str(source.meta.get("license") or "")
    simulated = None
    if int8 is None:
        content = attach_spec(
            add_standard_metadata(to_tflite(network.model, network.config, kind), spec, licence), spec
        )
    else:
        content, simulated = export_int8(int8, spec, licence)
    if basis:
        content = attach_basis(content, basis)
    problems = graph_problems(content, spec.mean) if simulated is not None else []
    with replacing(output) as temporary:
        temporary.write_bytes(content)
    figures = {"output": str(output), "weights": str(source.weights), "quantization": spec.quantization}
    figures |= {"size": list(size), "score_threshold": spec.score_threshold}
    figures |= check(output, int8.reference if int8 else network, simulated, images[:CHECKED_IMAGES], problems)
    report(figures)
    return figures


def quantize_and_say(network: FoldedNetwork, images: np.ndarray, recipe: Recipe) -> Int8Network:
    """`recipe.quantize`, and a line that says how."""
    from quantization.images import FEW_IMAGES
    from quantization.recipe import quantize

    if len(images) < FEW_IMAGES:
        warn(f"{len(images)} calibration images, {FEW_IMAGES} or more give steadier ranges")
    int8 = quantize(network, images, recipe)
    print(f"calibrated on {len(images)} images, {recipe}{', equalized' if int8.reference is not network else ''}")
    return int8


def write_onnx(
    path: Path, network: FoldedNetwork, int8: Int8Network | None, spec: ModelSpec, images: np.ndarray
) -> dict[str, Any]:
    """Write an ONNX file and run it, where ONNX Runtime is installed, beside the Keras model it is made from.

    Args:
        path: the file.
        network: the float network.
        int8: its int8 version; None for a float file.
        spec: of the file.
        images: uint8 BGR [N, H, W, 3] of the network's input size.
    """
    from quantization.onnx_export import largest_differences, onnx_operations, to_onnx
    from quantization.simulate import simulate

    content = to_onnx(network if int8 is None else int8.network, spec, int8)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    reference = network.model
    if int8 is not None:
        height, width = images.shape[1:3]
        reference = simulate(int8.network, int8.ranges, height=height, width=width)
    figures: dict[str, Any] = {"output": str(path), "quantization": spec.quantization, "bytes": len(content)}
    figures |= {"size": list(images.shape[1:3]), "ops": onnx_operations(content), "differences": {}}
    if importlib.util.find_spec("onnxruntime") is None:
        warn(f"{path}: written, but not run: ONNX Runtime is not installed")
    else:
        figures["differences"] = largest_differences(content, reference, network.config, images, spec.mean)
    return figures


def check(
    path: Path, reference: FoldedNetwork, simulated: Any, images: np.ndarray, problems: list[str]
) -> dict[str, Any]:
    """Run a written file and compare it with what it was made from; warns of what is wrong.

    Args:
        path: the file.
        reference: the float network.
        simulated: the Keras model an int8 file was made from; None for other kinds.
        images: uint8 BGR [N, H, W, 3] of the file's input size.
        problems: what its graph showed.
    """
    from quantization.tflite_graph import read_graph
    from quantization.verify import compare_with_float, lsb_difference, saturation_problems

    content, mean = path.read_bytes(), ModelSpec.mean
    differences = compare_with_float(content, reference, images, mean)
    problems = problems + saturation_problems(differences)
    for problem in problems:
        warn(problem)
    figures: dict[str, Any] = {
        "bytes": len(content),
        "ops": read_graph(content).op_counts(),
        "warnings": problems,
        "differences": {name: {"largest": d.largest, "mean": d.mean} for name, d in differences.items()},
    }
    if simulated is not None:
        figures["lsb_99_9"] = lsb_difference(content, simulated, reference.config, images, mean)
        figures["lsb_99_9_float"] = lsb_difference(content, simulated, reference.config, images, mean, exact=False)
    return figures


def report(figures: dict[str, Any]) -> None:
    """Print the figures."""
    ops = ", ".join(f"{count} {name}" for name, count in figures["ops"].items())
    kilobytes = f"{figures['bytes'] / 1000:.0f} kB"
    print(f"wrote {printable(figures['output'])}: {figures['quantization']}, {kilobytes}, ops: {ops}")
    of = "simulated int8" if figures["output"].endswith(".onnx") and figures["quantization"] != "fp32" else "float"
    print(f"difference to the {of} model on {CHECKED_IMAGES} images (logits; anchor units of the box code):")
    for name, difference in figures["differences"].items():
        print(f"    {name:12} largest {difference['largest']:8.4f}   mean {difference['mean']:8.5f}")
    if "lsb_99_9" in figures:
        print(
            f"difference to the simulated int8 model, 99.9 percentile: {figures['lsb_99_9']:.0f} steps in integer "
            f"arithmetic, {figures['lsb_99_9_float']:.0f} in float32"
        )


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
