from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from quantization import convert, qat, qat_loop, qat_steps, recipe
from quantization.config import QatConfig, Recipe
from quantization.distill import LEVEL_PRIOR, distillation_loss
from rf_keras.config import SMALL_ANCHORS, ModelConfig
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.losses import teacher_sums
from rf_keras.distillation.teacher import Scrfd
from rf_keras.history import PART
from rf_keras.labels import LabelError
from rf_keras.losses import multibox_sums, normalize
from rf_keras.matching import match
from rf_keras.model import build_model, flatten_outputs
from rf_keras.model_file import load_model, save_model
from rf_keras.progress import Interrupted
from rf_keras.run_dir import RunError, create_run, read_config, write_pictures
from tests.durability import Disk
from tests.rf_keras.distillation.test_teacher import make_teacher
from tflite.spec import ModelSpec, read_spec

from .conftest import SIZE, randomize
from .test_convert import parsed

STEPS = 4
# Sums of two branches, as `fast` has them; depthwise convs are tuned in the test of learned ranges.
PLAIN = ModelConfig(backbone="fast", width=0.5, blocks=(1, 0), neck_channels=8, ssh_channels=8)

# The command, killed by itself in the validation after step 4: the checkpoint of step 2 is all that is left.
DIES = """
import os, signal
from quantization import qat, qat_loop

real, calls = qat_loop.Tuner._validation_loss, []

def dies_in_the_second(self, tuned):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, tuned)

qat_loop.Tuner._validation_loss = dies_in_the_second
qat.main()
"""


