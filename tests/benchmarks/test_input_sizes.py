from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import input_sizes
from tests.tflite.conftest import photo
from tflite.command import parse
from tflite.images import write_image


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, two of them upright, with a face each."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for name, size in (("a.png", (128, 192)), ("b.png", (128, 64)), ("c.png", (192, 64))):
        write_image(folder / "images" / name, photo(*size, squares=((16, 16, 32),)))
        lines += [f"# {name}", "16 16 32 32 " + "-1.0 " * 15 + "0.9"]
    (folder / "label.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_figures(data: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model of 64×96 pixels: upright pictures take 64×64 of them."""
    given = ["--model", str(model_dir / "int8.tflite"), "--data_dir", str(data), "--sizes", "auto,own,128x192"]
    report = input_sizes.run(parse(input_sizes.Options, [*given, "--rounds", "2"]))
    own, auto, large = report["rows"]
    assert [row["size"] for row in report["rows"]] == ["own", "auto", "128x192"]
    assert own["shapes"] == {"64x96": 3} and (own["time_to_own"], own["pixels_to_own"]) == (1, 1)
    assert auto["shapes"] == {"64x64": 2, "64x96": 1} and auto["changes"] == 1
    assert auto["pixels_to_own"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3, abs=1e-4)
    assert large["pixels_to_own"] == 4 and large["changes"] == 0
    for row in report["rows"]:
        assert row["end_to_end_ms"] == pytest.approx(row["time_to_own"] * own["end_to_end_ms"], rel=0.01)
        assert 0 <= row["ap"]["all"] <= 100 and row["ap"]["easy"] is None
    assert "int8.tflite, 3 photos × 2 rounds" in capsys.readouterr().out


def test_without_turns_there_is_ap_alone(data: Path, model_dir: Path) -> None:
    given = ["--model", str(model_dir / "int8.tflite"), "--data_dir", str(data), "--rounds", "0"]
    report = input_sizes.run(parse(input_sizes.Options, [*given, str(data / "images" / "a.png")]))
    assert [row["time_to_own"] for row in report["rows"]] == [None, None]
    assert report["photos"] == 1 and report["rows"][1]["ap"]["all"] >= 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to measure on: name photos or folders, or give --data_dir"),
        (["{tmp}/none.jpg"], "none.jpg"),
        (["--sizes", "auto,big"], "input size is 'big', expected auto, own, or HEIGHTxWIDTH"),
        (["--model", "{tmp}/none.tflite", "{tmp}"], "none"),
    ],
)
def test_bad_input(given: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        input_sizes.run(parse(input_sizes.Options, [part.format(tmp=tmp_path) for part in given]))
    assert message in str(error.value)
