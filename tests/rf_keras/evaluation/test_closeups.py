"""Close-ups and turned photos: what is cut out, what counts as found and as a piece, on cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rf_keras.evaluation import closeups
from rf_keras.evaluation.ground_truth import Truth
from rf_keras.labels import format_label
from tests.rf_keras.test_evaluate import command
from tflite.postprocess import Detections

BOX = np.array([100, 50, 300, 250], np.float32)
POINTS = np.array([[150, 110], [250, 110], [200, 150], [160, 210], [240, 210]], np.float32)
UNKNOWN = np.full((5, 2), -1, np.float32)


def found(*boxes: list[float], landmarks: np.ndarray = UNKNOWN) -> Detections:
    table = np.array(boxes, np.float32).reshape(-1, 4)
    scores, points = np.linspace(0.9, 0.5, len(table)), np.tile(landmarks, (len(table), 1, 1))
    return Detections(table, scores.astype(np.float32), points)


@pytest.mark.parametrize(
    ("margin", "corner", "shape"),
    [(0.0, [100, 50], (200, 200)), (0.1, [80, 30], (240, 240)), (0.5, [0, 0], (300, 400)), (1.0, [0, 0], (300, 400))],
)
def test_crops_leave_their_margin_and_stay_in_the_photo(
    margin: float, corner: list[int], shape: tuple[int, int]
) -> None:
    photo = np.arange(300 * 400 * 3, dtype=np.uint8).reshape(300, 400, 3)
    part, at = closeups.crop(photo, BOX, margin)
    assert at.tolist() == corner
    assert part.shape[:2] == shape
    assert (part == photo[corner[1] : corner[1] + shape[0], corner[0] : corner[0] + shape[1]]).all()


@pytest.mark.parametrize(("degrees", "expected"), [(90, [10, 70]), (180, [70, 40]), (270, [40, 30])])
def test_a_point_turns_with_its_pixel(degrees: int, expected: list[int]) -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    image[10:12, 30:32] = 255  # around the point (31, 11)
    turned, point = closeups.turn(image, np.array([31.0, 11.0]), degrees)
    rows, columns = np.nonzero(turned[..., 0])
    assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(point)
    assert np.abs(point - expected).max() <= 1


def test_faces_on_their_side_keep_their_points() -> None:
    truth = Truth(Path("photo.png"), BOX[None], POINTS[None], np.ones(1, bool))
    photo = np.zeros((300, 400, 3), np.uint8)
    (view,) = closeups.turned_views(truth, [0], 90, photo)
    assert view.image.shape == (400, 300, 3)
    assert view.box.tolist() == [50, 100, 250, 300]
    assert view.landmarks[0].tolist() == [110, 250], "the left eye of the upright photo is below the right one"


@pytest.mark.parametrize(
    ("boxes", "pieces"),
    [
        ([[100, 50, 300, 250]], False),
        ([[100, 50, 300, 250], [120, 60, 290, 240]], True),  # one within the other
        ([[110, 60, 200, 150], [105, 55, 205, 155]], True),  # two on an eye, none on the face
        ([[100, 50, 300, 250], [350, 50, 390, 90]], False),  # another face beside it
        ([[350, 50, 390, 90], [351, 51, 389, 89]], False),  # two on a face that is not asked for
        ([], False),
    ],
)
def test_pieces(boxes: list[list[float]], pieces: bool) -> None:
    assert closeups.has_pieces(BOX, np.array(boxes, np.float32).reshape(-1, 4)) is pieces


def test_tally_by_hand() -> None:
    tally = closeups.Tally()
    view = closeups.View("a", np.zeros((300, 400, 3), np.uint8), BOX, POINTS)
    tally.add(view, found([100, 50, 300, 250], landmarks=POINTS + np.float32([3, 4])), keep=1)  # 5 px of 200
    tally.add(view, found([100, 50, 300, 170], landmarks=POINTS), keep=1)  # IoU 0.6
    tally.add(view, found([100, 50, 300, 140]), keep=1)  # 0.45: missed
    tally.add(view, found(), keep=1)
    assert tally.metrics() == pytest.approx({"found": 50, "found_70": 25, "pieces": 0, "nme": 1.25})
    assert len(tally.missed) == 1
    assert closeups.Tally().metrics() == dict.fromkeys(("found", "found_70", "pieces", "nme"))


def test_only_large_faces_of_the_easy_set_are_looked_for() -> None:
    boxes = np.array([[0, 0, 100, 100], [0, 0, 99, 200], [0, 0, 150, 150], [0, 0, 200, 200]], np.float32)
    valid = np.array([True, True, False, True])
    truth = Truth(Path("a.png"), boxes, np.stack([UNKNOWN] * 4), valid)
    assert closeups.large_faces([truth]) == [(truth, [0, 3])]
    official = Truth(Path("a.png"), boxes, truth.landmarks, valid, {"easy": np.array([False, True, True, True])})
    assert closeups.large_faces([official]) == [(official, [2, 3])]


def test_a_detector_of_whole_pictures(tmp_path: Path) -> None:
    """Says that the whole picture is a face: right where the margin is small."""
    assert cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((600, 600, 3), np.uint8))
    box = np.array([[200, 200, 400, 400]], np.float32)
    truth = Truth(tmp_path / "photo.png", box, POINTS[None], np.ones(1, bool))

    def detect(image: np.ndarray) -> Detections:
        return found([0, 0, image.shape[1], image.shape[0]], landmarks=POINTS)

    results, _ = closeups.measure(detect, [truth], closeups=True, turned=True, progress=False)
    assert results["faces"] == results["photos"] == 1
    assert [row["found"] for row in results["closeups"].values()] == [0, 0, 0, 100, 100]
    assert list(results["closeups"]) == ["1", "0.5", "0.25", "0.1", "0"]
    assert [row["found"] for row in results["turned"].values()] == [0, 0, 0, 0]
    assert "margin around the face" in closeups.table(results)


def test_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = cv2.imread(str(root / "docs" / "img" / "grace_hopper_faces.jpg"))
    (tmp_path / "data" / "images").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "data" / "images" / "noise.png"), 255 - image)
    lines = ["# noise.png", *format_label(BOX[None], POINTS[None])]
    (tmp_path / "data" / "label.txt").write_text("\n".join(lines))
    model = root / "tflite" / "models" / "retinaface_fast_320_int8.tflite"
    settings = {
        "model": model,
        "data_dir": tmp_path / "data",
        "output": tmp_path / "out",
        "worst": 1,
        "size": None,
    }
    metrics = command(**settings, closeups=True, turned=True)
    assert metrics["large"]["faces"] == 1
    assert metrics["large"]["threshold"] == 0.4
    assert set(metrics["large"]["turned"]) == {"0", "90", "180", "270"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["large"] == metrics["large"]
    drawn = sorted(path.name for path in (tmp_path / "out").glob("missed_*"))
    missed = [row["found"] == 0 for group in ("closeups", "turned") for row in metrics["large"][group].values()]
    assert len(drawn) == sum(missed)
    assert "turned by degrees" in capsys.readouterr().out
