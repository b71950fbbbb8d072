"""The tables of the documents, from measured figures of the files that ship.

    python benchmarks/figures.py                           write them from the JSON files in docs/
    python benchmarks/figures.py --data_dir D --gt_dir G   measure accuracy first, each file in a process of its own

Times come from benchmarks/side_by_side.py --json docs/side_by_side.json and from benchmarks/input_sizes.py --json
docs/input_sizes.json. A table stands between the lines `<!-- figures:NAME:begin -->` and `<!-- figures:NAME:end -->`;
NAME is a key of `tables`.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.report import NOTHING, markdown, number, size_name
from rf_keras.evaluation.wider_ap import SUBSETS
from tflite.command import option, start, write_json
from tflite.files import write_text

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path("docs/figures.json")
SIDE_BY_SIDE = Path("docs/side_by_side.json")
INPUT_SIZES = Path("docs/input_sizes.json")
DOCUMENTS = (
    "README.md",
    "MODEL_CARD.md",
    "CHANGELOG.md",
    "docs/benchmarks.md",
    "docs/input-sizes.md",
    "docs/quantization.md",
)
MODELS, WEIGHTS = Path("tflite/models"), Path("rf_keras/weights")
# Of the face's box, and degrees, as the JSON of rf_keras.evaluate has them.
MARGINS = {"1": "1", "0.5": "½", "0.25": "¼", "0.1": "0.1", "0": "0"}
ANGLES = ("0", "90", "180", "270")
# What is kept of evaluate's JSON: the rest are paths and rates of the machine that measured.
KEPT = (*SUBSETS, "all", "nme", "images", "faces", "by_size", "size", "interpreter", "large")
MARKED = re.compile(r"(<!-- figures:(\w+):begin -->\n).*?(<!-- figures:\2:end -->)", re.DOTALL)

Figures = dict[str, Any]


@dataclass(frozen=True)
class Shipped:
    """A model file that ships.

    Attributes:
        name: as `FaceDetector` knows it.
        network: its float network's name.
        size: input side in pixels.
        weights: file of the float network, in `WEIGHTS`.
    """

    name: str
    network: str
    size: int
    weights: str

    @property
    def file(self) -> str:
        """Name of the file in `MODELS`."""
        return f"retinaface_{self.name}_int8.tflite"

    @property
    def float_key(self) -> str:
        """Key of the float network's figures at this size."""
        return f"{self.weights} {self.size}"


SHIPPED = tuple(
    Shipped(f"{network}_{size}", network, size, weights)
    for network, weights in (("fast", "retinaface_fast.keras"), ("mnet025", "retinaface_mobilenet0.25.keras"))
    for size in (640, 320)
)


@dataclass(frozen=True)
class Options:
    """What to do; without `data_dir` nothing is measured."""

    data_dir: Path | None = option(None, "folder of the evaluation photos: measure on them first")
    gt_dir: Path | None = option(None, "folder of the official WIDER FACE .mat files, needed with --data_dir")
    again: bool = option(False, "measure files, too, whose bytes are those that were measured")


