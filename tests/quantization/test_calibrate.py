from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tf_keras as keras

from quantization.calibrate import (
    CalibrationError,
    Candidates,
    Probe,
    align_leaky,
    best_range,
    calibrate,
    differing_images,
    find_images,
    load_images,
)
from quantization.equalize import SMALLEST_FACTOR, channel_reach, equalize, equalize_on
from quantization.fold import fold
from quantization.simulate import Ranges, range_keys
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from tests.quantization.conftest import SIZE
from tflite.images import read_image
from tflite.preprocess import letterbox, shrink

# What the three levels of the pyramid read as well as the backbone.
NOT_BEFORE_DEPTHWISE = {"stage1_5_pw_conv", "stage2_6_pw_conv", "stage3_2_pw_conv"}


def test_images_are_spread_over_the_folder(photos: Path) -> None:
    assert [path.name for path in find_images([photos], 8)][::7] == ["00.png", "11.png"]
    assert len(find_images([photos], 100)) == 12


def test_too_few_images(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CalibrationError, match="no image"):
        find_images([tmp_path], 100)
    for name in ("00.png", "01.png"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    with pytest.raises(CalibrationError, match=f"{tmp_path}: 2 images, calibration needs at least 8"):
        find_images([tmp_path], 100)


def test_images_all_alike(tmp_path: Path) -> None:
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((40, 40, 3), 100, np.uint8))
    with pytest.raises(CalibrationError, match="only 1 of 10 images differ"):
        load_images(find_images([tmp_path], 10), 64, 64)


def test_unreadable_images_are_left_out(tmp_path: Path, photos: Path) -> None:
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert len(load_images(find_images([tmp_path], 20), 64, 64)) == 12


def test_large_photos_are_halved_as_the_network_will_see_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), random.integers(0, 116 + 20 * number, (300, 300, 3), np.uint8))
    paths = find_images([tmp_path], 8)
    halved = load_images(paths, 64, 64, antialias=True)
    expected = [letterbox(shrink(read_image(path), 64, 64), 64, 64, (104, 117, 123))[0] for path in paths]
    np.testing.assert_array_equal(halved, expected)
    assert load_images(paths, 64, 64).std() > 1.5 * halved.std()


def test_differing_images() -> None:
    images = np.zeros((4, 64, 64, 3), np.uint8)
    images[1] += 1  # one grey level: the same picture
    images[2, :, :32] = 200
    images[3] = images[2]
    assert differing_images(images) == 2
    assert differing_images(np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 3, 5, 7)])) == 3


def test_minmax_is_the_extreme_over_images(folded: tuple[keras.Model, ModelConfig], images: np.ndarray) -> None:
    found = calibrate(*folded, images[:3], "minmax")
    for name in ("fpn_add_8", "box_8"):  # an output's, too
        seen = [outputs[name] for outputs in Probe(folded[0])(images[:3], "")]
        assert found[name] == pytest.approx((min(v.min() for v in seen), max(v.max() for v in seen)))


def test_percentile_is_the_mean_over_images(folded: tuple[keras.Model, ModelConfig], images: np.ndarray) -> None:
    found = calibrate(*folded, images[:3], "percentile", 99.0)
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded[0])(images[:3], "")]
    expected = [np.mean([np.percentile(v, p) for v in seen]) for p in (20, 99)]  # twenty times as much below
    assert found["fpn_add_8"] == pytest.approx(expected, rel=1e-5)


def test_default_percentiles(folded: tuple[keras.Model, ModelConfig], images: np.ndarray, ranges: Ranges) -> None:
    seen = [outputs["fpn_add_8"] for outputs in Probe(folded[0])(images, "")]
    expected = [np.mean([np.percentile(v, p) for v in seen]) for p in (0.1, 99.995)]
    assert ranges["fpn_add_8"] == pytest.approx(expected, rel=1e-5)


def test_outputs_by_use(folded: tuple[keras.Model, ModelConfig], images: np.ndarray) -> None:
    plain, by_use = (calibrate(*folded, images[:4], by_use=flag) for flag in (False, True))
    for stride in folded[1].strides:
        assert by_use[f"class_{stride}"][0] >= -6
        assert by_use[f"class_{stride}"][1] >= plain[f"class_{stride}"][1], "the best scores are not clipped"


