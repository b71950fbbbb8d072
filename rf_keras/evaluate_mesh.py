"""Error of a model's meshes and head poses against the teacher's, on the faces of a labelled folder.

    python -m rf_keras.evaluate_mesh --model M.tflite --data_dir D [--line_from PHOTOS]

Mean distance of the 468 vertices in percent of √(w·h) of the labelled box, in the picture (2D) and in space (3D), and
the mean error of yaw, pitch and roll in degrees: of faces from 64 pixels on that the model finds and whose mesh the
teacher is given (`rf_keras/mesh/targets.py`), by size and by yaw. Box and five points say much of a mesh already:
--line_from fits that on other pictures, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_keras.labels import MAX_MISSING
from tflite.command import option, start
from tflite.messages import printable


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to evaluate, and on which images."""

    model: str = option(text="model with a mesh (.tflite), or the name of a shipped one")
    data_dir: Path = option(text="folder of labelled pictures, of any format that rf_keras.labels reads")
    line_from: Path | None = option(
        None, "folder of labelled pictures: a linear map from five points to meshes is fitted to its faces and measured"
    )
    max_missing: float = option(
        MAX_MISSING, "largest share of labelled images that may be missing or unreadable, 0 to 1", low=0, high=1
    )
    json: Path | None = option(None, "file to write the figures to")


def text_of(table: dict[str, dict[str, Any]]) -> str:
    """The table for people."""
    lines = [f"{'faces':>22} {'2D %':>6} {'3D %':>6} {'yaw°':>6} {'pitch°':>6} {'roll°':>6}"]
    for name, row in table.items():
        values = "".join(f" {row[key]:6.2f}" for key in ("2d", "3d", "yaw", "pitch", "roll") if key in row)
        lines.append(f"{name:16} {row['faces']:5}{values}")
    return "\n".join(lines)


def run(options: Options) -> dict[str, Any]:
    """Evaluate, print and return the table (`rf_keras.mesh.evaluation.MeshResults.table`).

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    from rf_keras.labels import read_labels
    from rf_keras.mesh.evaluation import evaluate_meshes
    from rf_keras.mesh.targets import mesh_targets
    from tflite.detector import FaceDetector

    with FaceDetector(options.model) as detector:
        if detector.basis is None:
            raise ValueError(f"{printable(options.model)}: has no mesh, expected a file of train_mesh.py's weights")
        folders = [options.data_dir, *([options.line_from] if options.line_from else [])]
        sets = [read_labels(folder, options.max_missing) for folder in folders]  # all, before the first is detected on
        results, *others = (
            evaluate_meshes(detector, mesh_targets(samples, folder.name))
            for samples, folder in zip(sets, folders, strict=True)
        )
        print(
            f"{printable(options.model)} on {printable(options.data_dir)}: {len(results.side)} found of "
            f"{results.targets} faces with a mesh; {detector.interpreter_name}"
        )
        table = results.table()
        for training in others:
            table["from five points"] = results.line_from_points(training)
    print(text_of(table))
    return table


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
