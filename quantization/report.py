"""The comparison as one self-contained HTML page: tables, plots and photo pairs, all inside the file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from quantization.comparison import Column, Disagreement
from rf_keras.evaluation.wider_ap import SUBSETS
from tflite.draw import draw_detections
from tflite.images import read_image
from tflite.messages import printable
from tflite.postprocess import Detections

PHOTO_SIDE = 560  # pixels, longer side of a photo in the page
WORST_LAYERS = 15
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #1c2430; }
table { border-collapse: collapse; margin: 0.6em 0 1.4em; }
th, td { padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #d9dee5; }
th:first-child, td:first-child { text-align: left; }
.loss { color: #a33; font-size: 85%; } .gain { color: #27713a; font-size: 85%; }
img { max-width: 100%; } figure { display: inline-block; margin: 0 0.6em 1em 0; vertical-align: top; }
figcaption, .note { color: #5a6573; font-size: 90%; }
"""


def html_report(
    reference: Column, columns: Sequence[Column], pairs: Sequence[Disagreement], document: dict[str, Any]
) -> str:
    """The page.

    Args:
        reference: the float model.
        columns: the exported files.
        pairs: photos to draw, float left, file right.
        document: `data_dir`, `rules`, `images` and `size` for the heading, `machine` for the times.
    """
    what = f"{document['images']} images of {document['data_dir']}, {document['size']} px letterbox, rules: "
    parts = [
        f"<h1>int8 against float</h1><p class=note>{_text(what + document['rules'])}</p>",
        "<h2>Accuracy</h2>",
        _accuracy(reference, columns),
        "<h2>AP by face size</h2>",
        _by_size(reference, columns),
        "<h2>Cost</h2>",
        _cost(reference, columns, document),
        "<h2>Scores</h2>",
        "<p class=note>Detections on a face (solid) and elsewhere (dashed) by score, logarithmic.</p>",
        _image(_histograms([reference, *columns])),
    ]
    for column in columns:
        if column.layers:
            parts += [f"<h2>Where {_text(column.name)} loses signal</h2>", _layers(column)]
    if pairs:
        parts.append(
            "<h2>Photos of most disagreement</h2><p class=note>Left float, right the file, each from its own "
            "threshold.</p>"
        )
        parts += [_pair(pair) for pair in pairs]
    body = "\n".join(parts)
    head = f"<meta charset=utf-8><title>int8 against float</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}{body}</html>"


def _text(text: str) -> str:
    """A file's or a user's text as HTML that shows it."""
    return html.escape(printable(text))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _against(value: float | None, float_value: float | None) -> str:
    """AP with its difference to the float model's."""
    if value is None or float_value is None:
        return _number(value)
    change = round(value - float_value, 1) + 0.0  # no −0.0
    return f"{value:.1f} <span class={'loss' if change < 0 else 'gain'}>{change:+.1f}</span>"


def _accuracy(reference: Column, columns: Sequence[Column]) -> str:
    keys = [key for key in (*SUBSETS, "all") if reference.figures[key] is not None]
    header = [
        "model",
        "kind",
        *(f"AP {key}" for key in keys),
        "landmark NME, %",
        "NME ÷ float",
        "float's faces found, %",
        "threshold",
    ]
    base = reference.figures
    rows = [
        [
            "float",
            "float",
            *(_number(base[key]) for key in keys),
            _percent(base["nme"], 2),
            "1",
            "100",
            f"{base['score_threshold']:g}",
        ],
        *(
            [
                _text(column.name),
                _text(column.figures["kind"]),
                *(_against(column.figures[key], base[key]) for key in keys),
                _percent(column.figures["nme"], 2),
                _number(column.figures["nme"] / base["nme"], 3) if column.figures["nme"] and base["nme"] else "–",
                _percent(column.figures["same_faces"]),
                f"{column.figures['score_threshold']:g}",
            ]
            for column in columns
        ),
    ]
    return _table(header, rows)


def _percent(share: float | None, digits: int = 1) -> str:
    return _number(None if share is None else 100 * share, digits)


def _by_size(reference: Column, columns: Sequence[Column]) -> str:
    header = ["√(w·h), px", "faces", "float", *(_text(column.name) for column in columns)]
    rows = []
    for name, row in reference.figures["by_size"].items():
        others = (_against(column.figures["by_size"][name]["ap"], row["ap"]) for column in columns)
        rows.append([name, str(row["faces"]), _number(row["ap"]), *others])
    return _table(header, rows)