@pytest.fixture(scope="module")
def config(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> QatConfig:
    path = tmp_path_factory.mktemp("weights") / "plain.keras"
    keras.utils.set_random_seed(1)
    save_model(randomize(build_model(PLAIN)), PLAIN, path, {"source": "random"})
    return QatConfig(
        weights=str(path),
        data_dirs=(str(photos),),
        size=SIZE,
        steps=STEPS,
        batch=2,
        warmup_steps=1,
        recipe=Recipe(calibration_images=8),
        val_images=2,
        val_every=2,
    )


@pytest.fixture(scope="module")
def finished(config: QatConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("qat") / "run"
    with Disk() as disk:
        create_run(run_dir, config)
        figures = qat_steps.run_all(config, run_dir)
    (run_dir / "figures.json").write_text(json.dumps(figures | {"lost": disk.lost(run_dir)}))
    return run_dir


def test_the_disk_holds_a_run_at_its_end(finished: Path) -> None:
    assert json.loads((finished / "figures.json").read_text())["lost"] == []


def test_the_end_sets_int8_beside_float(finished: Path) -> None:
    """Without labels the float network's faces stand for them."""
    figures = json.loads((finished / "figures.json").read_text())
    before, after = figures["float"], figures["int8"]
    assert before["images"] == after["images"] == 2 and before["faces"] == after["faces"] > 10
    # Not 100: boxes of a random network are degenerate, and one answer may stand on another's.
    assert before["ap"] > after["ap"] > 0 and after["nme"] > before["nme"] == 0


def test_layers_that_do_not_learn_stay(config: QatConfig, finished: Path, labelled: Path, tmp_path: Path) -> None:
    names = "ssh_8|class_8|box_8"
    one_level = dataclasses.replace(
        config, weights=str(finished / "last.keras"), data_dirs=(str(labelled),), multibox=True, layers=names
    )
    one_level = dataclasses.replace(one_level, distill=False, learn_ranges=True, learning_rate=1e-2)
    create_run(tmp_path / "run", one_level)
    qat_steps.run_all(one_level, tmp_path / "run")
    (before, _, old), (after, _, new) = (load_model(run / "last.keras") for run in (finished, tmp_path / "run"))
    changed = {
        layer.name
        for layer in before.layers
        if layer.get_weights()
        and not np.array_equal(layer.get_weights()[0], after.get_layer(layer.name).get_weights()[0])
    }
    assert {name.partition("_")[0] for name in changed} == {"ssh", "class", "box"}
    assert all(re.match(names, name) for name in changed)
    ranges = old["quantization"]["ranges"], new["quantization"]["ranges"]
    moved = {name for name in ranges[0] if not np.allclose(ranges[0][name], ranges[1][name], rtol=1e-6)}
    assert moved
    assert all(re.match(names, name) for name in moved)
    assert new["parts"][-1][PART[0]] == f"quantization-aware tuning of {names}"
    assert new["source"] == old["source"] == "random; quantization-aware tuning by rf_keras"


def test_no_layer_of_that_name(config: QatConfig, tmp_path: Path) -> None:
    nothing = dataclasses.replace(config, layers="ssh_64")
    create_run(tmp_path / "run", nothing)
    with pytest.raises(ValueError, match="layers is 'ssh_64', expected the beginning of layers' names"):
        qat_steps.run_all(nothing, tmp_path / "run")
    with pytest.raises(ValueError, match=r"layers is '\(', expected a regular expression"):
        dataclasses.replace(config, layers="(")


def test_loss_of_equal_outputs_is_zero_and_counts_what_either_finds() -> None:
    config = ModelConfig(class_logits=1)
    maps = [tf.zeros((1, 2, 2, 2 * code)) - 8.0 * (code == 1) for code in (1, 4, 10) for _ in range(3)]
    assert float(distillation_loss(maps, maps, config).total) == 0
    # In one of the levels the first anchor of each of the four cells is at logit +2 in the student alone: smooth L1
    # from the floor at −6 is 7.5, and the anchors weigh sigmoid(logit + 2).
    found, quiet = 4 / (1 + np.exp(-4.0)), 4 / (1 + np.exp(6.0))
    expected = 7.5 * found / (found + quiet + LEVEL_PRIOR) / 3
    for level in range(3):
        alarm = list(maps)
        alarm[level] = maps[level] + tf.one_hot([[[0]]], 2) * 10
        score = float(distillation_loss(alarm, maps, config).score)
        assert score == pytest.approx(expected, rel=1e-4), "a new false alarm costs, the same at each level"
    below = [maps[0] - 5.0, *maps[1:]]
    assert float(distillation_loss(below, maps, config).score) == 0, "scores under the floor are all alike"


def test_run_directory(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "metrics.csv",
        "curves.png",
        "best.keras",
        "last.keras",
        "start.keras",
        "original.keras",
    } <= names
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["2", "4"]


def test_frozen_ranges_are_the_calibrated_ones(finished: Path) -> None:
    _, _, start = load_model(finished / "start.keras")
    model, config, last = load_model(finished / "last.keras")
    for name, values in start["quantization"]["ranges"].items():
        assert last["quantization"]["ranges"][name] == pytest.approx(values, rel=1e-6)
    assert config.class_logits == 1
    before = load_model(finished / "start.keras")[0].get_weights()
    assert any(not np.allclose(a, b) for a, b in zip(before, model.get_weights(), strict=True)), "weights were tuned"


def test_a_page_among_the_pictures_is_named_and_left_out(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "page.jpg").write_bytes(b"<!doctype html>")
    samples, sizes = qat_steps.read_samples(QatConfig("w.keras", (str(tmp_path),), batch=2, val_images=2))
    assert sizes == [12] and [sample.size for sample in samples] == [(80, 60)] * 12
    assert f"1 of 13 pictures cannot be read ({tmp_path}/page.jpg" in caplog.text


def test_export_equals_the_simulation(finished: Path, photos: Path) -> None:
    arguments = ("--int8", "--weights", finished, "--output", finished / "m.tflite")
    facts = convert.run(parsed(convert, *arguments))
    assert facts["lsb_99_9"] <= 2
    assert read_spec(finished / "m.tflite").quantization == "int8-qat"


@pytest.fixture(scope="module")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos, each with one face."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    lines = []
    for path in sorted(photos.iterdir()):
        (folder / "images" / path.name).write_bytes(path.read_bytes())
        lines += [f"# {path.name}", "10 10 30 30 " + "-1 -1 -1 " * 5 + "1"]
    (folder / "label.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_both_losses_and_learned_ranges(config: QatConfig, weights_file: Path, labelled: Path, tmp_path: Path) -> None:
    changed = dataclasses.replace(
        config, weights=str(weights_file), data_dirs=(str(labelled),), steps=2, multibox=True, learn_ranges=True
    )
    run_dir = tmp_path / "run"
    create_run(run_dir, changed)
    qat_steps.run_all(changed, run_dir)
    meta = load_model(run_dir / "last.keras")[2]
    before = load_model(run_dir / "start.keras")[2]["quantization"]["ranges"]
    after = meta["quantization"]["ranges"]
    assert before["image"] == pytest.approx(after["image"])
    assert any(abs(before[name][1] - after[name][1]) > 1e-7 for name in before), "learned ranges move"
    assert "multibox" in (run_dir / "metrics.csv").read_text().splitlines()[0]


def test_going_on_from_tuned_weights(
    finished: Path, config: QatConfig, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges and the weights are the run's; nothing is calibrated, equalized or corrected anew."""
    for name in ("equalize_on", "calibrate", "correct_biases"):
        monkeypatch.setattr(recipe, name, None)
    before, network, meta = load_model(finished / "best.keras")
    for name, (low, high) in meta["quantization"]["ranges"].items():  # learned ones are no float32
        meta["quantization"]["ranges"][name] = [low * 0.97, high * 0.97]
    save_model(before, network, tmp_path / "tuned.keras", meta)
    given = [f"--weights={tmp_path / 'tuned.keras'}", f"--data_dir={labelled}", "--nodistill", "--multibox"]
    given += ["--steps=2", "--batch=2"]
    given += ["--set=val_images=2", "--set=val_every=2", "--set=warmup_steps=1", f"--run_dir={tmp_path / 'run'}"]
    qat.run(parsed(qat, *given))
    assert read_config(tmp_path / "run", QatConfig).size == SIZE, "the run's own"
    start, _, start_meta = load_model(tmp_path / "run" / "start.keras")
    after, _, after_meta = load_model(tmp_path / "run" / "last.keras")
    assert start_meta["quantization"] == after_meta["quantization"] == meta["quantization"], "as rf_keras.average asks"
    for old, same in zip(before.get_weights(), start.get_weights(), strict=True):
        np.testing.assert_array_equal(old, same)
    assert any(np.abs(old - new).max() > 0 for old, new in zip(before.get_weights(), after.get_weights(), strict=True))


def test_held_out_loss_of_labels(config: QatConfig, labelled: Path, tmp_path: Path) -> None:
    """Where the float network is not imitated, being far from it is no loss."""
    labels = dataclasses.replace(config, data_dirs=(str(labelled),), distill=False, multibox=True)
    original, network, _ = load_model(Path(config.weights))
    tuner = qat_loop.Tuner(original, network, labels, *qat_steps.read_samples(labels), tmp_path)
    anchors = tf.constant(network.anchors(SIZE, SIZE))
    by_hand = []
    for batch in tuner.validation:
        outputs = original(tf.cast(batch["image"], tf.float32) - ModelSpec.mean, training=False)
        matched = match(batch["boxes"], batch["count"], network, SIZE, SIZE)
        faces = (batch["boxes"], batch["landmarks"])
        sums = multibox_sums(flatten_outputs(outputs, network), matched, *faces, anchors, network.variances)
        by_hand.append(float(normalize(sums, sums.positives, sums.positives_with_landmarks).total))
    assert min(by_hand) > 0
    values = [tf.Variable(value) for value in original.trainable_variables]
    tuned = qat_loop.Tuned(original, original.trainable_variables, values, values)
    assert tuner._validation_loss(tuned) == pytest.approx(np.mean(by_hand), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected float weights to imitate; add --nodistill and --multibox or --teacher"),
        (["--nodistill", "--multibox", "--set=percentile=99.9"], "keeps its ranges; expected no percentile"),
        (["--nodistill", "--multibox", "--set=equalize=false"], "keeps its ranges; expected no equalize"),
        (["--nodistill", "--multibox", f"--size={SIZE * 2}"], rf"at \[{SIZE}, {SIZE}\] pixels, found --size 128"),
    ],
)
def test_what_going_on_needs(finished: Path, labelled: Path, tmp_path: Path, given: list[str], message: str) -> None:
    start = [f"--weights={finished}", f"--data_dir={labelled}", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=message):
        qat.run(parsed(qat, *start, *given))
    assert not (tmp_path / "run").exists()


def test_pictures_may_move_but_not_change(config: QatConfig, photos: Path, tmp_path: Path) -> None:
    run_dir, moved = tmp_path / "run", tmp_path / "moved"
    create_run(run_dir, config)
    write_pictures(run_dir, [sample.image for sample in qat_steps.read_samples(config)[0]])
    shutil.copytree(photos, moved)
    options = parsed(qat, "--resume", "--run_dir", run_dir, "--data_dir", moved)
    assert qat.resumed_config(options) == (dataclasses.replace(config, data_dirs=(str(moved),)), run_dir)
    name = sorted(path.name for path in moved.iterdir())[4]
    with (moved / name).open("ab") as file:
        file.write(b"more")
    with pytest.raises(RunError, match=rf"{name}: \d+ bytes, expected the run's .*{name}"):
        qat.run(options)
    assert read_config(run_dir, QatConfig) == config
    (moved / name).unlink()
    with pytest.raises(RunError, match="11 pictures in the folders given, expected the run's own 12"):
        qat.run(options)


def taught_by(config: QatConfig, **changes: Any) -> QatConfig:
    """Two steps with other settings of the teacher."""
    assert config.distillation is not None
    return dataclasses.replace(config, distillation=dataclasses.replace(config.distillation, **changes), steps=2)


def test_a_teacher_instead_of_the_float_network(config: QatConfig, labelled: Path, tmp_path: Path) -> None:
    taught = dataclasses.replace(
        config,
        data_dirs=(str(labelled),),
        distillation=Distillation(str(make_teacher(tmp_path / "teacher.onnx"))),
        distill=False,
        learning_rate=0.01,
        ema_decay=0.0,
    )
    losses = {}
    for name, changed in {
        "plain": taught,
        "mirrored": taught_by(taught, teacher_mirror=True),
        "corrected": taught_by(taught, correct_with_labels=(1,)),
    }.items():
        run_dir = tmp_path / name
        create_run(run_dir, changed)
        assert read_config(run_dir, QatConfig) == changed
        qat_steps.run_all(changed, run_dir)
        with (run_dir / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(row["teacher"] == row["loss"] and not row["score"] for row in rows), "it is the only loss"
        losses[name] = [float(row["loss"]) for row in rows], [float(row["val_loss"]) for row in rows]
    assert losses["plain"][1][1] < 0.9 * losses["plain"][1][0], "the answers on held-out images are learned"
    for name in ("mirrored", "corrected"):
        assert losses[name][0][0] != pytest.approx(losses["plain"][0][0], rel=0.01), name
        assert losses[name][1][0] != pytest.approx(losses["plain"][1][0], rel=0.01), name

    # The held-out loss is that of the answers, by hand.
    samples = qat_steps.read_samples(taught)
    original, network, _ = load_model(tmp_path / "plain" / "original.keras")
    tuner = qat_loop.Tuner(original, network, taught, *samples, tmp_path)
    assert taught.distillation is not None
    teacher, anchors = Scrfd(taught.distillation.teacher), tf.constant(network.anchors(SIZE, SIZE))
    by_hand = []
    for image in (batch["image"].numpy() for batch in tuner.validation):
        outputs = flatten_outputs(original(image.astype(np.float32) - ModelSpec.mean), network)
        sums = teacher_sums(outputs, tf.constant(teacher(image)), anchors, network.variances)
        by_hand.append(float(normalize(sums, sums.positives, sums.positives).total))
    values = [tf.Variable(value) for value in original.trainable_variables]
    tuned = qat_loop.Tuned(original, original.trainable_variables, values, values)
    assert tuner._validation_loss(tuned) == pytest.approx(np.mean(by_hand), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--set=teacher_mirror=true"], "mean nothing without a --teacher"),
        (["--correct_with_labels=1"], "mean nothing without a --teacher"),
        (["--teacher=absent.onnx"], "absent.onnx: no such file, expected an SCRFD network"),
        (["--teacher=absent.onnx", "--correct_with_labels=1,0"], "expected 0 or 1 for each of 1 data folders"),
        (
            ["--teacher=absent.onnx", "--correct_with_labels=yes"],
            "--correct_with_labels is 'yes', expected whole numbers",
        ),
    ],
)
def test_what_a_teacher_needs(config: QatConfig, tmp_path: Path, given: list[str], message: str) -> None:
    start = [f"--weights={config.weights}", f"--data_dir={config.data_dirs[0]}", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=message):
        qat.run(parsed(qat, *start, *given))
    assert not (tmp_path / "run").exists()


def test_other_anchors_cannot_be_taught(config: QatConfig, tmp_path: Path) -> None:
    small = dataclasses.replace(PLAIN, anchor_sizes=SMALL_ANCHORS)
    save_model(build_model(small), small, tmp_path / "small.keras")
    teacher = make_teacher(tmp_path / "teacher.onnx")
    given = [f"--weights={tmp_path / 'small.keras'}", f"--data_dir={config.data_dirs[0]}", f"--teacher={teacher}"]
    with pytest.raises(ValueError, match="give --anchor_sizes 16,32/64,128/256,512"):
        qat.run(parsed(qat, *given, f"--run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


def test_corrections_need_labels(config: QatConfig, tmp_path: Path) -> None:
    teacher = Distillation(str(make_teacher(tmp_path / "teacher.onnx")))
    taught = dataclasses.replace(config, distillation=teacher)
    assert qat_steps.read_samples(taught)
    with pytest.raises(LabelError, match="label"):
        qat_steps.read_samples(taught_by(taught, correct_with_labels=(1,)))


def test_a_signal_saves_the_state(
    finished: Path, config: QatConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, real = tmp_path / "run", qat_loop.learning_rate

    def stop(number: int, *rest: Any) -> float:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(number, *rest)

    create_run(run_dir, config)
    with monkeypatch.context() as patch:
        patch.setattr(qat_loop, "learning_rate", stop)
        with pytest.raises(Interrupted, match=f"step 3 of 4 and saved; .* --resume --run_dir {run_dir}$") as caught:
            qat_steps.run_all(config, run_dir)
    assert caught.value.exit_code == 130
    qat_steps.run_all(config, run_dir)
    for a, b in zip(*(load_model(r / "last.keras")[0].get_weights() for r in (finished, run_dir)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_killed_command_goes_on_to_the_same_weights(
    finished: Path, config: QatConfig, root: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    changed = {name: value for name, value in vars(config).items() if value != getattr(QatConfig, name, None)}
    folders, calibration = changed.pop("data_dirs"), changed.pop("recipe").calibration_images
    hidden = {"warmup_steps", "val_images", "val_every"}
    settings = [f"--{'set=' if name in hidden else ''}{name}={value}" for name, value in changed.items()]
    settings.append(f"--calibration_images={calibration}")
    start = [*settings, *(f"--data_dir={folder}" for folder in folders), f"--run_dir={run_dir}"]
    process = subprocess.run([sys.executable, "-c", DIES, *start], cwd=root, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    assert not (run_dir / "last.keras").exists()
    with pytest.raises(RunError, match="holds a run already; add --resume"):
        create_run(run_dir, read_config(run_dir, QatConfig))
    with pytest.raises(ValueError, match="steps is 4 in this run, 5 was given"):
        qat.run(parsed(qat, "--run_dir", run_dir, "--resume", "--steps", "5"))
    qat.run(parsed(qat, "--run_dir", run_dir, "--resume"))
    for name in ("last.keras", "best.keras"):
        for a, b in zip(*(load_model(r / name)[0].get_weights() for r in (finished, run_dir)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    first, second = (
        [row.split(",")[0] for row in (r / "metrics.csv").read_text().splitlines()] for r in (finished, run_dir)
    )
    assert first == second
