"""A small ONNX network of SCRFD's form: what it says per anchor, in batches, in the loss and through the command."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from rf_keras import train
from rf_keras.augment_config import PRESETS, AugmentConfig
from rf_keras.config import SMALL_ANCHORS, ModelConfig
from rf_keras.distillation.config import Distillation
from rf_keras.distillation.teacher import Scrfd, check_teachable, mean_answers, mirrored_answers, open_teacher
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.input_size import InputSize
from rf_keras.model import build_model
from rf_keras.model_file import save_model
from rf_keras.pipeline import DataConfig, correcting, make_batches, read_folders
from rf_keras.synthetic import make_dataset
from tflite.command import parse

STRIDES = (8, 16, 32)
FILE_SIDE = 64  # the input size that the file was made for
BIASES = {"score": (-1.0, 2.0), "bbox": (1, 2, 3, 4, 0.5, 0.5, 0.5, 0.5), "kps": tuple(k / 8 - 1 for k in range(20))}
TAUGHT = ["--config=fast", "--set=blocks=0,0", "--anchor_sizes=16,32/64,128/256,512", "--size=64", "--batch=4"]


def make_teacher(path: Path, leave_out: int = 0) -> Path:
    """An SCRFD-like file: features are averages of the cells, stride 16 by doubling stride 32 to a fixed size as
    PyTorch's exporter writes it; then 1×1 convs with `BIASES`, where the scores also add 4 × red."""
    nodes: list[Any] = []
    constants: list[Any] = []
    names: list[str] = []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    for stride in (8, 32):
        nodes.append(
            helper.make_node("AveragePool", ["in"], [f"f{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
    half = FILE_SIDE // 16
    resize = ["f32", constant("roi", np.zeros(0, np.float32)), constant("none", np.zeros(0, np.float32))]
    resize.append(constant("sizes", np.array([1, 3, half, half], np.int64)))
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes.append(helper.make_node("Resize", resize, ["f16"], **options))
    for kind, biases in BIASES.items():
        width = len(biases) // 2
        shape = constant(f"{kind}_shape", np.array([-1, width], np.int64))
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            weights = np.zeros((len(biases), 3, 1, 1), np.float32)
            if kind == "score":
                weights[:, 0] = 4
            inputs = [f"f{stride}", constant(f"{name}_w", weights), constant(f"{name}_b", np.array(biases, np.float32))]
            nodes.append(helper.make_node("Conv", inputs, [f"{name}_map"]))
            nodes.append(helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]))
            last = name if kind != "score" else f"{name}_logit"
            nodes.append(helper.make_node("Reshape", [f"{name}_last", shape], [last]))
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [last], [name]))
            names.append(name)
    kept = names[: len(names) - leave_out]
    image = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, FILE_SIDE, FILE_SIDE])
    rows = [2 * (FILE_SIDE // int(name.split("_")[1])) ** 2 for name in kept]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [count, len(BIASES[name.split("_")[0]]) // 2])
        for name, count in zip(kept, rows, strict=True)
    ]
    graph = helper.make_graph(nodes, "teacher", [image], outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), str(path))
    return path


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher.onnx")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "faces", 8, seed=5, size=96)


