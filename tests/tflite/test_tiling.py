from __future__ import annotations

from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.spec import ModelSpec
from tflite.tiling import auto_tile, detect_tiled, tile_starts


@pytest.mark.parametrize(("length", "tile"), [(100, 100), (40, 64), (101, 100), (1000, 300), (4000, 640), (131, 64)])
def test_tiles_cover_the_side_and_overlap(length: int, tile: int) -> None:
    starts = tile_starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] == max(length - tile, 0)
    if length > tile:
        assert (np.diff(starts) <= tile * 0.75 + 1).all()  # a quarter of a tile lies in the next one, too
        assert (np.diff(starts) > 0).all()


def test_tile_starts_by_hand() -> None:
    assert tile_starts(250, 100) == [0, 75, 150]
    assert tile_starts(251, 100) == [0, 50, 101, 151]
    assert tile_starts(720, 400) == [0, 160, 320]  # a step of 320 would need more than the 300 that an overlap leaves


Box = tuple[float, float, float, float]
WHOLE = (-1, -1)


class Scripted:
    """Stands for a detector: finds given boxes by where in the whole its picture lies.

    It sees that by the top left pixel, which holds x and y (`canvas`). `calls` has of each picture its place, its size
    (width, height) and the thresholds.
    """

    def __init__(self, answers: dict[tuple[int, int], list[tuple[Box, float]]], **spec: float) -> None:
        self.answers = answers
        self.spec = ModelSpec(input_height=64, input_width=96, **spec)  # type: ignore[arg-type]
        self.calls: list[tuple[tuple[int, int], tuple[int, int], float | None, float | None]] = []

    def detect(
        self, image: np.ndarray, score_threshold: float | None = None, iou_threshold: float | None = None
    ) -> Detections:
        height, width = image.shape[:2]
        x, y = (int(value) for value in image[0, 0, :2])
        key = WHOLE if max(height, width) > 64 else (x, y)
        self.calls.append((key, (width, height), score_threshold, iou_threshold))
        found = self.answers.get(key, [])
        boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        points = np.broadcast_to(boxes[:, None, :2] + 1, (len(found), 5, 2))  # a pixel from the top left corner
        return Detections(boxes, np.array([score for _, score in found], np.float32), points)


def canvas() -> np.ndarray:
    """uint8 [96, 128, 3] whose first two channels are x and y."""
    y, x = np.mgrid[:96, :128]
    return np.stack((x, y, np.zeros_like(x)), axis=2).astype(np.uint8)


def tiled(answers: dict[tuple[int, int], list[tuple[Box, float]]], **spec: float) -> Detections:
    """Tiles of 64 pixels start at x = 0, 32, 64 and y = 0, 32."""
    return detect_tiled(Scripted(answers, **spec), canvas(), 64)  # type: ignore[arg-type]


def test_whole_and_every_tile_get_the_thresholds() -> None:
    detector = Scripted({})
    assert len(detect_tiled(detector, canvas(), 64, 0.3, 0.6)) == 0  # type: ignore[arg-type]
    tiles = [((x, y), (64, 64), 0.3, 0.6) for y in (0, 32) for x in (0, 32, 64)]
    assert detector.calls == [(WHOLE, (128, 96), 0.3, 0.6), *tiles]


@pytest.mark.parametrize("shape", [(96, 40), (40, 128)])
def test_one_side_larger_than_a_tile_is_enough(shape: tuple[int, int]) -> None:
    detector = Scripted({})
    detect_tiled(detector, canvas()[: shape[0], : shape[1]], 64)  # type: ignore[arg-type]
    assert len(detector.calls) > 2
    assert {size for _, size, *_ in detector.calls[1:]} == {(min(shape[1], 64), min(shape[0], 64))}


