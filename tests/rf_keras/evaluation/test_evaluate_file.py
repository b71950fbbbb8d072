"""Evaluation of a .tflite file: without TensorFlow, of parts and flat folders, with what goes to other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rf_keras.evaluation.coco_output import write_coco
from rf_keras.evaluation.ground_truth import Truth, read_truth, truth_of_samples
from rf_keras.evaluation.pictures import plot_curves
from rf_keras.evaluation.scoring import SHOWN_THRESHOLDS, Evaluation, evaluate, points_at
from rf_keras.evaluation.wider_ap import best_f1, operating_points
from rf_keras.labels import LabelError, Sample, format_label, read_labels
from tests.rf_keras.evaluation.test_wider_ap import write_ground_truth
from tests.rf_keras.labels.pictures import picture, ways_to_store
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections

BLOCKED = """
import sys
for name in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
    sys.modules[name] = None  # importing it fails
from rf_keras.evaluate import main
main()
"""


def found(*faces: tuple[list[float], float]) -> Detections:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, s in faces], np.float32), np.zeros((len(faces), 5, 2), np.float32))


def answers(truths: list[Truth], replies: list[Detections], **settings: float) -> Evaluation:
    queue = iter(replies)
    return evaluate(lambda image: next(queue), truths, progress=False, **settings)  # type: ignore[arg-type]


def faces(*boxes: list[float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def sample(path: Path, *boxes: list[float], ignored: np.ndarray | None = None) -> Sample:
    marks = np.full((len(boxes), 5, 2), -1, np.float32)
    return Sample(picture(path), faces(*boxes), marks, faces() if ignored is None else ignored)


A, B, C, ELSEWHERE = [10.0, 10, 50, 50], [100.0, 10, 140, 60], [200.0, 100, 240, 150], [250.0, 10, 300, 60]


def test_f1_and_its_threshold_by_hand(tmp_path: Path) -> None:
    """Three faces; above 0.8 one hit, above 0.6 two and a false alarm, above 0.3 the same and a second alarm."""
    truths = truth_of_samples([sample(tmp_path / "a.jpg", A, B), sample(tmp_path / "b.jpg", C)])
    result = answers(truths, [found((A, 0.85), (ELSEWHERE, 0.7), (B, 0.65678)), found((ELSEWHERE, 0.35))])
    f1 = result.metrics["f1"]
    assert f1["best"] == {
        "threshold": 0.6567,
        "precision": pytest.approx(200 / 3),
        "recall": pytest.approx(200 / 3),
        "f1": pytest.approx(200 / 3),
    }
    rows = {row["threshold"]: (row["precision"], row["recall"], row["f1"]) for row in f1["thresholds"]}
    assert list(rows) == [round(0.05 * step, 2) for step in range(1, 20)]
    assert rows[0.8] == (100, pytest.approx(100 / 3), 50) and rows[0.9] == (None, 0, 0)
    assert rows[0.3] == (50, pytest.approx(200 / 3), pytest.approx(400 / 7))
    plot_curves(result.curves, points_at(result.images, SHOWN_THRESHOLDS), "a title", tmp_path / "pr.png")
    assert cv2.imread(str(tmp_path / "pr.png")).shape[1] > 1000
    assert best_f1([], []) is None and operating_points([], [], [0.5])[0].f1 == 0


def test_what_is_to_be_ignored_is_neither_found_nor_a_false_alarm(tmp_path: Path) -> None:
    truths = truth_of_samples([sample(tmp_path / "a.jpg", A, ignored=faces(C))])
    metrics = answers(truths, [found((C, 0.9), (A, 0.8))]).metrics
    assert metrics["all"] == pytest.approx(100) and metrics["faces"] == 1
    assert metrics["f1"]["best"]["f1"] == 100


def test_unreadable_images_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    truths = truth_of_samples([sample(tmp_path / f"{name}.jpg", A) for name in "abc"])
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    metrics = answers(truths, [found((A, 0.9)), found()]).metrics
    assert (metrics["images"], metrics["faces"], metrics["left_out"]) == (2, 2, [str(tmp_path / "b.jpg")])
    assert (
        metrics["all"] == pytest.approx(50)
        and f"1 of 3 images cannot be read, the first {tmp_path}/b.jpg" in caplog.text
    )
    with pytest.raises(LabelError, match=r"b\.jpg.*expected at most 0%"):
        answers(truths, [found()] * 2, max_missing=0)
    with pytest.raises(LabelError, match="1 of 1 images cannot be read"):
        answers(truths[1:2], [])


def metrics_by_way(images: list[Path], boxes: list[np.ndarray], root: Path, folder: Path) -> dict[str, object]:
    """Metrics of a shipped model for plain JPEGs, and for the same pixels each stored in another way."""
    model, found = root / "tflite" / "models" / "retinaface_fast_320_int8.tflite", {}
    sets: dict[str, list[Sample]] = {"plain": [], "way": []}
    for number, (image, known) in enumerate(zip(images, boxes, strict=True)):
        files = list(ways_to_store(np.ascontiguousarray(read_image(image)[..., ::-1])).items())
        for kind, (suffix, data) in (("plain", files[0]), ("way", files[number % len(files)])):
            path = folder / f"{kind}{number}{suffix}"
            path.write_bytes(data)
            sets[kind].append(Sample(path, known, np.full((len(known), 5, 2), -1, np.float32)))
    with FaceDetector(model) as detector:
        for kind, samples in sets.items():
            truths = truth_of_samples(samples)
            found[kind] = evaluate(lambda image: detector.detect(image, 0.02), truths, progress=False).metrics
    return found


def test_orientation_and_format_do_not_change_the_result(root: Path, tmp_path: Path) -> None:
    portrait = root / "docs" / "img" / "grace_hopper_faces.jpg"
    with FaceDetector("fast_320") as detector:
        boxes = detector.detect(read_image(portrait)).boxes
    found = metrics_by_way([portrait] * 12, [boxes] * 12, root, tmp_path)
    assert found["plain"] == found["way"] and len(boxes) and found["plain"]["all"] > 90  # type: ignore[index]


@pytest.mark.shared_data
def test_48_shared_photos_give_the_same_result_however_they_are_stored(
    shared_data: Path, root: Path, tmp_path: Path
) -> None:
    samples = read_labels(shared_data / "groups")[:48]
    found = metrics_by_way([s.image for s in samples], [s.boxes for s in samples], root, tmp_path)
    assert found["plain"] == found["way"] and found["plain"]["all"] > 50  # type: ignore[index]


def test_official_images_in_a_flat_folder(tmp_path: Path) -> None:
    gt = tmp_path / "gt"
    gt.mkdir()
    write_ground_truth(gt)
    picture(tmp_path / "flat" / "one.jpg")
    picture(tmp_path / "flat" / "another.jpg")
    (truth,) = read_truth(tmp_path / "flat", gt)
    assert truth.image.name == "one.jpg" and truth.split_size == 2
    picture(tmp_path / "events" / "7--Test" / "two.jpg")
    assert [one.image.name for one in read_truth(tmp_path / "events", gt)] == ["two.jpg"]


def test_labels_in_a_flat_folder(tmp_path: Path) -> None:
    lines = ["# a.jpg", *format_label(faces(A), np.full((1, 5, 2), -1, np.float32))]
    (tmp_path / "label.txt").write_text("\n".join(lines))
    picture(tmp_path / "a.jpg")
    assert [truth.boxes.tolist() for truth in read_truth(tmp_path)] == [[A]]


def test_coco_files_for_other_tools(tmp_path: Path) -> None:
    truths = truth_of_samples(
        [sample(tmp_path / "x" / "a.jpg", A, ignored=faces(C)), sample(tmp_path / "y" / "a.jpg", B)]
    )
    result = answers(truths, [found((A, 0.5)), found((B, 0.25), (ELSEWHERE, 0.125))])
    write_coco(result.images, tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(row["image_id"], row["bbox"], row["score"]) for row in rows] == [
        (1, [10, 10, 40, 40], 0.5),
        (2, [100, 10, 40, 50], 0.25),
        (2, [250, 10, 50, 50], 0.125),
    ]
    assert all(row["category_id"] == 1 and len(row["keypoints"]) == 15 for row in rows)
    document = json.loads((tmp_path / "out" / "ground_truth.json").read_text())
    first, second = document["images"]
    assert first == {"id": 1, "file_name": "x/a.jpg", "width": 320, "height": 240}
    assert second["file_name"] == "y/a.jpg"
    assert [(one["image_id"], one["iscrowd"]) for one in document["annotations"]] == [(1, 0), (1, 1), (2, 0)]


def test_a_file_is_evaluated_without_tensorflow(root: Path, tmp_path: Path) -> None:
    """A part of WIDER FACE, by the official rules, with a page of HTML among the pictures."""
    gt, data, output = tmp_path / "gt", tmp_path / "data", tmp_path / "out"
    gt.mkdir()
    write_ground_truth(gt)
    picture(data / "images" / "7--Test" / "one.jpg")
    for labels in ([f"--gt_dir={gt}"], []):
        if not labels:
            lines = format_label(faces(A), np.full((1, 5, 2), -1, np.float32))
            (data / "images" / "page.jpg").write_bytes(b"<html>")
            (data / "label.txt").write_text("\n".join(["# 7--Test/one.jpg", *lines, "# page.jpg"]))
        model = root / "tflite" / "models" / "retinaface_fast_320_int8.tflite"
        command = [f"--model={model}", f"--data_dir={data}", f"--json={tmp_path / 'm.json'}", "--size=96x64", *labels]
        if not labels:
            command += [f"--output={output}", "--format=coco"]
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, *command], cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / "m.json").read_text())
        assert metrics["images"] == 1 and metrics["size"] == "96x64"
        assert metrics["f1"]["at_default"]["threshold"] == 0.4
        if labels:
            assert "1 of 2 images of WIDER FACE val: not comparable with published figures" in done.stdout
            assert metrics["easy"] is not None
        else:
            assert "page.jpg" in done.stderr and "WIDER FACE val" not in done.stdout
            assert metrics["rules"] == "label.txt" and (output / "detections.json").is_file()