def sha256(file: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def evaluate(model: Path, size: int, options: Options) -> Figures:
    """What rf_keras.evaluate measures of one file; of a model file on close-ups and turned pictures as well.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "metrics.json"
        command = [sys.executable, "-m", "rf_keras.evaluate", "--model", str(model), "--size", str(size)]
        command += ["--data_dir", str(options.data_dir), "--gt_dir", str(options.gt_dir), "--json", str(output)]
        command += ["--closeups", "--turned"] if model.suffix == ".tflite" else []
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise RuntimeError(f"{model}: rf_keras.evaluate failed")
        metrics = json.loads(output.read_text(encoding="utf-8"))
    return {key: metrics[key] for key in KEPT if key in metrics}


def measure(options: Options, known: Figures) -> Iterator[Figures]:
    """The figures of all files that ship, as docs/figures.json holds them, after each file anew.

    Args:
        options: the photos, and whether to measure again.
        known: earlier figures; those of files with the same bytes stay, so that a run that was stopped goes on.
    """
    files = [("int8", model.file, ROOT / MODELS / model.file, model.size) for model in SHIPPED]
    files += [("float", model.float_key, ROOT / WEIGHTS / model.weights, model.size) for model in SHIPPED]
    found: Figures = {"int8": {}, "float": {}}
    for kind, key, *_ in files:
        found[kind][key] = known[kind].get(key, {})
    for kind, key, file, size in files:
        facts = {"sha256": sha256(file), "bytes": file.stat().st_size}
        complete = set(KEPT) - ({"large"} if kind == "float" else set()) <= set(found[kind][key])
        if options.again or not complete or any(found[kind][key][name] != value for name, value in facts.items()):
            print(f"measuring {file.name} at {size}", flush=True)
            found[kind][key] = facts | evaluate(file, size, options)
        yield found


# ---- tables --------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown: text on the left, all further columns aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def ap(metrics: Figures) -> str:
    """Easy, medium and hard in percent."""
    return "/".join(number(metrics.get(subset), 1) for subset in SUBSETS)


def share(value: float | None, digits: int = 2) -> str:
    """A share as percent."""
    return number(None if value is None else 100 * value, digits)


def _large(metrics: Figures, kind: str) -> Figures:
    """What was measured on close-ups or turned pictures: margin or degrees → figures; empty where nothing was."""
    return (metrics.get("large") or {}).get(kind) or {}


def _found(metrics: Figures, margin: str, digits: int = 1) -> str:
    return number(_large(metrics, "closeups").get(margin, {}).get("found"), digits)


def _milliseconds(side: Figures, model: Shipped) -> float | None:
    own = [model.size, model.size]
    rows = [row for row in side["rows"] if row.get("file") == model.file and row["size"] == own]
    return rows[0]["inference_ms"]["p50"] if rows else None


def models_table(figures: Figures, side: Figures) -> str:
    """README's: which file, how large, how good, how fast."""
    rows = []
    for model in SHIPPED:
        metrics = figures["int8"][model.file]
        close = "/".join(_found(metrics, margin, 0) for margin in ("0.5", "0.25", "0"))
        default = " (default)" if model is SHIPPED[0] else ""
        cells = (f"`{model.file}`{default}", number(metrics["bytes"] / 1e6, 2), ap(metrics), close)
        rows.append((*cells, number(_milliseconds(side, model), 1)))
    header = ("file in `tflite/models/`", "MB", "AP easy/medium/hard", "close-ups ½/¼/0", "ms")
    note = (
        "AP: percent on 317 photos of WIDER FACE val. Close-ups: percent of faces found with ½, ¼ or 0 of their box "
        f"left around them. ms: the network alone, one thread, {side['machine']['cpu']}, {side['date']}."
    )
    return table(header, rows) + "\n" + textwrap.fill(note, 118) + "\n"


def ap_table(figures: Figures, side: Figures) -> str:
    """Float beside int8."""
    rows = []
    for model in SHIPPED:
        whole, small = figures["float"][model.float_key], figures["int8"][model.file]
        differences = [
            NOTHING if whole.get(key) is None or small.get(key) is None else f"{whole[key] - small[key]:.1f}"
            for key in SUBSETS
        ]
        lost = "/".join(differences).replace("-0.0", "0.0").replace("-", "−")
        errors = f"{share(whole.get('nme'))}, {share(small.get('nme'))}"
        rows.append((f"`{model.name}`", ap(whole), ap(small), lost, errors))
    return table(("", "AP float", "AP int8", "int8 loses", "NME % float, int8"), rows)


def sizes_table(figures: Figures, side: Figures) -> str:
    """AP of the int8 files by size of the face."""
    by_size = {model: figures["int8"][model.file].get("by_size") or {} for model in SHIPPED}
    ranges = list(next((found for found in by_size.values() if found), {}))
    rows = [
        (f"`{model.name}`", *(number(found.get(r, {}).get("ap"), 1) for r in ranges))
        for model, found in by_size.items()
    ]
    return table(("", *(name.replace("-", "–") for name in ranges)), rows)


def _large_rows(figures: Figures, side: Figures) -> Iterable[tuple[str, Figures]]:
    """Name and figures of everything that was shown close-ups and turned pictures."""
    for model in SHIPPED:
        yield f"`{model.name}`", figures["int8"][model.file]
    for row in side["rows"]:
        if row.get("large"):
            yield f"{row['name'].partition(',')[0]}_{row['size'][0]}", row


def closeups_table(figures: Figures, side: Figures) -> str:
    """Percent of faces found by how much is left around them."""
    rows = []
    for name, metrics in _large_rows(figures, side):
        margins = _large(metrics, "closeups").values()
        exact = number(min((m["found_70"] for m in margins), default=None), 1)
        pieces = number(max((m["pieces"] for m in margins), default=None), 1)
        rows.append((name, *(_found(metrics, margin) for margin in MARGINS), exact, pieces))
    return table(("% found at margin", *MARGINS.values(), "IoU 0.7, least", "pieces, most"), rows)


def turned_table(figures: Figures, side: Figures) -> str:
    """Percent of faces found, and landmark error, by how the picture is turned."""

    def cell(measured: Figures) -> str:
        return f"{number(measured['found'], 1)}/{number(measured['nme'], 1)}" if measured else NOTHING

    rows = [
        (name, *(cell(_large(metrics, "turned").get(angle, {})) for angle in ANGLES))
        for name, metrics in _large_rows(figures, side)
    ]
    return table(("found/NME %", *(f"{angle}°" for angle in ANGLES)), rows)


def version_table(figures: Figures, side: Figures) -> str:
    """CHANGELOG's: AP and digest of each file that ships."""
    measured = {model.file: figures["int8"][model.file] for model in SHIPPED}
    rows = [(f"`{file}`", ap(metrics), f"`{metrics['sha256']}`") for file, metrics in measured.items()]
    weights = sorted((ROOT / WEIGHTS).glob("*.keras"))
    rows += [(f"`{file.name}`", NOTHING, f"`{sha256(file)}`") for file in weights]
    return table(("file", "AP", "sha256"), rows)


def side_by_side_table(figures: Figures, side: Figures) -> str:
    """The table of side_by_side.py, without the inputs of `shapes_table`."""
    return markdown(side | {"rows": [row for row in side["rows"] if row["size"][0] == row["size"][1]]})


def shapes_table(figures: Figures, side: Figures) -> str:
    """The detectors at inputs that are no squares, a row each; empty where none was measured."""
    found: dict[str, dict[str, Figures]] = {}
    for row in side["rows"]:
        if row["size"][0] != row["size"][1]:
            found.setdefault(f"{row['name']}, {row['runtime']}", {})[size_name(row["size"])] = row
    sizes = list(dict.fromkeys(size for rows in found.values() for size in rows))

    def cells(row: Figures | None) -> tuple[str, str, str]:
        if row is None:
            return NOTHING, NOTHING, NOTHING
        return ap(row["ap"] or {}), number(row["end_to_end_ms"]["p50"], 2), number(row["to_reference"], 2)

    rows = [(name, *(cell for size in sizes for cell in cells(of.get(size)))) for name, of in found.items()]
    header = ("", *(text for size in sizes for text in (f"AP at {size}", "ms", "÷ reference")))
    return table(header, rows) if rows else ""


def input_sizes_table(sizes: Figures) -> str:
    """One file at other input sizes than its own, of the JSON of input_sizes.py."""
    rows = [
        (
            row["size"],
            ap(row["ap"]),
            number(row["pixels_to_own"], 2),
            number(row["time_to_own"], 2),
        )
        for row in sizes["rows"]
    ]
    changes = next((row["changes"] for row in sizes["rows"] if row["size"] == "auto"), 0)
    note = (
        f"Means over {sizes['photos']} photos, end to end, in turns; ÷ own. auto: {changes} changes of shape. "
        f"{sizes['machine']['cpu']}, one thread, {sizes['date']}."
    )
    return table((f"`{sizes['file']}` at", "AP", "pixels", "time"), rows) + "\n" + textwrap.fill(note, 118) + "\n"


TABLES: dict[str, Callable[[Figures, Figures], str]] = {
    "models": models_table,
    "ap": ap_table,
    "int8": ap_table,
    "sizes": sizes_table,
    "closeups": closeups_table,
    "turned": turned_table,
    "version": version_table,
    "side_by_side": side_by_side_table,
    "shapes": shapes_table,
}


def fill(text: str, tables: dict[str, str], name: str) -> str:
    """A document with its tables replaced.

    Raises:
        ValueError: a marker names no table, or is not one of a pair.
    """

    def replaced(match: re.Match[str]) -> str:
        if match[2] not in tables:
            raise ValueError(f"{name}: no table is called {match[2]!r}, expected one of {', '.join(tables)}")
        return match[1] + tables[match[2]] + match[3]

    filled, pairs = MARKED.subn(replaced, text)
    if text.count("<!-- figures:") != 2 * pairs:
        raise ValueError(f"{name}: a line <!-- figures:NAME:begin --> or :end --> has no other half")
    return filled


def read_figures() -> tuple[Figures, Figures, Figures]:
    """docs/figures.json, docs/side_by_side.json and docs/input_sizes.json."""
    files = (FIGURES, SIDE_BY_SIDE, INPUT_SIZES)
    figures, side, sizes = (json.loads((ROOT / file).read_text(encoding="utf-8")) for file in files)
    return figures, side, sizes


def tables() -> dict[str, str]:
    """All tables by name."""
    figures, side, sizes = read_figures()
    return {name: make(figures, side) for name, make in TABLES.items()} | {"input_sizes": input_sizes_table(sizes)}


def documents() -> dict[str, str]:
    """Each document's text as it should be."""
    made = tables()
    return {name: fill((ROOT / name).read_text(encoding="utf-8"), made, name) for name in DOCUMENTS}


def run(options: Options) -> None:
    """The command."""
    if options.data_dir:
        if not options.gt_dir:
            raise ValueError("--data_dir needs --gt_dir: the documents show AP by the official rules")
        for figures in measure(options, read_figures()[0]):
            write_json(ROOT / FIGURES, figures)
    for name, text in documents().items():
        write_text(ROOT / name, text)
        print(f"wrote {name}")


if __name__ == "__main__":
    start(run, Options, RuntimeError)
