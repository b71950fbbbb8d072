from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import figures
from tflite.command import parse

MARGIN = {"found": 90.04, "found_70": 80.0, "pieces": 1.5, "nme": 8.0}
METRICS: dict[str, Any] = {
    "all": 50.0,
    "images": 2,
    "faces": 9,
    "size": 640,
    "interpreter": "one",
    "easy": 90.0,
    "medium": 85.04,
    "hard": 52.0,
    "nme": 0.0801,
    "by_size": {"0-16": {"ap": 1.0, "faces": 3}, "128+": {"ap": None, "faces": 0}},
    "large": {
        "faces": 9,
        "closeups": {name: dict(MARGIN) for name in figures.MARGINS},
        "turned": {angle: {"found": 50.0, "nme": 9.0, "pieces": 0.0} for angle in figures.ANGLES},
    },
}


def measured() -> dict[str, Any]:
    int8 = {m.file: json.loads(json.dumps(METRICS)) | {"sha256": "ab", "bytes": 1_180_000} for m in figures.SHIPPED}
    floats = {m.float_key: dict.fromkeys(("easy", "medium", "hard"), 90.0) for m in figures.SHIPPED}
    return {"int8": int8, "float": floats}


def side() -> dict[str, Any]:
    ours = {"ours": True, "file": figures.SHIPPED[0].file, "size": [640, 640], "inference_ms": {"p50": 9.376}}
    return {
        "rows": [ours | {"size": [480, 640], "inference_ms": {"p50": 7.0}}, ours],
        "machine": {"cpu": "CPU"},
        "date": "2026-01-01",
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_models() -> None:
    lines = figures.models_table(measured(), side()).splitlines()
    file = f"`{figures.SHIPPED[0].file}`"
    assert cells(lines[2]) == [f"{file} (default)", "1.18", "90.0/85.0/52.0", "90/90/90", "9.4"]
    assert cells(lines[3])[-1] == "–"  # not in the table of times


def test_what_int8_costs() -> None:
    data = measured()
    data["int8"][figures.SHIPPED[0].file]["easy"] = 90.02
    assert cells(figures.ap_table(data, side()).splitlines()[2]) == [
        "`fast_640`",
        "90.0/90.0/90.0",
        "90.0/85.0/52.0",
        "0.0/5.0/38.0",
        "–, 8.01",
    ]
    data["int8"][figures.SHIPPED[0].file]["easy"] = 90.2
    assert cells(figures.ap_table(data, side()).splitlines()[2])[3] == "−0.2/5.0/38.0"


def test_sizes_without_a_face_have_a_dash() -> None:
    lines = figures.sizes_table(measured(), side()).splitlines()
    assert cells(lines[0]) == ["", "0–16", "128+"]
    assert cells(lines[2]) == ["`fast_640`", "1.0", "–"]


def test_close_ups_show_the_worst_of_all_margins() -> None:
    data, times = measured(), side()
    large = data["int8"][figures.SHIPPED[0].file]["large"]
    large["closeups"]["0.1"] |= {"found": 12.0, "found_70": 7.0, "pieces": 3.25}
    times["rows"].append({"ours": False, "name": "peer, float", "size": [640, 640], "large": large})
    del data["int8"][figures.SHIPPED[1].file]["large"]
    lines = figures.closeups_table(data, times).splitlines()
    assert cells(lines[2]) == ["`fast_640`", "90.0", "90.0", "90.0", "12.0", "90.0", "7.0", "3.2"]
    assert cells(lines[3]) == ["`fast_320`", *"–" * 7]
    assert cells(lines[6]) == ["peer_640", *cells(lines[2])[1:]]
    assert len(lines) == 2 + len(figures.SHIPPED) + 1


def test_turned() -> None:
    data = measured()
    data["int8"][figures.SHIPPED[1].file]["large"]["turned"]["90"]["nme"] = None  # nothing found there
    lines = figures.turned_table(data, side()).splitlines()
    assert cells(lines[2]) == ["`fast_640`", *["50.0/9.0"] * 4]
    assert cells(lines[3]) == ["`fast_320`", "50.0/9.0", "50.0/–", "50.0/9.0", "50.0/9.0"]


def test_input_sizes() -> None:
    own = {"size": "own", "ap": METRICS, "pixels_to_own": 1.0, "time_to_own": 1.0, "changes": 0}
    auto = {"size": "auto", "ap": METRICS, "pixels_to_own": 0.768, "time_to_own": None, "changes": 7}
    report = {"file": "m.tflite", "photos": 3, "machine": {"cpu": "CPU"}, "date": "2026-01-01", "rows": [own, auto]}
    lines = figures.input_sizes_table(report).splitlines()
    assert cells(lines[0])[0] == "`m.tflite` at"
    assert cells(lines[3]) == ["auto", "90.0/85.0/52.0", "0.77", "–"]
    assert "3 photos" in lines[-1] and "auto: 7 changes" in lines[-1]


def test_shapes_of_cameras() -> None:
    assert figures.shapes_table(measured(), {"rows": [{"size": [640, 640]}]}) == ""
    row = {"runtime": "R", "ap": METRICS, "end_to_end_ms": {"p50": 8.0}, "to_reference": 0.5}
    given = [("a", [480, 640]), ("b", [480, 640]), ("a", [384, 640]), ("a", [640, 640])]
    rows = [row | {"name": name, "size": size} for name, size in given]
    lines = figures.shapes_table(measured(), {"rows": rows}).splitlines()
    assert cells(lines[0])[1::3] == ["AP at 480×640", "AP at 384×640"]
    assert cells(lines[2]) == ["a, R", *("90.0/85.0/52.0", "8.00", "0.50") * 2]
    assert cells(lines[3]) == ["b, R", "90.0/85.0/52.0", "8.00", "0.50", "–", "–", "–"]
    assert len(lines) == 4


def test_only_what_lies_between_the_markers_changes() -> None:
    a, b = ((f"<!-- figures:{name}:begin -->\n", f"<!-- figures:{name}:end -->") for name in "ab")
    text = f"# É\n{a[0]}old\nold\n{a[1]}\nmiddle\n{b[0]}{b[1]}"
    for tables in ({"a": "| 1 |\n", "b": ""}, {"a": "| 2 |\n", "b": "x\n"}):
        text = figures.fill(text, tables, "D.md")
        assert text == f"# É\n{a[0]}{tables['a']}{a[1]}\nmiddle\n{b[0]}{tables['b']}{b[1]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures:c:begin -->\n<!-- figures:c:end -->", r"D\.md: no table is called 'c', expected one of a"),
        ("<!-- figures:a:begin -->\n", r"D\.md: a line .* has no other half"),
        ("<!-- figures:a:begin -->\n<!-- figures:b:end -->", r"D\.md: a line .* has no other half"),
    ],
)
def test_markers_that_are_not_a_pair(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.fill(text, {"a": "", "b": ""}, "D.md")


OPTIONS = ["--data_dir", "photos", "--gt_dir", "truth"]
NOTHING: dict[str, Any] = {"int8": {}, "float": {}}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have measured; each writes the same figures."""
    found: list[list[str]] = []

    def fake(command: list[str], **_: Any) -> SimpleNamespace:
        found.append(command)
        metrics = METRICS | {"model": "/somewhere/m.tflite", "data_dir": "/somewhere", "images_per_second": 3.0}
        Path(command[command.index("--json") + 1]).write_text(json.dumps(metrics))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(figures.subprocess, "run", fake)
    return found


def test_measuring_keeps_figures_and_no_paths(commands: list[list[str]]) -> None:
    *_, found = figures.measure(parse(figures.Options, OPTIONS), NOTHING)
    assert "somewhere" not in json.dumps(found) and len(commands) == 2 * len(figures.SHIPPED)
    models = {path.name for path in (figures.ROOT / figures.MODELS).glob("*.tflite")}
    assert set(found["int8"]) == models - {"retinaface_fast_mesh_640_int8.tflite"}  # as without a mesh
    turned = [command[command.index("--model") + 1] for command in commands if "--turned" in command]
    assert len(turned) == len(figures.SHIPPED) and all(model.endswith(".tflite") for model in turned)


def test_files_that_were_measured_are_not_measured_again(commands: list[list[str]]) -> None:
    options = parse(figures.Options, OPTIONS)
    *_, found = figures.measure(options, NOTHING)
    changed = figures.SHIPPED[1].file
    found["int8"][changed] |= {"sha256": "another", "easy": 1.0}
    found["float"][figures.SHIPPED[0].float_key]["easy"] = 2.0
    commands.clear()
    *_, later = figures.measure(options, found)
    assert [Path(command[command.index("--model") + 1]).name for command in commands] == [changed]
    assert later["int8"][changed]["easy"] == 90.0 and later["float"][figures.SHIPPED[0].float_key]["easy"] == 2.0
    commands.clear()
    del later["int8"][changed]["large"]  # an earlier figure without close-ups
    *_, later = figures.measure(options, later)
    assert len(commands) == 1 and "large" in later["int8"][changed]
    commands.clear()
    *_, again = figures.measure(parse(figures.Options, [*OPTIONS, "--again"]), later)
    assert len(commands) == 2 * len(figures.SHIPPED)
    assert again["float"][figures.SHIPPED[0].float_key]["easy"] == 90.0


def test_a_failed_measurement_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(RuntimeError, match=r"fast_640_int8\.tflite: rf_keras\.evaluate failed"):
        next(figures.measure(parse(figures.Options, OPTIONS), NOTHING))
    with pytest.raises(ValueError, match="--data_dir needs --gt_dir"):
        figures.run(parse(figures.Options, ["--data_dir", "photos"]))