def test_boxes_and_landmarks_move_with_their_tile() -> None:
    found = tiled({(64, 32): [((10, 20, 30, 44), 0.9)], (32, 0): [((10, 20, 30, 44), 0.8)]})
    assert found.boxes.tolist() == [[74, 52, 94, 76], [42, 20, 62, 44]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.landmarks[:, 4].tolist() == [[75, 53], [43, 21]]


@pytest.mark.parametrize("gap", [1.5, 2.0])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("start", [(0, 0), (32, 0), (64, 0), (0, 32), (32, 32), (64, 32)])
def test_boxes_cut_by_an_inner_edge_are_left_out(start: tuple[int, int], side: int, gap: float) -> None:
    """Less than 2 pixels from an edge of the tile that is not the image's own: left, top, right, bottom."""
    box = [20.0, 22.0, 40.0, 44.0]
    box[side] = gap if side < 2 else 64 - gap
    inner = (start[0] > 0, start[1] > 0, start[0] < 64, start[1] < 32)
    found = tiled({start: [((box[0], box[1], box[2], box[3]), 0.9)]})
    assert len(found) == (0 if inner[side] and gap < 2 else 1)


def test_edges_of_tiles_that_are_not_square() -> None:
    """An image lower than a tile: the right edge of a piece of 64 × 40 is at 64, its lower edge is the image's."""
    detector = Scripted({(0, 0): [((20, 20, 39, 39), 0.9), ((43, 10, 63, 30), 0.8)]})
    found = detect_tiled(detector, canvas()[:40], 64)  # type: ignore[arg-type]
    assert found.boxes.tolist() == [[20, 20, 39, 39]]


def test_the_same_face_of_two_tiles_and_the_whole_is_one() -> None:
    answers = {
        WHOLE: [((40.0, 40.0, 60.0, 60.0), 0.7)],
        (0, 0): [((40.0, 40.0, 60.0, 60.0), 0.8)],
        (32, 32): [((8.0, 8.0, 28.0, 27.0), 0.9)],
    }
    assert tiled(answers).boxes.tolist() == [[40, 40, 60, 59]]


def test_merging_keeps_the_files_limits_and_the_callers_overlap() -> None:
    three: dict[tuple[int, int], list[tuple[Box, float]]] = {
        WHOLE: [((0, 0, 20, 20), 0.9), ((70, 60, 90, 80), 0.7)],
        (32, 0): [((10, 4, 30, 24), 0.8)],
    }
    lefts = [0, 42, 70]
    assert tiled(three).boxes[:, 0].tolist() == lefts
    assert tiled(three, max_faces=2).boxes[:, 0].tolist() == lefts[:2]
    assert tiled(three, max_candidates=1).boxes[:, 0].tolist() == lefts[:1]
    halves: dict[tuple[int, int], list[tuple[Box, float]]] = {
        WHOLE: [((40, 40, 60, 60), 0.9)],
        (0, 0): [((30, 40, 50, 60), 0.8)],  # IoU ⅓, half of each in the other
    }
    assert [len(tiled(halves, iou_threshold=t)) for t in (0.3, 0.4)] == [1, 2]
    for overlap, count in ((0.6, 2), (0.1, 1)):
        detector = Scripted(halves, iou_threshold=0.4)
        assert len(detect_tiled(detector, canvas(), 64, None, overlap)) == count  # type: ignore[arg-type]


EYE, HEAD = (44.0, 44.0, 52.0, 50.0), (20.0, 10.0, 70.0, 80.0)


@pytest.mark.parametrize(("eye", "head", "left"), [(0.9, 0.8, 20), (0.95, 0.48, 20), (0.95, 0.47, 44)])
def test_an_eye_in_a_tile_is_no_face_beside_the_whole_one(eye: float, head: float, left: int) -> None:
    """Also where it is surer; unless the large box is hardly a face itself."""
    assert tiled({WHOLE: [(HEAD, head)], (0, 0): [(EYE, eye)]}).boxes[:, 0].tolist() == [left]


def test_faces_inside_one_another_of_one_look_are_left_alone() -> None:
    assert len(tiled({WHOLE: [(HEAD, 0.9), (EYE, 0.8)]})) == 2


def test_a_tile_is_not_enlarged_more_than_twice() -> None:
    detector = Scripted({})
    detect_tiled(detector, canvas(), 32)  # type: ignore[arg-type]
    assert {size for _, size, *_ in detector.calls[1:]} == {(48, 48)}  # half of 96


@pytest.mark.parametrize(
    ("size", "tile"),
    [((900, 700), 900), ((960, 960), 960), ((961, 700), 640), ((2000, 3000), 640), ((4000, 6000), 1264)],
)
def test_a_sensible_tile(size: tuple[int, int], tile: int) -> None:
    assert auto_tile(*size, 640) == tile
    assert len(tile_starts(max(size), tile)) <= 6


@pytest.mark.parametrize("tile", [100, 150, 200, 300])
def test_tiles_of_a_portrait_give_one_face(tile: int) -> None:
    portrait = read_image(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    with FaceDetector("fast_320", num_threads=1) as detector:
        (face,) = detect_tiled(detector, portrait, tile)
    assert np.abs(np.array(face.box) - (181, 120, 350, 335)).max() < 20


@pytest.fixture(scope="module")
def detector(model_dir: Path) -> FaceDetector:
    return FaceDetector(model_dir / "int8.tflite", num_threads=1)


def test_small_faces_are_found_in_tiles_only(detector: FaceDetector) -> None:
    """24-pixel squares in a photo ten times the input: too small when scaled down, plain in a tile."""
    squares = ((100, 144, 24), (320, 800, 24), (560, 400, 24))
    image = photo(640, 960, squares)
    assert len(detector.detect(image)) == 0
    found = detect_tiled(detector, image, 96)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    for y, x, side in squares:
        assert np.abs(centres - (x + side / 2, y + side / 2)).max(axis=1).min() < 12
    assert (np.diff(found.scores) <= 0).all()


def test_large_faces_come_from_the_whole_image(detector: FaceDetector) -> None:
    image = photo(640, 960, ((160, 320, 320),))
    whole, tiled = detector.detect(image), detect_tiled(detector, image, 320)
    assert len(whole) > 0
    assert tiled.scores[0] >= whole.scores[0]


def test_a_small_image_is_detected_once(detector: FaceDetector) -> None:
    image = photo()
    whole, tiled = detector.detect(image), detect_tiled(detector, image, 500)
    np.testing.assert_array_equal(whole.boxes, tiled.boxes)


def test_tile_too_small(detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="tile is 31 pixels, expected at least 32"):
        detect_tiled(detector, photo(), 31)
