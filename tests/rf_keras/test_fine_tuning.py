"""Training on from trained weights: what is held, what counts as better, and how a run goes on."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rf_keras import train
from rf_keras.config import FINE_TUNING, PRESETS, TrainConfig, default_threshold, fine_tuning_of, fitted, kept
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.losses import TEACHER_FLOOR, hold_landmarks
from rf_keras.evaluation.before_after import answered, measure, table, with_answered_points
from rf_keras.evaluation.scoring import evaluate_keras
from rf_keras.fine_tuning import Baseline, outcome
from rf_keras.input_size import InputSize
from rf_keras.labels import Sample, format_label, read_labels
from rf_keras.losses import LossSums
from rf_keras.model_file import load_model, save_model
from rf_keras.run_dir import METRICS, read_config
from rf_keras.selection import evenly_spaced
from rf_keras.synthetic import make_dataset
from tflite.command import parse
from tflite.images import write_image
from tflite.postprocess import Detections

SIZE = 64
NETWORK = ["--set=blocks=0,0", f"--size={SIZE}", "--augment=light", "--set=val_share=0.25"]


def run(*arguments: str) -> dict[str, Any]:
    figures = train.run(parse(train.Options, arguments))
    assert figures is not None
    return figures


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / METRICS).open(newline="") as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> list[np.ndarray]:
    return load_model(path)[0].get_weights()


def without_points(samples: Sequence[Sample], folder: Path) -> Path:
    """A data folder of the same pictures, their labels without landmarks."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, sample in enumerate(samples):
        name = f"{number:03}{sample.image.suffix}"
        shutil.copy(sample.image, folder / "images" / name)
        lines += [f"# {name}", *format_label(sample.boxes, np.full_like(sample.landmarks, -1))]
    (folder / "label.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "faces", 32, seed=5, size=96)


@pytest.fixture(scope="module")
def pointless(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_points(read_labels(data), tmp_path_factory.mktemp("pointless"))


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that find some of the drawn faces, and say that a teacher taught them and whose they are."""
    run_dir = tmp_path_factory.mktemp("start") / "run"
    run(*NETWORK, "--batch=8", "--epochs=25", "--learning_rate=0.03", "--set=warmup_steps=5", "--set=ema_decay=0.9",
        "--set=val_every=25", f"--data_dir={data}", f"--run_dir={run_dir}")  # fmt: skip
    model, config, meta = load_model(run_dir / "last.keras")
    meta["parts"][0]["teacher"] = "scrfd.onnx"
    path = run_dir.parent / "start.keras"
    save_model(model, config, path, meta | {"license": "ours", "source": "elsewhere"})
    return path


def test_points_of_the_start_are_targets_where_labels_have_none() -> None:
    # Four anchors: of a face with points, of one without, of one without that the start does not see, of none.
    matched = tf.constant([[0, 1, 2, -1]])
    landmarks = tf.constant(np.stack([np.full((5, 2), 7.0), *[np.full((5, 2), -1.0)] * 2])[None], tf.float32)
    logits = np.zeros((1, 4, 2), np.float32)
    logits[0, :, 1] = [3.0, 2.0, np.log(TEACHER_FLOOR / (1 - TEACHER_FLOOR)) - 0.1, 3.0]
    empty, zeros = tf.zeros((1, 4, 4)), np.zeros((1, 4, 10), np.float32)
    predictions = (tf.zeros((1, 4, 2)), empty, tf.constant(zeros + 0.5))
    sums = LossSums(*(tf.constant(float(value)) for value in (1, 2, 3, 3, 1)))
    held = hold_landmarks(sums, predictions, (tf.constant(logits), empty, tf.constant(zeros)), matched, landmarks)
    score = 1 / (1 + np.exp(-2.0))
    assert float(held.landmark) == pytest.approx(3 + score * 10 * 0.5 * 0.25)
    assert float(held.positives_with_landmarks) == pytest.approx(1 + score)
    assert [float(held.box), float(held.classes), float(held.positives)] == [1, 2, 3]


def test_warmup_and_batch_suit_the_run() -> None:
    config = TrainConfig(batch=8, epochs=20)  # 7 steps an epoch
    assert fitted(config, 57, ()).warmup_steps == 14
    assert fitted(config, 57, ("warmup_steps",)).warmup_steps == 500
    assert fitted(config, 57_000, ()).warmup_steps == 500
    assert fitted(config, 5, ("batch",)).batch == fitted(config, 5, ()).batch == 8
    tuned = fitted(TrainConfig(batch=8, init="w.keras", epochs=20), 5, ())
    assert (tuned.batch, tuned.warmup_steps) == (5, 2)


def test_a_presets_own_recipe_stays() -> None:
    assert fine_tuning_of(PRESETS["fast"]) == FINE_TUNING
    assert not {"epochs", "batch", "learning_rate"} & set(fine_tuning_of(PRESETS["reference"]))


def test_a_taught_start_keeps_its_scores() -> None:
    taught: dict[str, Any] = {"parts": [{"teacher": "scrfd.onnx"}]}
    config = TrainConfig(init="w.keras", data_dirs=("a", "b"))
    assert kept(config, taught).distillation == Distillation("w.keras", correct_with_labels=(1, 1))
    assert kept(config, {}) == config, "labels taught it"
    for changes in (
        {"keep_scores": False},
        {"model": PRESETS["fast"].model},  # other anchors than a teacher's
        {"data_dirs": ()},
        {"distillation": Distillation("t.onnx")},
    ):
        other = dataclasses.replace(config, **changes)
        assert kept(other, taught) == other, changes


class Fixed:
    """A detector with one answer: two faces, the second one doubtful."""

    def detect(self, image: np.ndarray, score_threshold: float, iou_threshold: float) -> Detections:
        boxes = np.array([[10, 10, 130, 130], [200, 10, 320, 130]], np.float32)
        points = np.repeat(boxes[:, None, :2] + 30, 5, axis=1)
        keep = np.array([0.9, 0.3]) >= score_threshold
        return Detections(boxes[keep], np.array([0.9, 0.3], np.float32)[keep], points[keep])


def test_answers_stand_for_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((140, 330, 3), np.uint8))
    boxes = np.array([[12, 10, 130, 130], [200, 10, 320, 130], [140, 10, 150, 20]], np.float32)
    points = np.full((3, 5, 2), -1, np.float32)
    sample = Sample(tmp_path / "a.png", boxes, points)
    detector: Any = Fixed()
    (filled,) = with_answered_points(detector, [sample], threshold=0.5)
    assert (filled.landmarks[0] == 40).all() and (filled.landmarks[1:] == -1).all()
    labelled = Sample(tmp_path / "a.png", boxes, np.where(np.arange(3)[:, None, None] == 0, 7.0, points))
    assert (with_answered_points(detector, [labelled], threshold=0.1)[0].landmarks[0] == 7).all(), "labels stay"
    (made,) = answered(detector, [sample], threshold=0.1)
    assert made.boxes.shape == (2, 4) and made.landmarks.shape == (2, 5, 2)
    figures = measure(detector, [filled], threshold=0.5)
    assert figures["faces"] == 3 and figures["large_faces"] == 2 and figures["nme"] == 0
    shown = table({"start": figures, "best": figures | {"ap": 12.34}}, "the start")
    assert "on 1 photos" in shown and "    12.3" in shown and "of the face size, from the start" in shown
    assert "1 photos are few" in shown


def test_landmarks_may_not_get_worse() -> None:
    by_labels, by_answers = Baseline(80.0, 0.08, True), Baseline(80.0, 0.0, False)
    assert not by_labels.spoiled(0.087) and by_labels.spoiled(0.089)
    assert not by_answers.spoiled(0.029) and by_answers.spoiled(0.031)
    assert not Baseline(80.0, None, True).spoiled(0.5) and not by_labels.spoiled(None)


def test_the_end_is_told_beside_the_start() -> None:
    assert outcome({"start_ap": None, "best_ap": None}).startswith("not measured")
    assert outcome({"start_ap": None, "best_ap": 71.0}) == "best validation AP 71.0 %"
    assert outcome({"start_ap": 80.0, "best_ap": 81.04}) == "validation AP 80.0 % at the start, 81.0 % in best.keras"
    said = outcome({"start_ap": 84.2, "best_ap": float(np.float32(84.2))})
    assert said.startswith("nothing was better than the start (validation AP 84.2 %), which is in best.keras")


@pytest.fixture(scope="module")
def tuned(start: Path, pointless: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A run that started from `start`, on labels without landmarks; its figures, and what it printed."""
    run_dir, said = tmp_path_factory.mktemp("tuned") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        figures = run(*NETWORK[1:], "--epochs=4", f"--init={start}", f"--data_dir={pointless}", f"--run_dir={run_dir}")
    return run_dir, figures, said.getvalue()


def test_fine_tuning_without_landmarks(tuned: tuple[Path, dict[str, Any], str], pointless: Path) -> None:
    run_dir, figures, said = tuned
    assert "no label has landmarks: there the start's answers are the targets" in said
    assert "landmarks are validated against the start's answers" in said
    assert "sgd 0.002 cosine after 1 steps of warm-up" in said
    assert said.index("start: validation AP") < said.index("epoch 1/4") < said.index("done: ")
    assert "landmark NME, % of the face size, from the start" in said
    assert said.splitlines()[-1] == f"next: python quantization/qat.py --weights {run_dir} --data_dir {pointless}"
    config = read_config(run_dir, TrainConfig)
    assert (config.batch, config.learning_rate, config.freeze_bn, config.warmup_steps) == (8, 0.002, True, 1)

    rows = rows_of(run_dir)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert float(rows[0]["val_ap"]) == pytest.approx(figures["start_ap"]) and float(rows[0]["val_nme"]) == 0
    assert all(float(row["landmark"]) > 0 for row in rows[2:]), "the start's answers teach"
    assert float(rows[-1]["val_nme"]) < 0.03
    assert figures["best_ap"] > figures["start_ap"] - 1e-4 and figures["start_ap"] > 5
    assert figures["start"]["ap"] == pytest.approx(figures["start_ap"])

    _, _, meta = load_model(run_dir / "last.keras")
    assert default_threshold(meta) == 0.4 and meta["license"] == "ours"
    assert meta["source"] == "elsewhere; fine-tuned by rf_keras.train"
    assert [part["teacher"] for part in meta["parts"]] == ["scrfd.onnx", ""]


def test_a_fine_tuning_that_fails_leaves_its_start(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "spoiled"
    figures = run(*NETWORK[1:], "--epochs=3", "--learning_rate=3", "--set=ema_decay=0", f"--init={start}",
                  f"--data_dir={data}", f"--run_dir={run_dir}")  # fmt: skip
    said = capsys.readouterr().out
    assert "done: nothing was better than the start" in said and "   start    last" in said
    assert figures["last"]["ap"] < figures["start"]["ap"] == pytest.approx(figures["start_ap"])
    for before, best in zip(weights(start), weights(run_dir / "best.keras"), strict=True):
        np.testing.assert_array_equal(before, best)
    assert len(load_model(run_dir / "best.keras")[2]["parts"]) == 1, "nothing was added to the start"


def test_a_run_goes_on_for_more_epochs_with_moved_pictures(
    tuned: tuple[Path, dict[str, Any], str], pointless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, there = shutil.copytree(tuned[0], tmp_path / "run"), tmp_path / "there"
    stored = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(stored | {"data_dirs": [str(tmp_path / "here")]}))
    shutil.copytree(pointless, there)
    with pytest.raises(ValueError, match=r"here: no such folder.*; if the data has moved, give --data_dir again"):
        run("--resume", f"--run_dir={run_dir}")
    with pytest.raises(ValueError, match="epochs is 4 in this run, 3 was given"):
        run("--resume", f"--run_dir={run_dir}", "--epochs=3")
    photo = there / "images" / sorted(path.name for path in (there / "images").iterdir())[3]
    content = photo.read_bytes()
    photo.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=rf"{photo.name}: {len(content) + 1} bytes, expected the run's"):
        run("--resume", f"--run_dir={run_dir}", f"--data_dir={there}")
    photo.write_bytes(content)
    capsys.readouterr()
    run("--resume", f"--run_dir={run_dir}", f"--data_dir={there}", "--epochs=6")
    assert f"resuming {run_dir} at step 12 for 6 epochs instead of 4: the rate goes on" in capsys.readouterr().out
    config = read_config(run_dir, TrainConfig)
    assert (config.epochs, config.data_dirs) == (6, (str(there),))
    rows = rows_of(run_dir)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4", "5", "6"]
    rates = [float(row["learning_rate"]) for row in rows[1:]]
    assert rates[3] < rates[4] > rates[5], "down a cosine of the new length"
    figures = run("--resume", f"--run_dir={run_dir}")
    assert "at step 18, its end: --epochs with more than 6 goes on" in capsys.readouterr().out
    assert figures["start"]["ap"] == pytest.approx(tuned[1]["start_ap"])


@pytest.mark.shared_data
def test_sixty_photos_without_landmarks(root: Path, shared_data: Path, tmp_path: Path) -> None:
    """README's first step, for fewer epochs: other photos show neither fewer faces nor worse points."""
    init = root / "rf_keras" / "weights" / "retinaface_fast.keras"
    photos = evenly_spaced(read_labels(shared_data / "wider" / "train"), 60)
    others = evenly_spaced(read_labels(shared_data / "wider" / "dev"), 80)
    data = without_points(photos, tmp_path / "photos")
    run("--size=320", "--epochs=8", f"--init={init}", f"--data_dir={data}", f"--run_dir={tmp_path / 'run'}")
    before, after = (
        evaluate_keras(*load_model(path)[:2], others, InputSize.square(320))
        for path in (init, tmp_path / "run" / "last.keras")
    )
    assert after["all"] >= before["all"] - 0.3, (before["all"], after["all"])
    assert after["nme"] <= 1.1 * before["nme"], (before["nme"], after["nme"])