def _cost(reference: Column, columns: Sequence[Column], document: dict[str, Any]) -> str:
    threads = ("1", "2")
    header = ["model", "kB", "ops", *(f"invoke, {t} thread{'s' * (t != '1')}, ms" for t in threads)]
    header += [f"end to end, {t}, ms" for t in threads] + ["interpreter"]
    rows = [
        ["float (Keras)", f"{reference.figures['bytes'] / 1000:.0f}", "–", *["–"] * 4, reference.figures["interpreter"]]
    ]
    for column in columns:
        ops = sum(column.figures["ops"].values())
        times = column.figures["latency_ms"]
        cells = [_number(times[t][stage], 2) for stage in ("invoke", "end_to_end") for t in threads]
        name, interpreter = _text(column.name), _text(column.figures["interpreter"])
        rows.append([name, f"{column.figures['bytes'] / 1000:.0f}", str(ops), *cells, interpreter])
    details = "".join(
        f"<p class=note>{_text(column.name)}: "
        + _text(", ".join(f"{count} {op}" for op, count in column.figures["ops"].items()))
        + "</p>"
        for column in columns
    )
    machine = document["machine"]
    load = " and ".join(_number(value) for value in machine["load"])
    note = (
        f"Medians of {machine['runs']} runs on one photo, the files in turns, on {machine['cpu']}, "
        f"{machine['cores']} cores; load {load} before and after."
    )
    return _table(header, rows) + f"<p class=note>{html.escape(note)}</p>" + details


def _layers(column: Column) -> str:
    worst = column.layers[:WORST_LAYERS]
    rows = [[_text(layer.layer), _text(layer.op), _number(layer.sqnr)] for layer in worst]
    return _table(["layer, worst first", "op", "SQNR, dB"], rows) + _image(_sqnr_plot(column))


def _sqnr_plot(column: Column) -> bytes:
    figure = Figure(figsize=(11, 3), layout="constrained")
    axis = figure.add_subplot()
    values = [layer.sqnr for layer in column.layers]
    axis.bar(range(len(values)), values, color="#4472a8")
    axis.set(xlabel="layers, worst first", ylabel="SQNR, dB")
    axis.grid(axis="y", alpha=0.3)
    return _png(figure)


def _histograms(columns: Sequence[Column]) -> bytes:
    """Detections by score, those on a face and the others."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axis = figure.add_subplot()
    edges = np.linspace(0, 1, 51)
    centres = (edges[:-1] + edges[1:]) / 2
    for number, column in enumerate(columns):
        images = column.evaluation.images
        scores = np.concatenate([r.matches.scores for r in images]) if images else np.zeros(0)
        on_face = np.concatenate([r.matches.face >= 0 for r in images]) if images else np.zeros(0, bool)
        for chosen, style in ((on_face, "-"), (~on_face, "--")):
            counts, _ = np.histogram(scores[chosen], edges)
            axis.plot(
                centres,
                np.maximum(counts, 0.5),
                style,
                color=f"C{number}",
                label=_plain(column.name) if style == "-" else None,
            )
    axis.set(xlabel="score", ylabel="detections", yscale="log")
    axis.legend()
    axis.grid(alpha=0.3)
    return _png(figure)


def _plain(text: str) -> str:
    """For matplotlib, which takes text between dollar signs for a formula."""
    return printable(text).replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    return buffer.getvalue()


def _image(data: bytes, kind: str = "png") -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _pair(pair: Disagreement) -> str:
    image = read_image(pair.image)
    figures = [
        f"<figure>{_image(_photo(image, detections), 'jpeg')}<figcaption>{_text(name)}: "
        f"{len(detections.boxes)} faces, {missing} of them not found by the other</figcaption></figure>"
        for name, detections, missing in (("float", pair.expected, pair.lost), (pair.model, pair.found, pair.new))
    ]
    return f"<p>{_text(pair.image.name)}</p><div>{''.join(figures)}</div>"


def _photo(image: np.ndarray, detections: Detections) -> bytes:
    drawn = draw_detections(image, detections)
    scale = min(1.0, PHOTO_SIDE / max(drawn.shape[:2]))
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
