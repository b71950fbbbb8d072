"""Give a trained network a mesh branch: a dense face for every face that it finds, in the same pass.

    python quantization/train_mesh.py --weights W.keras --data_dir D … --output M.keras

The network stays as it is, to the bit: boxes, scores and points of the model with a mesh are those of the model
without. Weights of quantization-aware tuning get a branch that is tuned for int8 too; then
`python quantization/convert.py --int8 --weights M.keras`. Meshes to learn come from MediaPipe's face mesh, out of a
package that is downloaded once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tflite.command import option, start
from tflite.messages import printable

HELD_OUT = 25  # of so many pictures one is only measured


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train, and on which pictures."""

    weights: Path | None = option(None, "weights file or run directory (default: the newest run, else the shipped)")
    data_dir: tuple[Path, ...] = option(
        text="folder of pictures with labelled boxes, of any format that rf_keras.labels reads; repeatable, and one "
        "that is given twice counts twice"
    )
    output: Path = option(text="weights file (.keras) to write")
    coefficients: int = option(16, "numbers that describe a mesh", low=1, high=64)
    windows: int = option(3, "views of each picture", low=1)
    epochs: int = option(14, "passes over the views", low=1)
    seed: int = option(0, "of views, weights and order")
    json: Path | None = option(None, "file to write the figures to")


def run(options: Options) -> dict[str, Any]:
    """Train and write; returns the figures of held-out pictures, in percent of √(w·h).

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    import numpy as np

    from quantization.fold import fold
    from quantization.mesh_branch import BranchTrainer, set_branch, with_branch
    from quantization.mesh_features import SOURCES, FeatureRunner, collect, feature_file
    from quantization.recipe import with_stored_ranges
    from quantization.shorten import shorten_kernels
    from quantization.source import find_source
    from rf_keras.labels import read_labels
    from rf_keras.mesh.basis import fit_basis, text_of
    from rf_keras.mesh.targets import MOST_APART, mesh_targets
    from rf_keras.model import MESH_CONVS
    from rf_keras.model_file import check_suffix, load_model, save_model

    check_suffix(options.output)
    source = find_source(options.weights)
    model, config, meta = load_model(source.weights)
    network = with_branch(fold(model, config), 0)
    print(f"weights: {printable(source.weights)} ({printable(source.how)})")
    targets = [mesh_targets(read_labels(folder), folder.name) for folder in options.data_dir]
    targets = [one.part(one.apart <= MOST_APART) for one in targets]
    for folder, one in zip(options.data_dir, targets, strict=True):
        print(f"{printable(folder)}: {len(one.sample)} faces with a mesh in {len(np.unique(one.sample))} pictures")

    int8 = with_stored_ranges(network, meta)
    content = feature_file(network, int8)
    levels = collect(content, network.config, targets, options.windows, options.seed)
    every = np.concatenate([level.meshes[level.picture % HELD_OUT > 0] for level in levels])
    basis, share = fit_basis(every, options.coefficients)
    print(f"{options.coefficients} coefficients hold {100 * share:.2f} % of the variance of {len(every)} meshes")

    grids = FeatureRunner(content, network.config, 64).grids
    result = with_branch(network, options.coefficients)
    ranges = dict(meta["quantization"]["ranges"]) if int8 else {}
    figures: dict[str, Any] = {}
    for stride, patches in zip(config.strides, levels, strict=True):
        seen, held = patches.part(patches.picture % HELD_OUT > 0), patches.part(patches.picture % HELD_OUT == 0)
        of_level = [grids[f"{source}_{stride}"] for source in SOURCES]
        trainer = BranchTrainer(seen, of_level, basis, MESH_CONVS[stride][1:], config.anchors_per_cell, options.seed)
        branch = trainer.train(options.epochs)
        ranges |= {name: list(pair) for name, pair in set_branch(result, stride, branch).items()}
        errors = trainer.errors(branch, held.part(held.best)) if held.best.any() else (np.zeros(0), np.zeros(0))
        figures[str(stride)] = {"anchors": len(seen.anchor), "faces": len(errors[0])}
        if len(errors[0]):
            figures[str(stride)] |= {"2d": 100 * float(errors[0].mean()), "3d": 100 * float(errors[1].mean())}
        print(f"stride {stride}: {figures[str(stride)]}")
    facts = {**meta, "mesh": text_of(basis)}
    if int8:
        facts["quantization"] = {**meta["quantization"], "ranges": ranges}
        shorten_kernels(result.model)  # only an export follows
    save_model(result.model, result.config, options.output, facts)
    print(f"wrote {printable(options.output)}")
    return figures


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
