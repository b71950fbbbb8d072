from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras as keras

from benchmarks import ablation
from benchmarks.ablation import RECIPES, Recipe, int8_file
from quantization import convert
from quantization.export import read_graph
from quantization.fold import fold
from quantization.qat import swap_to_relu
from quantization.simulate import ChannelWeights, Ranges
from quantization.source import find_source
from quantization.verify import kernels
from rf_keras.config import ModelConfig
from rf_keras.model_file import save_model
from rf_keras.synthetic import make_dataset
from tests.quantization.conftest import SIZE
from tests.quantization.test_convert import parsed

ROWS = {recipe.name: recipe for recipe in RECIPES}
PER_TENSOR, PER_CHANNEL = "min/max, depthwise per tensor", "min/max"
EQUALIZED = "+ equalization (the default)"


def depthwise_scales(content: bytes) -> list[np.ndarray]:
    return [kernel.scales for name, kernel in kernels(read_graph(content)) if "_dw" in name]


def test_one_scale_for_depthwise_kernels_only(
    folded: tuple[keras.Model, ModelConfig], images: np.ndarray, ranges: Ranges
) -> None:
    before = ChannelWeights.largest
    files = {name: int8_file(*folded, images, ROWS[name], ranges) for name in (PER_TENSOR, PER_CHANNEL)}
    assert ChannelWeights.largest is before, "the product quantizes as before"
    tensor, channel = (depthwise_scales(files[name]) for name in (PER_TENSOR, PER_CHANNEL))
    assert len(tensor) == len(channel) > 10
    for one, many in zip(tensor, channel, strict=True):
        assert len(np.unique(many)) > 1
        np.testing.assert_array_equal(one, many.max())
    plain = [
        [kernel.scales for name, kernel in kernels(read_graph(files[row])) if "_dw" not in name]
        for row in (PER_TENSOR, PER_CHANNEL)
    ]
    for one, many in zip(*plain, strict=True):
        np.testing.assert_array_equal(one, many)


def test_the_default_row_is_what_convert_does() -> None:
    assert ROWS[EQUALIZED] == Recipe(EQUALIZED)
    flags = parsed(convert)
    assert (flags.method, flags.equalize, flags.bias_correction) == (
        ROWS[EQUALIZED].method,
        ROWS[EQUALIZED].equalized,
        ROWS[EQUALIZED].biases,
    )


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
    save_model(*fold(*tiny), tuned, {"quantization": {"size": [SIZE, SIZE], "ranges": ranges}})
    given = [
        *arguments(weights_file, photos, tmp_path / "data"),
        "--rows",
        PER_CHANNEL,
        "--rows",
        EQUALIZED,
        "--json",
        output,
    ]
    swapped = tmp_path / "swapped.keras"
    save_model(*swap_to_relu(*fold(*tiny)), swapped, {"quantization": {"size": [SIZE, SIZE], "ranges": ranges}})
    given += ["--qat", tuned, "--qat", swapped, "--qat", tuned]
    report = ablation.run(parsed(ablation, *given))
    assert json.loads(output.read_text()) == report
    assert list(report["rows"]) == ["float", PER_CHANNEL, EQUALIZED, "+ QAT", "+ QAT, relu", f"+ QAT ({tuned})"]
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