def head_outputs(scores: list[float], boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of one row of cells for strides 8, 16 and 32, at 8 those given: scores of the second anchor of each cell,
    whose box codes are `boxes` [cells, 4]; the first anchor's score is −9 and its codes are 99. Elsewhere nothing."""
    cells = len(scores)
    outputs = {}
    for stride in (8, 16, 32):
        outputs[f"class_{stride}"] = np.full((1, cells, 2), -9.0, np.float32)
        outputs[f"box_{stride}"] = np.full((1, cells, 8), 99.0, np.float32)
        outputs[f"landmark_{stride}"] = np.full((1, cells, 20), 99.0, np.float32)
    outputs["class_8"][0, :, 1] = scores
    outputs["box_8"][0, :, 4:] = boxes
    return outputs


def head_ranges(*images: dict[str, np.ndarray], low: float = -50.0) -> dict[str, tuple[float, float]]:
    heads = Candidates(ModelConfig())
    for outputs in images:
        heads.add(outputs)
    return heads.ranges({f"{head}_{stride}": (low, 50.0) for head in ("class", "box") for stride in (8, 16, 32)})


def test_codes_of_candidates_decide_the_ranges_of_box_outputs() -> None:
    """From 200 numbers on, of the anchors above logit(0.02), the 0.05 and 99.95 percentiles."""
    random = np.random.default_rng(0)
    likely, unlikely = random.normal(0, 3, (50, 4)), random.normal(0, 30, (70, 4))
    outputs = head_outputs([-3.8] * 50 + [-3.9] * 70, np.concatenate((likely, unlikely)))
    assert head_ranges(outputs)["box_8"] == pytest.approx(np.percentile(likely, (0.05, 99.95)), rel=1e-5)
    halves = head_outputs([-3.8] * 25, likely[:25]), head_outputs([-3.8] * 25, likely[25:])
    assert head_ranges(*halves)["box_8"] == pytest.approx(np.percentile(likely, (0.05, 99.95)), rel=1e-5)
    assert "box_8" not in head_ranges(head_outputs([-3.8] * 49, likely[:49])), "too few to say"
    assert "box_16" not in head_ranges(outputs)


def test_scores_range_from_the_floor_or_the_lowest_to_the_highest_seen() -> None:
    images = [head_outputs([score] * 3, np.zeros((3, 4))) for score in (1.5, 2.5, -1.0)]
    assert head_ranges(*images)["class_8"] == (-6.0, 2.5)
    assert head_ranges(*images, low=-4.0)["class_8"] == (-4.0, 2.5)
    assert head_ranges(*images)["class_16"] == (-6.0, 0.0), "0 is always inside"


@pytest.mark.parametrize("method", ["percentile", "minmax", "mse"])
def test_every_tensor_gets_a_range_around_zero(
    folded: tuple[keras.Model, ModelConfig], images: np.ndarray, method: str
) -> None:
    found = calibrate(*folded, images[:3], method)
    assert set(found) == set(range_keys(folded[0]).values())
    assert all(low <= 0 <= high and low < high for low, high in found.values())


def test_best_range_cuts_a_lone_outlier_and_keeps_a_flat_distribution() -> None:
    counts = np.full(2048, 1000)
    assert best_range(counts, -1.0, 1.0) == pytest.approx((-1, 1), abs=0.04)
    counts = np.zeros(2048, np.int64)
    counts[1024:1040] = 100_000  # everything within 0 … 0.0156 …
    counts[-1] = 1  # … but one value at 1
    low, high = best_range(counts, -1.0, 1.0)
    assert high < 0.5 and low > -0.5


def test_best_range_after_leaky_relu_cares_less_for_negatives() -> None:
    counts = np.zeros(2048, np.int64)
    counts[:1024] = np.linspace(1, 2000, 1024).astype(int)
    counts[1024:1100] = 5000
    assert best_range(counts, -1, 1, leaky=True)[0] > best_range(counts, -1, 1)[0]


def test_leaky_ratios_are_those_of_equal_rounding(folded: tuple[keras.Model, ModelConfig], ranges: Ranges) -> None:
    leaky = [layer.name for layer in folded[0].layers if isinstance(layer, keras.layers.LeakyReLU)]
    for name in leaky:
        before = name.replace("_act", "_conv")
        steps = [(high - low) / 255 for low, high in (ranges[before], ranges[name])]
        assert 0 < steps[0] / steps[1] * 25.6 - 43 < 1e-3, name  # a hair above: halves are rounded up
    again = align_leaky(folded[0], ranges)
    assert all(again[name] == pytest.approx(ranges[name], rel=1e-6) for name in ranges), "aligned ranges stay"


@pytest.mark.parametrize("after", [(-1.0, 2.0), (-0.5, 0.9)])
def test_leaky_ranges_only_widen(
    folded: tuple[keras.Model, ModelConfig], ranges: Ranges, after: tuple[float, float]
) -> None:
    """A conv's range of 4 against 3 (ratio 1.33, below 1.68: the conv's grows) or 1.4 (2.86: the other one)."""
    aligned = align_leaky(folded[0], ranges | {"stem_conv": (-1.0, 3.0), "stem_act": after})
    if after == (-1.0, 2.0):
        assert aligned["stem_conv"] == pytest.approx((-1.2598, 3.7793), abs=1e-3)  # 3 · 430/256 wide
        assert aligned["stem_act"] == after
    else:
        assert aligned["stem_conv"] == (-1.0, 3.0)
        assert aligned["stem_act"] == pytest.approx((-0.8505, 1.5309), abs=1e-3)  # 4 · 256/430 wide


def test_equalize_keeps_the_function_and_evens_out(
    folded: tuple[keras.Model, ModelConfig], images: np.ndarray, ranges: Ranges
) -> None:
    model = folded[0]
    reach = channel_reach(model, images[:4])
    even = equalize(model, reach, ranges)
    x = images[:2].astype(np.float32) - 115
    for a, b in zip(model(x), even(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())
    after = channel_reach(even, images[:4])
    assert set(reach) == {name for name in ranges if name.endswith("pw_conv")} - NOT_BEFORE_DEPTHWISE | {"stem_conv"}
    for name in reach:
        low, high = ranges[name]
        before, now = (np.maximum(r[name].low / low, r[name].high / high) for r in (reach, after))
        expected = before / np.clip(before, SMALLEST_FACTOR, 1.0)
        np.testing.assert_allclose(now, expected, rtol=1e-3, err_msg=name)
        assert np.median(now) > 0.99, "at least half of the channels fill their range"


def test_without_depthwise_convs_nothing_is_equalized(images: np.ndarray) -> None:
    config = ModelConfig(backbone="plain", width=0.5, activation="relu", neck_channels=8, ssh_channels=8)
    model, config = fold(build_model(config), config, SIZE, SIZE)
    assert equalize_on(model, config, images) is model
