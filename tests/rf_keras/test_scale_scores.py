"""Platt scaling of the score heads: one line per level, by hand, through both kinds of heads, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from quantization.calibrate import calibrate
from quantization.fold import fold
from quantization.simulate import simulate
from rf_keras import scale_scores
from rf_keras.config import FAST
from rf_keras.evaluation.ground_truth import Truth
from rf_keras.model import build_model, face_logit, output_names
from rf_keras.model_file import load_model
from rf_keras.scale_scores import Seen, apply_lines, checked, fit_lines, level_of, platt_line, scaled_ranges
from rf_keras.synthetic import make_dataset
from tests.quantization.test_convert import parsed
from tflite.anchors import make_anchors
from tflite.spec import ModelSpec

SMALL = dataclasses.replace(FAST, neck_channels=16, ssh_channels=16, blocks=(0, 0))
LINES = [(1.0, 0.0), (1.5, -0.25), (0.5, 2.0)]
FACE = np.array([[10.0, 10.0, 30.0, 30.0]], np.float32)
ELSEWHERE = FACE + 100


def test_a_line_by_hand() -> None:
    """Two scores: the line through both log odds. A quarter of those at 0 are faces, three quarters of those at 1."""
    slope, offset = platt_line(np.repeat([0.0, 1.0], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0], bool))
    assert offset == pytest.approx(-math.log(3), abs=1e-4)
    assert slope == pytest.approx(2 * math.log(3), abs=1e-4)


def test_which_level_an_anchor_belongs_to() -> None:
    spec = ModelSpec(input_height=64, input_width=96)
    anchors = make_anchors(spec.input_height, spec.input_width, spec.strides, spec.anchor_sizes)
    found = level_of(np.arange(len(anchors)), spec)
    wanted = [[anchor in sizes for sizes in spec.anchor_sizes].index(True) for anchor in anchors[:, 2].tolist()]
    np.testing.assert_array_equal(found, wanted)
    assert set(found) == {0, 1, 2}


def images(lines: Sequence[tuple[float, float]], count: int = 400, seed: int = 0) -> list[Seen]:
    """One detection per image, as often a face as sigmoid(2z − 1) says; level i shows (z − offset) / slope of it."""
    rng = np.random.default_rng(seed)
    seen = []
    for index in range(count * len(lines)):
        level = index % len(lines)
        slope, offset = lines[level]
        z = rng.uniform(-2, 3)
        hit = rng.uniform() < 1 / (1 + math.exp(1 - 2 * z))
        truth = Truth(Path("x"), FACE, np.full((1, 5, 2), -1, np.float32), np.ones(1, bool))
        boxes = FACE if hit else ELSEWHERE
        seen.append(Seen(truth, boxes, np.array([(z - offset) / slope], np.float32), np.array([level])))
    return seen


def test_levels_are_brought_to_the_finest_ones_scale() -> None:
    lines, counts = fit_lines(images(LINES, 4000), (8, 16, 32))
    assert lines[0] == (1.0, 0.0)
    np.testing.assert_allclose(lines, LINES, atol=0.15)
    for count in counts:
        assert count["hits"] + count["false_alarms"] == 4000
    # Scores that already agree stay: AP of the one half by the other's lines cannot fall far, nor rise.
    same = checked(images([(1.0, 0.0)] * 3), (8, 16, 32), 1200)
    assert same is not None
    assert same["after"]["0+"] == pytest.approx(same["before"]["0+"], abs=0.5)
    apart = checked(images([(1.0, 0.0), (1.0, 2.0), (1.0, -2.0)]), (8, 16, 32), 1200)
    assert apart is not None
    assert apart["after"]["0+"] > apart["before"]["0+"] + 3
    assert checked(images(LINES, 30), (8, 16, 32), 90) is None, "enough for all, too few for a half"


def test_halves_are_of_images_not_of_views(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = []

    def note(seen: Sequence[Seen], strides: Sequence[int]) -> tuple[list[tuple[float, float]], list[dict[str, int]]]:
        halves.append([image.truth for image in seen])
        return [(1.0, 0.0)] * len(strides), []

    monkeypatch.setattr("rf_keras.scale_scores.fit_lines", note)
    views = images([(1.0, 0.0)], 3)
    checked([*views, *views], (8,), 3)
    first, second, third = (image.truth for image in views)
    assert halves == [[first, third, first, third], [second, second]]


def test_what_counts_neither_way() -> None:
    """Second detections on a face, and those on faces that do not count, say nothing about scores."""
    seen = images([(1.0, 0.0)])
    fitted = fit_lines(seen, (8,))
    more = []
    for image in seen:
        ignored = Truth(
            image.truth.image,
            np.concatenate((FACE, FACE + 50)),
            np.full((2, 5, 2), -1, np.float32),
            np.array((True, False)),
        )
        boxes = np.concatenate((image.boxes, FACE + 50))
        more.append(Seen(ignored, boxes, np.append(image.logits, 9).astype(np.float32), np.array((0, 0))))
    assert fit_lines(more, (8,)) == fitted


@pytest.mark.parametrize("hits", [True, False])
def test_too_few_of_one_kind(hits: bool) -> None:
    seen = images([(1.0, 0.0)], 100)
    rare = [image for image in seen if (image.boxes is FACE) == hits]
    few = [image for image in seen if (image.boxes is FACE) != hits][:19]
    with pytest.raises(
        ValueError, match=r"stride 8: \d+ faces and \d+ false alarms .* in 1 images, expected 20 of each"
    ):
        fit_lines(rare + few, (8,))


def test_a_score_that_says_the_opposite() -> None:
    backwards = [dataclasses.replace(image, logits=-image.logits) for image in images([(1.0, 0.0)])]
    with pytest.raises(ValueError, match="stride 8: higher scores are faces less often"):
        fit_lines(backwards, (8,))


@pytest.mark.parametrize("logits", [1, 2])
def test_the_heads_take_the_lines_in(logits: int) -> None:
    config = dataclasses.replace(SMALL, class_logits=logits)
    model = build_model(config)
    for layer in model.layers:
        if layer.name.startswith("class_"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, np.linspace(-2, 2, len(bias))])
    image = tf.random.stateless_normal((1, 64, 64, 3), (1, 2)) * 60
    before = dict(zip(output_names(config), model(image), strict=True))
    apply_lines(model, config, LINES)
    for name, after in zip(output_names(config), model(image), strict=True):
        if not name.startswith("class_"):
            np.testing.assert_array_equal(after, before[name])
            continue
        slope, offset = LINES[config.strides.index(int(name.removeprefix("class_")))]
        wanted = slope * face_logit(before[name], config) + offset
        np.testing.assert_allclose(face_logit(after, config), wanted, rtol=1e-4, atol=1e-4)


def test_quantized_scores_stay_within_a_step() -> None:
    rng = np.random.default_rng(0)
    config = SMALL
    network = fold(build_model(config), config)
    folded, config = network.model, network.config
    pixels = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
    ranges = calibrate(network, pixels)
    image = pixels[:1].astype(np.float32) - np.array(ModelSpec().mean, np.float32)
    before = simulate(network, ranges)(image)
    apply_lines(folded, config, LINES)
    moved = scaled_ranges(ranges, config.strides, LINES)
    after = simulate(network, moved)(image)
    for stride, (slope, offset), old, new in zip(config.strides, LINES, before, after, strict=False):
        low, high = moved[f"class_{stride}"]
        assert low <= 0 <= high
        old = old.numpy()
        inside = (old > old.min()) & (old < old.max())  # what was clipped may show now: 0 stays in the range
        assert inside.any()
        assert np.abs(new - (slope * old + offset))[inside].max() <= 1.01 * (high - low) / 255
    assert {key for key in ranges if tuple(ranges[key]) != tuple(moved[key])} <= {"class_8", "class_16", "class_32"}


def run(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rf_keras.scale_scores", *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_command(root: Path, tmp_path: Path) -> None:
    weights = root / "rf_keras" / "weights" / "retinaface_fast_qat_320.keras"
    faces = make_dataset(tmp_path / "faces", 60, 3, 320)
    output, facts = tmp_path / "scaled.keras", tmp_path / "scaled.json"
    given = ("--weights", weights, "--data_dir", faces)
    done = run(root, *given, "--size", "320,640", "--output", output, "--json", facts)
    assert done.returncode == 0, done.stderr
    report = json.loads(facts.read_text())
    assert report["sizes"] == [320, 640] and report["images"] == 60
    assert [level["stride"] for level in report["levels"]] == [8, 16, 32]
    model, config, meta = load_model(output)
    assert meta["score_scaling"]["levels"] == report["levels"] and "ap" not in meta
    old, _, old_meta = load_model(weights)
    lines = [(level["slope"], level["offset"]) for level in report["levels"]]
    np.testing.assert_allclose(
        model.get_layer("class_32").get_weights()[0],
        lines[2][0] * old.get_layer("class_32").get_weights()[0],
        rtol=1e-3,
    )
    wanted = scaled_ranges(old_meta["quantization"]["ranges"], config.strides, lines)
    assert meta["quantization"]["ranges"]["class_32"] == pytest.approx(wanted["class_32"], abs=1e-3)
    assert "each half by the other's lines" in done.stdout

    kept = output.read_bytes()
    two = make_dataset(tmp_path / "two", 2, 4, 320)
    for arguments, message in (
        (("--weights", weights, "--data_dir", two, "--output", output), "give more images"),
        ((*given, "--size", "100", "--output", output), "multiple of 32"),
        ((*given, "--output", tmp_path / "scaled.h5"), "saved as .keras files"),
        (("--weights", weights, "--data_dir", tmp_path / "none", "--output", output), "none"),
    ):
        with pytest.raises(ValueError, match=message):
            scale_scores.run(parsed(scale_scores, *arguments))
    bad = run(root, "--weights", tmp_path / "none.keras", "--data_dir", faces, "--output", output)
    assert bad.returncode == 1
    assert "no such weights file" in bad.stderr and "Traceback" not in bad.stderr, bad.stderr
    assert output.read_bytes() == kept