@pytest.mark.parametrize("side", [FILE_SIDE, 96])
def test_pixels_per_anchor_at_any_size(teacher_file: Path, side: int) -> None:
    images = np.zeros((2, side, side, 3), np.uint8)
    images[1, :, :, 2] = 255  # red, the last of BGR
    answers = Scrfd(teacher_file)(images)
    assert (
        answers.shape == (2, 2 * sum((side // stride) ** 2 for stride in STRIDES), 15) and answers.dtype == np.float32
    )
    for image, red in enumerate((-127.5 / 128, 127.5 / 128)):
        expected = [1 / (1 + math.exp(-(bias + 4 * red))) for bias in BIASES["score"]]
        np.testing.assert_allclose(answers[image, :2, 0], expected, rtol=1e-5)
        np.testing.assert_allclose(answers[image, -2:, 0], expected, rtol=1e-5)
    # Row 1, column 2 of stride 8, whose corner is at (16, 8): 1, 2, 3, 4 strides to the left, top, right, bottom.
    first = 2 * (side // 8 + 2)
    np.testing.assert_allclose(answers[0, first, 1:5], [16 - 8, 8 - 16, 16 + 24, 8 + 32])
    np.testing.assert_allclose(answers[0, first, 5:9], [16 - 8, 8 - 7, 16 - 6, 8 - 5])
    np.testing.assert_allclose(answers[0, first + 1, 1:5], [12, 4, 20, 12])
    # The last cell of stride 16 and the last of all.
    corner = side - 16
    last16 = 2 * ((side // 8) ** 2 + (side // 16) ** 2) - 1
    np.testing.assert_allclose(answers[1, last16, 1:5], [corner - 8, corner - 8, corner + 8, corner + 8])
    np.testing.assert_allclose(answers[1, -1, 13:], [side - 32 + 1.25 * 32, side - 32 + 1.375 * 32])


@pytest.mark.parametrize("recipe", [PRESETS["light"], replace(PRESETS["mixed"], mix_share=1.0)])
def test_batches_hold_what_the_teacher_says_of_their_images(
    teacher_file: Path, data: Path, recipe: AugmentConfig
) -> None:
    samples, _ = read_folders([data])
    config = DataConfig(
        size=64, more_sizes=(96,), batch=2, augment=recipe, distillation=Distillation(str(teacher_file))
    )
    teacher = Scrfd(teacher_file)
    for batch, side in zip(make_batches(samples, config, np.arange(4)).as_numpy_iterator(), (64, 96), strict=True):
        assert batch["image"].shape[1] == side
        np.testing.assert_array_equal(batch["teacher"], teacher(batch["image"]))


def test_mirrored_answers_are_about_the_same_places() -> None:
    """Faces at the corners of cells, as SCRFD has them, seen in a mirror."""
    side, generator = 64, np.random.default_rng(0)
    rows = [2 * (side // stride) ** 2 for stride in STRIDES]
    direct, mirror = (np.zeros((sum(rows), 15), np.float32) for _ in range(2))
    first = 0
    for stride, count in zip(STRIDES, rows, strict=True):
        cells = side // stride
        for y, x, anchor in np.ndindex(cells, cells, 2):
            score, left, top, right, bottom = generator.uniform(0.1, 1, 5)
            points = generator.uniform(-1, 1, (5, 2))
            corner = np.array([x, y]) * stride
            box = [corner[0] - left, corner[1] - top, corner[0] + right, corner[1] + bottom]
            direct[first + 2 * (y * cells + x) + anchor] = [score, *box, *(corner + points).ravel()]
            if x > 0:  # the mirror image of column 0 lies outside
                seen = [side - box[2], box[1], side - box[0], box[3]]
                turned = (np.array([[side, 0]]) + (corner + points) * [-1, 1])[[1, 0, 2, 4, 3]]
                at = first + 2 * (y * cells + cells - x) + anchor
                mirror[at] = [score / 2, *seen, *turned.ravel()]
        first += count
    answers = mirrored_answers(mirror, side)
    known = answers[:, 0] >= 0
    assert np.count_nonzero(~known) == 2 * sum(side // stride for stride in STRIDES)  # the first columns
    np.testing.assert_allclose(answers[known, 1:], direct[known, 1:], atol=1e-4)
    mean = mean_answers(direct, answers)
    np.testing.assert_allclose(mean[~known], direct[~known], rtol=1e-5)
    np.testing.assert_allclose(mean[known, 0], 0.75 * direct[known, 0], rtol=1e-6)
    np.testing.assert_allclose(mean[:, 1:], direct[:, 1:], atol=1e-4)
    # By the scores: 0.8 · 10 + 0.2 · 20 is 12.
    pair = np.full((1, 15), 10, np.float32), np.full((1, 15), 20, np.float32)
    pair[0][0, 0], pair[1][0, 0] = 0.8, 0.2
    np.testing.assert_allclose(mean_answers(*pair)[0], [0.5, *[12.0] * 14], rtol=1e-3)


def test_a_teacher_with_a_mirror(teacher_file: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    plain = Scrfd(teacher_file)
    turned = plain(np.ascontiguousarray(images[:, :, ::-1]))
    expected = [mean_answers(a, mirrored_answers(b, 64)) for a, b in zip(plain(images), turned, strict=True)]
    np.testing.assert_array_equal(Scrfd(teacher_file, mirror=True)(images), np.stack(expected))
    assert np.abs(np.stack(expected) - plain(images))[..., 0].max() > 0.01


def test_a_network_teaches_what_it_detects(tmp_path: Path) -> None:
    network = ModelConfig(neck_channels=8, ssh_channels=8)
    model = build_model(network)
    save_model(model, network, tmp_path / "w.keras")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    answers = open_teacher(Distillation(str(tmp_path / "w.keras"))).answers(tf.constant(image[None])).numpy()
    assert answers.shape == (1, 2 * (64 + 16 + 4), 15)
    found, _, _ = KerasDetector(model, network, InputSize.square(64)).candidates(image, 0.0)
    assert answers[0, found.anchors, 1:5] == pytest.approx(found.boxes, abs=1e-3)
    assert answers[0, found.anchors, 5:] == pytest.approx(found.landmarks.reshape(-1, 10), abs=1e-3)
    assert answers[0, found.anchors, 0] == pytest.approx(1 / (1 + np.exp(-found.logits)), abs=1e-5)


def test_networks_that_cannot_teach(tmp_path: Path) -> None:
    small = ModelConfig(neck_channels=8, ssh_channels=8, anchor_sizes=SMALL_ANCHORS)
    save_model(build_model(small), small, tmp_path / "small.keras")
    with pytest.raises(ValueError, match=r"small.keras: has anchors .*10.0.* expected a teacher's"):
        open_teacher(Distillation(str(tmp_path / "small.keras")))
    with pytest.raises(ValueError, match=r"absent\.keras: no such weights file"):
        open_teacher(Distillation(str(tmp_path / "absent.keras")))
    with pytest.raises(ValueError, match="no answers about mirror images"):
        open_teacher(Distillation(str(tmp_path / "small.keras"), teacher_mirror=True))


def test_training_keeps_what_a_network_knows_and_learns_closeups(data: Path, tmp_path: Path) -> None:
    """Taught by its own start it begins without error, but where a face fills the frame."""
    network = ModelConfig(neck_channels=8, ssh_channels=8, class_logits=1)
    save_model(build_model(network), network, tmp_path / "start.keras")
    start = tmp_path / "start.keras"
    given = [
        f"--data_dir={data}",
        f"--init={start}",
        f"--teacher={start}",
        "--size=64",
        "--batch=4",
        "--set=freeze_bn=true",
    ]
    losses = {}
    for share in (0.0, 1.0):
        run_dir = tmp_path / f"run{share}"
        run(
            *given, "--epochs=1", "--steps_per_epoch=2", "--augment=none", f"--closeups={share}", f"--run_dir={run_dir}"
        )
        with (run_dir / "metrics.csv").open() as file:
            _start, row = csv.DictReader(file)
        assert int(row["step"]) == 2
        losses[share] = float(row["loss"])
    assert losses[0.0] < 0.01 * losses[1.0]


def test_batches_say_which_labels_hold(teacher_file: Path, data: Path) -> None:
    samples, sizes = read_folders([data])
    corrects = np.arange(sum(sizes)) != 1
    recipe = AugmentConfig(crop_scales=(0.5,), min_face=20, flip_chance=0.5)
    config = DataConfig(size=64, batch=4, augment=recipe, distillation=Distillation(str(teacher_file)))
    batch = next(make_batches(samples, config, np.arange(4), corrected=corrects).as_numpy_iterator())
    assert batch["corrected"].tolist() == [True, False, True, True]
    cut = 0
    for row, count in enumerate(batch["count"]):
        seen = batch["in_view"][row]
        seen = seen[(seen[:, 2:] > seen[:, :2]).all(axis=1)]
        assert seen.min() >= 0 and seen.max() <= 64
        for box in batch["boxes"][row, :count]:
            assert np.abs(seen - box).max(axis=1).min() < 1e-3, "every target can be seen"
        cut += len(seen) - count
    assert cut > 0, "some faces are cut or small, and are seen all the same"
    changed = replace(config, augment=replace(recipe, mix_share=1.0))
    batch = next(make_batches(samples, changed, np.arange(4), corrected=corrects).as_numpy_iterator())
    assert not batch["corrected"].any()


def run(*arguments: str | Path) -> None:
    train.run(parse(train.Options, list(map(str, arguments))))


def test_training_learns_the_teachers_answers(
    teacher_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*TAUGHT, "--more_sizes=96"]
    settings += ["--set=warmup_steps=2", "--augment=light", "--set=val_share=0", "--epochs=6", "--seed=2"]
    run(*settings, f"--data_dir={data}", f"--teacher={teacher_file}", f"--run_dir={tmp_path / 'run'}")
    assert f"; targets from {teacher_file}" in capsys.readouterr().out
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    # Every image here is bright enough in red for one of two anchors to count as a face, which no label would do.
    assert float(rows[0]["positives_per_image"]) > 50


def test_training_corrects_the_teacher(teacher_file: Path, data: Path, tmp_path: Path) -> None:
    settings = [*TAUGHT, "--epochs=1"]
    settings += ["--set=warmup_steps=2", "--augment=mixed", "--set=val_share=0", "--seed=2", f"--data_dir={data}"]
    taught = [*settings, f"--teacher={teacher_file}"]
    found = {}
    for name, flag in {"plain": [], "corrected": ["--correct_with_labels=1", "--set=teacher_mirror=true"]}.items():
        run(*taught, *flag, f"--run_dir={tmp_path / name}")
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            found[name] = float(next(csv.DictReader(file))["positives_per_image"])
    assert found["corrected"] < 0.9 * found["plain"], "nearly all of this teacher's faces are on nothing"
    corrects = correcting(Distillation("t", correct_with_labels=(0, 1)), (2, 3))
    assert corrects is not None and corrects.tolist() == [False, False, True, True, True]
    assert correcting(Distillation("t", correct_with_labels=(0, 0)), (2, 3)) is correcting(None, (2, 3)) is None
    for flags_given, message in (
        ([*taught, "--correct_with_labels=1,0"], r"is \(1, 0\), expected 0 or 1 for each of 1 data folders"),
        ([*taught, "--correct_with_labels=2"], r"correct_with_labels is \(2,\), expected 0 or 1"),
        ([*settings, "--augment=light", "--correct_with_labels=1"], "mean nothing without a --teacher"),
        ([*settings, "--augment=light", "--set=teacher_mirror=true"], "mean nothing without a --teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            run(*flags_given, f"--run_dir={tmp_path / 'none'}")


def test_files_that_cannot_teach(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    for path, message in (
        (tmp_path / "absent.onnx", "absent.onnx: no such file, expected an SCRFD network"),
        (tmp_path / "text.onnx", "text.onnx: not a network that ONNX Runtime can run"),
        (make_teacher(tmp_path / "boxes.onnx", leave_out=3), "boxes.onnx: outputs of shapes .* SCRFD with five points"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            Scrfd(path)
        assert "\n" not in str(caught.value)


def test_other_anchors_cannot_be_taught(teacher_file: Path, data: Path, tmp_path: Path) -> None:
    check_teachable(ModelConfig())
    with pytest.raises(ValueError, match="give --anchor_sizes 16,32/64,128/256,512"):
        check_teachable(ModelConfig(anchor_sizes=SMALL_ANCHORS))
    with pytest.raises(ValueError, match="give --anchor_sizes"):
        run("--config=fast", f"--data_dir={data}", f"--teacher={teacher_file}", f"--run_dir={tmp_path / 'run'}")
    with pytest.raises(ValueError, match="no such file"):
        run("--config=mobilenet0.25", f"--data_dir={data}", "--teacher=no.onnx", f"--run_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
