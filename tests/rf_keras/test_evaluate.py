"""Metrics of detectors whose answers are known, sizes, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rf_keras.config import ModelConfig
from rf_keras.evaluate import Options, run
from rf_keras.evaluation.ground_truth import Truth, read_truth
from rf_keras.evaluation.keras_detector import KerasDetector
from rf_keras.evaluation.pictures import mistakes
from rf_keras.evaluation.scoring import Evaluation, evaluate, evaluate_keras, landmark_error, open_detector
from rf_keras.input_size import InputSize, parse_size
from rf_keras.labels import format_label, read_labels
from rf_keras.model import build_model
from rf_keras.model_file import save_model
from tests.rf_keras.evaluation.test_wider_ap import write_ground_truth
from tests.tflite.conftest import build_model as device_model
from tests.tflite.conftest import photo
from tflite.detector import Detections, FaceDetector
from tflite.preprocess import shrink
from tflite.spec import ModelSpec, attach_spec

LANDMARKS = np.array([[3, 3], [7, 3], [5, 5], [3, 8], [7, 8]], np.float32)
CONFIG = ModelConfig(neck_channels=8, ssh_channels=8)


def write_image(path: Path, height: int = 96, width: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_data(folder: Path) -> Path:
    """Two images of an event `7--Test`, the first with landmarks on one of its two faces."""
    labels = []
    faces = {"one": [[0, 0, 9, 9], [100, 100, 119, 119]], "two": [[1, 2, 4, 6]]}
    for name, boxes in faces.items():
        write_image(folder / "images" / "7--Test" / f"{name}.jpg")
        points = np.full((len(boxes), 5, 2), -1, np.float32)
        if name == "one":
            points[0] = LANDMARKS
        labels += [f"# 7--Test/{name}.jpg", *format_label(np.array(boxes, np.float32), points)]
    (folder / "label.txt").write_text("\n".join(labels))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(build_model(CONFIG), CONFIG, path)
    return path


def found(*faces: tuple[list[float], float], landmarks: np.ndarray | None = None) -> Detections:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    points = np.zeros((len(faces), 5, 2), np.float32) if landmarks is None else landmarks
    return Detections(boxes, np.array([score for _, score in faces], np.float32), points)


def answers(truths: list[Truth], replies: list[Detections]) -> Evaluation:
    queue = iter(replies)
    return evaluate(lambda image: next(queue), truths, progress=False)


def test_metrics_by_hand(data: Path) -> None:
    """Faces of 9 px (landmarks 0.9 px off), 19 px (missed) and √12 px (found), and a false alarm of 40 px."""
    shifted = np.stack([LANDMARKS + np.array([0.9, 0]), LANDMARKS])
    replies = [
        found(([0, 0, 9, 9], 0.9), ([40, 40, 80, 80], 0.8), landmarks=shifted),
        found(([1, 2, 4, 6], 0.7)),
    ]
    metrics = answers(read_truth(data), replies).metrics
    assert metrics["easy"] is metrics["medium"] is metrics["hard"] is None
    assert metrics["all"] == pytest.approx(100 * (1 / 3 + 1 / 3 * 2 / 3))
    assert metrics["nme"] == pytest.approx(0.1)
    assert (metrics["images"], metrics["faces"]) == (2, 3)
    by_size = metrics["by_size"]
    assert by_size["0-16"] == {"ap": pytest.approx(100.0), "faces": 2}
    assert by_size["16-32"] == {"ap": 0.0, "faces": 1}
    assert by_size["32-64"] == {"ap": None, "faces": 0}


def truth(folder: Path, boxes: list[list[float]], **changes: Any) -> Truth:
    """One image with faces whose points are `LANDMARKS` from their top left corners."""
    corners = np.array(boxes, np.float32)[:, None, :2]
    facts = {"landmarks": LANDMARKS + corners, "valid": np.ones(len(boxes), bool)} | changes
    return Truth(write_image(folder / "a.jpg"), np.array(boxes, np.float32), **facts)


def test_a_size_belongs_to_the_range_that_it_begins(tmp_path: Path) -> None:
    """A face of 16 px, found, after a false alarm of 16 px; a face of 9 × 25 px (15 by √(w·h)), missed."""
    faces = truth(tmp_path, [[0, 0, 16, 16], [60, 40, 69, 65]])
    by_size = answers([faces], [found(([40, 0, 56, 16], 0.9), ([0, 0, 16, 16], 0.8))]).metrics["by_size"]
    assert by_size["0-16"] == {"ap": 0.0, "faces": 1}
    assert by_size["16-32"] == {"ap": pytest.approx(50), "faces": 1}


def test_landmarks_of_the_surest_detection_on_valid_faces_count(tmp_path: Path) -> None:
    boxes = [[0, 0, 9, 9], [40, 40, 49, 49]]
    first, second = (LANDMARKS + np.array(box[:2], np.float32) for box in boxes)
    points = np.stack([first + np.array([0.9, 0]), first + 5, second + 3])
    replies = found((boxes[0], 0.9), (boxes[0], 0.8), (boxes[1], 0.7), landmarks=points)
    valid = np.array([True, False])
    assert answers([truth(tmp_path, boxes, valid=valid)], [replies]).metrics["nme"] == pytest.approx(0.1)


def test_a_point_at_minus_one_alone_is_known(tmp_path: Path) -> None:
    points = LANDMARKS[None] - (4, 0)  # the first at x = −1
    assert (points == -1).sum() == 2
    exact = found(([0, 0, 9, 9], 0.9), landmarks=points.astype(np.float32))
    assert answers([truth(tmp_path, [[0, 0, 9, 9]], landmarks=points)], [exact]).metrics["nme"] == 0.0


def test_ap_is_measured_from_score_002_up_with_the_usual_overlap(data: Path) -> None:
    thresholds: list[tuple[float, float]] = []

    class Nothing:
        def detect(self, image: np.ndarray, score_threshold: float, iou_threshold: float) -> Detections:
            thresholds.append((score_threshold, iou_threshold))
            return found()

    evaluate_keras(None, CONFIG, read_labels(data), InputSize.square(96), Nothing())  # type: ignore[arg-type]
    assert thresholds == [(0.02, 0.4)] * 2


def test_landmarks_of_another_box_are_not_taken(data: Path, tmp_path: Path) -> None:
    """label.txt and the .mat files hold the same boxes; one that differs is another face."""
    gt = tmp_path / "gt"
    gt.mkdir()
    write_ground_truth(gt)
    assert (read_truth(data, gt)[0].landmarks[0] == LANDMARKS).all()
    lines = format_label(np.array([[0, 0, 9, 7]], np.float32), LANDMARKS[None])  # IoU 0.8 with the first face
    (data / "label.txt").write_text("\n".join(["# 7--Test/one.jpg", *lines]))
    assert (read_truth(data, gt)[0].landmarks == -1).all()


def test_official_subsets(data: Path, tmp_path: Path) -> None:
    """The .mat files count only face B as easy, A and B as medium and hard, and image two as hard."""
    gt = tmp_path / "gt"
    gt.mkdir()
    write_ground_truth(gt)
    truths = read_truth(data, gt)
    replies = [found(([0, 0, 9, 9], 0.9), landmarks=LANDMARKS[None]), found(([1, 2, 4, 6], 0.7))]
    result = answers(truths, replies)
    assert [result.metrics[k] for k in ("easy", "medium", "hard")] == pytest.approx([0, 50, 200 / 3])
    assert result.metrics["nme"] == 0.0  # the landmarks come from label.txt
    assert result.metrics["faces"] == 3  # the third face of image one is invalid


def test_only_images_that_are_here(data: Path, tmp_path: Path) -> None:
    gt = tmp_path / "gt"
    gt.mkdir()
    write_ground_truth(gt)
    (data / "images" / "7--Test" / "two.jpg").unlink()
    write_image(data / "images" / "7--Test" / "unknown.jpg")
    (data / "label.txt").unlink()
    assert [truth.image.name for truth in read_truth(data, gt)] == ["one.jpg"]


def test_without_landmarks_there_is_no_error(data: Path) -> None:
    result = answers(read_truth(data), [found(), found(([1, 2, 4, 6], 0.7))])
    assert landmark_error(result.images) is None
    assert result.metrics["nme"] is None


def test_mistakes(data: Path) -> None:
    replies = [
        found(([0, 0, 9, 9], 0.9), ([0, 0, 9, 9], 0.8), ([40, 40, 80, 80], 0.7), ([100, 100, 119, 119], 0.1)),
        found(),
    ]
    missed, alarms = mistakes(answers(read_truth(data), replies).images[0], threshold=0.5)
    assert missed.tolist() == [False, True]
    assert alarms.tolist() == [False, True, True, False]


def test_empty_label_file_image_counts_its_false_alarms(data: Path) -> None:
    write_image(data / "images" / "none.jpg")
    with (data / "label.txt").open("a") as file:
        file.write("\n# none.jpg\n")
    replies = [found(([0, 0, 9, 9], 0.5)), found(), found(([40, 40, 80, 80], 0.9))]
    assert answers(read_truth(data), replies).metrics["all"] == pytest.approx(100 / 3 / 2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("640", InputSize.square(640)),
        ("480x640", InputSize(fixed=(480, 640))),
        ("original", InputSize()),
        ("auto", InputSize(auto=True)),
    ],
)
def test_parse_size(text: str, size: InputSize) -> None:
    assert parse_size(text) == size
    assert str(size) == text


@pytest.mark.parametrize("text", ["", "0", "-32", "100", "640x100", "1600,", "1600,800", "1,2,3", "huge", "6 4"])
def test_unknown_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="expected a multiple of 32"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "shape", "scale"),
    [
        ("64", (64, 64), 0.5),
        ("original", (96, 128), 1.0),
        ("auto", (480, 640), 5.0),  # as 640, without the part below the picture
        ("48,640", (64, 64), 0.5),  # short side 96 → 48; 48 × 64 padded to 64 × 64
        ("192,320", (192, 256), 2.0),  # enlarged
        ("192,192", (160, 192), 1.5),  # the long side is the limit: 144 × 192 padded
    ],
)
def test_input_sizes(text: str, shape: tuple[int, int], scale: float) -> None:
    image = np.full((96, 128, 3), 255, np.uint8)
    pixels, found_scale = parse_size(text).apply(image, (104, 117, 123))
    assert pixels.shape == (*shape, 3)
    assert found_scale == scale
    inside = pixels[: round(96 * scale), : round(128 * scale)]
    assert (inside == 255).all()
    if inside.shape != pixels.shape:
        assert pixels[-1, -1].tolist() == [104, 117, 123]


def test_detections_do_not_depend_on_padding(weights: Path) -> None:
    """An image that fits exactly gives the same faces by every rule of size."""
    model = build_model(CONFIG)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    first, *others = [
        KerasDetector(model, CONFIG, parse_size(t)).detect(image, 0.02, 0.4) for t in ("96", "original", "96,96")
    ]
    assert len(first) > 0
    for other in others:
        np.testing.assert_allclose(other.boxes, first.boxes, atol=1e-3)


def test_a_device_file_at_other_sizes(tmp_path: Path) -> None:
    model = tmp_path / "tiny.tflite"
    model.write_bytes(attach_spec(device_model(64, 96, int8=False), ModelSpec(64, 96)))
    image = photo(128, 96, ((32, 32, 32),))
    own, auto, large = (open_detector(model, size) for size in (None, "auto", "128x96"))
    assert (own.size, auto.size, large.size) == ("64x96", "auto", "128x96")
    assert len(own.in_use(image)) == len(auto.in_use(image)) > 0
    np.testing.assert_allclose(auto.in_use(image).boxes, own.in_use(image).boxes, atol=1e-3)
    assert large.in_use(image) == FaceDetector(model, input_size=(128, 96)).detect(image)
    with pytest.raises(ValueError, match="--size is original, expected auto, or a fixed size"):
        open_detector(model, "original")


def test_large_photos_are_halved_where_the_network_asks_for_it(weights: Path) -> None:
    model = build_model(CONFIG)
    image = np.random.default_rng(0).integers(0, 256, (384, 300, 3), np.uint8)
    plain = KerasDetector(model, CONFIG, InputSize.square(96))
    halving = KerasDetector(model, replace(CONFIG, antialias=True), InputSize.square(96))
    found, expected = halving.detect(image, 0.02, 0.4), plain.detect(shrink(image, 96, 75), 0.02, 0.4)
    assert len(found) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes * 4, atol=1e-3)
    assert not np.array_equal(found.scores, plain.detect(image, 0.02, 0.4).scores)


def test_keras_detector_follows_training(data: Path) -> None:
    """A detector built before the weights change uses the new ones."""
    model = build_model(CONFIG)
    detector = KerasDetector(model, CONFIG, InputSize.square(96))
    samples = read_labels(data)
    assert evaluate_keras(model, CONFIG, samples, InputSize.square(96), detector)["images"] == 2
    for stride in CONFIG.strides:
        head = model.get_layer(f"class_{stride}")
        kernel, _ = head.get_weights()
        head.set_weights([np.zeros_like(kernel), np.array([9, -9, 9, -9], np.float32)])
    assert len(detector.detect(np.zeros((96, 96, 3), np.uint8), 0.02, 0.4)) == 0


def command(**settings: Any) -> dict[str, Any]:
    return run(Options(**({"size": "96"} | settings)))


def test_run_writes_everything(weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    metrics = command(model=weights, data_dir=data, output=output, worst=1)
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert metrics["size"] == 96
    assert "tf_keras" in metrics["interpreter"]
    assert {"easy", "medium", "hard", "all", "nme", "images", "faces", "f1", "by_size"} <= set(metrics)
    assert (output / "pr_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(output.glob("worst_01_*.jpg"))) == 1
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    assert "2 images, 3 faces" in capsys.readouterr().out


def test_bad_input_is_one_line(weights: Path, data: Path, tmp_path: Path) -> None:
    gt = tmp_path / "gt"
    gt.mkdir()
    write_ground_truth(gt)
    (tmp_path / "foreign" / "images" / "x").mkdir(parents=True)
    write_image(tmp_path / "foreign" / "images" / "x" / "y.jpg")
    fake = tmp_path / "fake.tflite"
    fake.write_bytes(b"nothing")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": tmp_path / "no.keras"}, r"no\.keras: no such weights file"),
        ({"model": tmp_path / "no.tflite"}, r"no\.tflite: cannot read"),
        ({"model": fake}, "not a TFLite model"),
        ({"size": "huge"}, "size is 'huge'"),
        ({"data_dir": tmp_path / "nowhere"}, "nowhere: no such folder"),
        ({"gt_dir": tmp_path / "nowhere"}, "wider_face_val.mat: not found"),
        ({"data_dir": tmp_path / "foreign", "gt_dir": gt}, "none of its 1 images"),
        ({"data_dir": tmp_path / "foreign"}, "no labels"),
        ({"worst": 3}, "--output"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            command(**({"model": weights, "data_dir": data} | wrong))
        assert "\n" not in str(error.value)


def test_command(root: Path, weights: Path, data: Path, tmp_path: Path) -> None:
    base = [sys.executable, "-m", "rf_keras.evaluate", "--data_dir", str(data), "--size", "96"]
    done = subprocess.run([*base, "--model", str(weights)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AP  easy – / medium – / hard – / all" in done.stdout
    failed = subprocess.run([*base, "--model", "no.keras"], cwd=root, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1] == "error: no.keras: no such weights file"
    assert "Traceback" not in failed.stderr
