"""The figures of `side_by_side.py` as a Markdown table and as a plot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rf_keras.evaluation.wider_ap import SUBSETS
from tflite.files import replacing

HEADER = (
    "model",
    "runtime",
    "input",
    "AP {ap}",
    "inference ms",
    "end to end ms",
    "÷ reference",
    "cold start ms",
    "peak memory MB",
    "model MB",
    "install MB",
)
NOTHING = "–"


def ap_names(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Which AP figures there are: the official three, or the one over all faces, or none."""
    measured = [row["ap"] for row in rows if row["ap"]]
    if not measured:
        return ()
    return SUBSETS if measured[0]["easy"] is not None else ("all",)


def number(value: float | None, digits: int) -> str:
    """With so many decimals; `NOTHING` for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def size_name(size: Sequence[int]) -> str:
    """Height × width, or the side of a square."""
    height, width = size
    return str(height) if height == width else f"{height}×{width}"


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    name = f"**{row['name']}**" if row["ours"] else row["name"]
    return [
        name,
        row["runtime"],
        size_name(row["size"]),
        "/".join(number(row["ap"][key], 1) for key in names) if row["ap"] else NOTHING,
        number(row["inference_ms"] and row["inference_ms"]["p50"], 2),
        number(row["end_to_end_ms"]["p50"], 2),
        number(row["to_reference"], 2),
        number(row["cold_start_ms"], 0),
        number(row["peak_memory_mb"], 0),
        number(row["model_bytes"] / 1e6, 2),
        number(row["install_mb"], 0),
    ]


def markdown(report: dict[str, Any]) -> str:
    """The table, a line on how it was measured, and what was left out."""
    rows = report["rows"]
    names = ap_names(rows)
    header = [cell.format(ap="/".join(names)).strip() for cell in HEADER]
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if column < 3 else "---:" for column in range(len(header))) + "|",
        *("| " + " | ".join(_cells(row, names)) + " |" for row in rows),
        "",
    ]
    machine = report["machine"]
    load = f"load {machine['load_before'][0]:.1f} before and {machine['load_after'][0]:.1f} after"
    note = (
        f"{machine['cpu']}, {machine['cores']} cores, one thread each, {report['date']}; medians over "
        f"{report['photos']} photos × {report['rounds']} rounds, in turns; {load}. End to end: decoded photo in, faces "
        "out. ÷ reference: end to end, to the reference in ONNX Runtime at the same (for BlazeFace: the largest) input "
        "size."
    )
    if names:
        note += f" AP in percent over {report['ap_images']} images, {report['ap_rules']}."
    lines += textwrap.wrap(note, 118)
    if report["skipped"]:
        reasons = "; ".join(f"{key} ({why})" for key, why in report["skipped"].items())
        lines += ["", *textwrap.wrap(f"Not measured: {reasons}.", 118)]
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """AP over end-to-end latency, one panel per AP figure, as PNG; a line joins a detector's input sizes."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    names = ap_names(report["rows"])
    detectors: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        if row["ap"]:
            detectors.setdefault(f"{row['name']}, {row['runtime']}", []).append(row)
    figure = Figure(figsize=(5.5 * len(names), 5.5), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1, title=f"AP {name}", xlabel="end to end, ms (one thread)")
        axes.set_xscale("log")
        for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatted(LogFormatter(minor_thresholds=(2, 0.5)))  # 20, not 2 × 10¹
        if number == 0:
            axes.set_ylabel("AP, %")
        for index, (label, rows) in enumerate(detectors.items()):
            marker, size = ("*", 13) if rows[0]["ours"] else ("os^vD"[index % 5], 7)
            points = [(row["end_to_end_ms"]["p50"], row["ap"][name]) for row in rows]
            style = {"marker": marker, "markersize": size, "linewidth": 0.8, "color": colours[index % 20]}
            axes.plot(*zip(*points, strict=True), label=label, **style)
            for row, point in zip(rows, points, strict=True):
                axes.annotate(size_name(row["size"]), point, xytext=(4, 4), textcoords="offset points", fontsize=6)
        axes.grid(alpha=0.3, which="both")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
