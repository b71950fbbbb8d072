from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tf_keras as keras

from benchmarks import ablation
from benchmarks.ablation import DEFAULT, RECIPES
from quantization import convert
from quantization.config import Recipe
from quantization.fold import fold
from quantization.graph import Ranges
from quantization.source import find_source
from rf_keras.config import ModelConfig
from rf_keras.model_file import save_model
from rf_keras.synthetic import make_dataset
from tests.quantization.conftest import SIZE
from tests.quantization.test_convert import parsed

PER_CHANNEL = "min/max"


def test_the_default_row_is_what_convert_does() -> None:
    assert RECIPES[DEFAULT] == Recipe(**parsed(convert).recipe)
    assert len(set(RECIPES.values())) == len(RECIPES), "every row is another recipe"


def arguments(weights_file: Path, photos: Path, data: Path) -> list[str | Path]:
    return ["--weights", weights_file, "--data_dir", photos, "--eval_dir", data, "--size", str(SIZE)]


def test_rows_are_scored_and_kept(
    weights_file: Path,
    tiny: tuple[keras.Model, ModelConfig],
    ranges: Ranges,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_dataset(tmp_path / "data", 4, 0, SIZE)
    tuned, output = tmp_path / "tuned.keras", tmp_path / "rows.json"
    folded = fold(*tiny)
    save_model(folded.model, folded.config, tuned, {"quantization": {"size": [SIZE, SIZE], "ranges": ranges}})
    given = [
        *arguments(weights_file, photos, tmp_path / "data"),
        "--rows",
        PER_CHANNEL,
        "--rows",
        DEFAULT,
        "--json",
        output,
    ]
    given += ["--qat", tuned, "--qat", tuned]
    report = ablation.run(parsed(ablation, *given))
    assert json.loads(output.read_text()) == report
    assert list(report["rows"]) == ["float", PER_CHANNEL, DEFAULT, "+ QAT", f"+ QAT ({tuned})"]
    assert report["images"] == 4 and report["calibration_images"] == 12 and report["rules"] == "label.txt"
    assert "tf_keras" in report["rows"]["float"]["interpreter"]
    assert "tf_keras" not in report["rows"][PER_CHANNEL]["interpreter"]
    assert f"| {PER_CHANNEL} | {report['rows'][PER_CHANNEL]['all']:.1f} |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--rows": "mean"}, "--rows 'mean': unknown, expected some of 'min/max, depthwise per tensor'"),
        ({"--size": "100"}, "--size is 100, expected a multiple of 32"),
        ({"--eval_dir": "absent"}, "absent"),
        ({"--data_dir": "absent"}, "absent"),
        ({"--weights": "absent.keras"}, "absent.keras"),
    ],
)
def test_bad_input(change: dict[str, str], message: str, weights_file: Path, photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", 1, 0, SIZE)
    given: list[Any] = arguments(weights_file, photos, tmp_path / "data")
    for flag, value in change.items():
        if flag in given:
            at = given.index(flag)
            del given[at : at + 2]
        given += [flag, value]
    with pytest.raises(ValueError) as caught:
        ablation.run(parsed(ablation, *given))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_float_weights_are_no_qat_result(weights_file: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny\.keras: float weights, --qat expects"):
        ablation.qat_file(find_source(str(weights_file)), (SIZE, SIZE))
