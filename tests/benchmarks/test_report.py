from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2

from benchmarks.report import markdown, plot

ROW: dict[str, Any] = {
    "name": "m",
    "runtime": "LiteRT",
    "ours": True,
    "size": [320, 320],
    "inference_ms": {"p50": 1.234, "p90": 2.0},
    "end_to_end_ms": {"p50": 2.5, "p90": 3.0},
    "to_reference": 0.75,
    "model_bytes": 570_000,
    "install_mb": 250.4,
    "ap": {"easy": 90.0, "medium": 85.04, "hard": 52.0, "all": 60.0},
    "cold_start_ms": 150.2,
    "peak_memory_mb": None,
}


def report() -> dict[str, Any]:
    other = copy.deepcopy(ROW) | {"name": "YuNet", "ours": False, "size": [320, 640], "inference_ms": None, "ap": None}
    return {
        "machine": {"cpu": "CPU", "cores": 2, "load_before": (0.1, 0, 0), "load_after": (0.2, 0, 0)},
        "date": "2026-01-01",
        "photos": 3,
        "rounds": 4,
        "ap_images": 5,
        "ap_rules": "WIDER FACE .mat",
        "rows": [copy.deepcopy(ROW), other],
        "skipped": {"ncnn": "not installed"},
    }


def test_table() -> None:
    lines = markdown(report()).splitlines()
    assert "AP easy/medium/hard" in lines[0]
    columns = lines[0].count("|")
    assert all(line.count("|") == columns for line in lines[1:4])
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:5] == ["**m**", "LiteRT", "320", "90.0/85.0/52.0", "1.23"]
    assert cells[5:] == ["2.50", "0.75", "150", "–", "0.57", "250"]
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells[:5] == ["YuNet", "LiteRT", "320×640", "–", "–"]
    assert "Not measured: ncnn (not installed)." in lines


def test_one_ap_without_official_subsets() -> None:
    data = report()
    data["rows"][0]["ap"] |= {"easy": None, "medium": None, "hard": None}
    assert "| AP all |" in markdown(data)
    assert "| 60.0 |" in markdown(data)
    for row in data["rows"]:
        row["ap"] = None
    assert "| AP |" in markdown(data)


def test_lines_of_the_note_stay_short() -> None:
    data = report()
    data["skipped"] = {f"peer {number}": "not installed" for number in range(20)}
    assert max(len(line) for line in markdown(data).splitlines() if not line.startswith("|")) <= 120


def test_plot_of_the_rows_that_have_ap(tmp_path: Path) -> None:
    data = report()
    data["rows"].append(data["rows"][0] | {"size": [192, 320]})
    plot(data, tmp_path / "plot.png")
    image = cv2.imread(str(tmp_path / "plot.png"))
    assert image is not None
    assert image.shape[1] > 2 * image.shape[0]  # three panels side by side
