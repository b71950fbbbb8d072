"""AP against hand-computed cases, and against the tool's rules written out slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from rf_keras.evaluation.wider_ap import (
    SUBSETS,
    GroundTruthError,
    average_precision,
    inclusive_iou,
    match_detections,
    read_ground_truth,
    voc_ap,
)

FACE_A, FACE_B, NOWHERE = [0.0, 0.0, 9.0, 9.0], [100.0, 100.0, 119.0, 119.0], [300.0, 300.0, 309.0, 309.0]
Image = tuple[list[list[float]], list[float], list[list[float]], list[bool]]  # boxes, scores, faces, counted


def fast_ap(images: list[Image]) -> float:
    matches = [
        match_detections(np.reshape(boxes, (-1, 4)), np.array(scores), np.reshape(faces, (-1, 4)))
        for boxes, scores, faces, _ in images
    ]
    return average_precision(matches, [np.array(counted, bool) for *_, counted in images]).ap


def slow_ap(images: list[Image]) -> float:
    """The rules as the module's docstring states them, nothing vectorised."""
    every = [score for _, scores, _, _ in images for score in scores]
    to_find = sum(sum(counted) for *_, counted in images)
    if not every or not to_find:
        return 0.0
    spread = max(every) - min(every)
    points = []
    for step in range(1, 1001):
        threshold = 1 - step / 1000
        hits = alarms = 0
        for boxes, scores, faces, counted in images:
            found: set[int] = set()
            for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
                if ((scores[index] - min(every)) / spread if spread else 1.0) < threshold:
                    break
                overlaps = [pixel_iou(boxes[index], face) for face in faces]
                best = overlaps.index(max(overlaps)) if overlaps else -1
                if not overlaps or overlaps[best] < 0.5:
                    alarms += 1
                elif counted[best] and best not in found:
                    found.add(best)
                    hits += 1
                elif counted[best]:
                    alarms += 1
        points.append((hits / to_find, hits / (hits + alarms) if hits + alarms else 0.0))
    area, last = 0.0, 0.0
    for recall, _ in points:
        if recall > last:
            area += (recall - last) * max(p for r, p in points if r >= recall)
            last = recall
    return area


def pixel_iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    overlap = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return overlap / (areas - overlap)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (([FACE_A], [0.9], [FACE_A], [True]), 1.0),
        (([NOWHERE], [0.9], [FACE_A], [True]), 0.0),
        (([], [], [FACE_A], [True]), 0.0),
        (([FACE_A], [0.9], [], []), 0.0),
        # Found, false alarm, found: recall ½ at precision 1, then 1 at ⅔.
        (([FACE_A, NOWHERE, FACE_B], [0.9, 0.5, 0.1], [FACE_A, FACE_B], [True, True]), 0.5 * 1 + 0.5 * 2 / 3),
        # The false alarm scores lowest: recall is complete before it.
        (([FACE_A, FACE_B, NOWHERE], [0.9, 0.5, 0.1], [FACE_A, FACE_B], [True, True]), 1.0),
        # A second detection of a face is a false alarm.
        (([FACE_A, FACE_A, FACE_B], [0.9, 0.5, 0.1], [FACE_A, FACE_B], [True, True]), 0.5 * 1 + 0.5 * 2 / 3),
        # On an ignored face it is nothing, however often.
        (([FACE_A, FACE_A, FACE_B], [0.9, 0.5, 0.1], [FACE_A, FACE_B], [False, True]), 1.0),
        # One of two faces is never found.
        (([FACE_A], [0.9], [FACE_A, FACE_B], [True, True]), 0.5),
    ],
)
def test_hand_computed_cases(image: Image, expected: float) -> None:
    assert fast_ap([image]) == pytest.approx(expected)
    assert slow_ap([image]) == pytest.approx(expected)


def test_equal_scores_keep_their_order_and_equal_overlaps_go_to_the_first_face() -> None:
    boxes = np.tile([0.0, 0.0, 9.0, 9.0], (500, 1))
    scores = np.where(np.arange(500) % 2, 0.5, 0.25)
    found = match_detections(boxes, scores, np.array([FACE_B, FACE_A, FACE_A]))
    assert found.order.tolist() == [*range(1, 500, 2), *range(0, 500, 2)]
    assert (found.face == 1).all()


def test_pixels_are_inclusive() -> None:
    """10 × 5 of 10 × 10 pixels is exactly half and matches; on continuous coordinates IoU would be 36 / 81."""
    assert inclusive_iou(np.array([[0, 0, 9, 4]]), np.array([FACE_A]))[0, 0] == 0.5
    assert fast_ap([([[0.0, 0.0, 9.0, 4.0]], [0.9], [FACE_A], [True])]) == 1.0
    assert fast_ap([([[0, 0, 9, 3.9]], [0.9], [FACE_A], [True])]) == 0.0


def test_normalisation_spans_the_data_set() -> None:
    """Scores within one of the 1,000 steps lose their order, as in the tool."""
    images: list[Image] = [
        ([NOWHERE], [0.5001], [], []),
        ([FACE_A], [0.5], [FACE_A], [True]),
        ([FACE_B, NOWHERE], [1.0, 0.5], [FACE_B], [True]),
        ([NOWHERE], [0.0], [FACE_A], [False]),
    ]
    assert fast_ap(images) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert slow_ap(images) == pytest.approx(fast_ap(images))


def test_scores_three_of_the_1000_steps_apart_keep_their_order() -> None:
    found = [FACE_B, FACE_A, NOWHERE, NOWHERE]
    image: Image = (found, [1.0, 0.5035, 0.5005, 0.0], [FACE_A, FACE_B], [True, True])
    assert fast_ap([image]) == slow_ap([image]) == 1.0


def test_detections_left_out() -> None:
    found = match_detections(np.array([NOWHERE, FACE_A]), np.array([0.9, 0.5]), np.array([FACE_A]))
    counted = [np.array([True])]
    assert average_precision([found], counted).ap == pytest.approx(0.5)
    assert average_precision([found], counted, [np.array([True, False])]).ap == pytest.approx(1.0)


corner = st.integers(0, 30)
box = st.tuples(corner, corner, st.integers(4, 14), st.integers(4, 14)).map(
    lambda b: [float(v) for v in (b[0], b[1], b[0] + b[2], b[1] + b[3])]
)


@st.composite
def scenes(draw: st.DrawFn) -> list[Image]:
    images: list[Image] = []
    for _ in range(draw(st.integers(1, 4))):
        faces = draw(st.lists(box, max_size=5))
        counted = draw(st.lists(st.booleans(), min_size=len(faces), max_size=len(faces)))
        boxes = draw(st.lists(st.one_of(box, *(st.just(face) for face in faces)), max_size=8))
        score = st.integers(0, 400).map(lambda s: s / 400)
        images.append((boxes, draw(st.lists(score, min_size=len(boxes), max_size=len(boxes))), faces, counted))
    return images


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_agrees_with_the_slow_rules(images: list[Image]) -> None:
    assert fast_ap(images) == pytest.approx(slow_ap(images), abs=1e-9)


def test_voc_envelope() -> None:
    assert voc_ap(np.array([0.2, 0.4, 0.4, 0.8]), np.array([1.0, 0.5, 0.4, 0.6])) == pytest.approx(0.2 * 1 + 0.6 * 0.6)


def cells(items: list[np.ndarray]) -> np.ndarray:
    """A MATLAB cell column."""
    column = np.empty((len(items), 1), object)
    for index, item in enumerate(items):
        column[index, 0] = item
    return column


def write_ground_truth(folder: Path) -> None:
    """Official files with one event of two images, three and one faces; the third is invalid and counts nowhere."""
    boxes = [np.array([[0, 0, 9, 9], [100, 100, 19, 19], [5, 5, 0, 0]], np.int32), np.array([[1, 2, 3, 4]], np.int32)]
    savemat(
        folder / "wider_face_val.mat",
        {
            "event_list": cells([np.array("7--Test")]),
            "file_list": cells([cells([np.array("one"), np.array("two")])]),
            "face_bbx_list": cells([cells(list(boxes))]),
            "invalid_label_list": cells([cells([np.array([[0], [0], [1]]), np.array([[0]])])]),
        },
    )
    lists: dict[str, list[Any]] = {
        "easy": [[[2]], np.zeros((0, 1))],
        "medium": [[[1], [2]], np.zeros((0, 1))],
        "hard": [[[1], [2]], [[1]]],
    }
    for subset, faces in lists.items():
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": cells([cells([np.array(f) for f in faces])])})


def test_reads_official_files(tmp_path: Path) -> None:
    write_ground_truth(tmp_path)
    truth = read_ground_truth(tmp_path)
    assert sorted(truth) == ["7--Test/one", "7--Test/two"]
    one, two = truth["7--Test/one"], truth["7--Test/two"]
    np.testing.assert_array_equal(one.boxes, [[0, 0, 9, 9], [100, 100, 119, 119], [5, 5, 5, 5]])
    assert one.valid.tolist() == [True, True, False]
    assert [one.counted[s].tolist() for s in SUBSETS] == [
        [False, True, False],
        [True, True, False],
        [True, True, False],
    ]
    assert [two.counted[s].tolist() for s in SUBSETS] == [[False], [False], [True]]


def test_bad_official_files(tmp_path: Path) -> None:
    with pytest.raises(GroundTruthError, match=r"wider_face_val\.mat: not found"):
        read_ground_truth(tmp_path)
    write_ground_truth(tmp_path)
    (tmp_path / "wider_hard_val.mat").write_bytes(b"not MATLAB")
    with pytest.raises(GroundTruthError, match=r"wider_hard_val\.mat: not a readable"):
        read_ground_truth(tmp_path)
    savemat(tmp_path / "wider_hard_val.mat", {"other": np.zeros(1)})
    with pytest.raises(GroundTruthError, match=r"lacks \['gt_list'\]"):
        read_ground_truth(tmp_path)
    savemat(tmp_path / "wider_hard_val.mat", {"gt_list": cells([])})
    with pytest.raises(GroundTruthError, match="do not fit each other"):
        read_ground_truth(tmp_path)


@pytest.mark.shared_data
def test_official_counts(shared_data: Path) -> None:
    """WIDER FACE val as published: 3,226 images, 7,211 / 13,319 / 31,958 faces to find."""
    truth = read_ground_truth(shared_data / "wider_gt")
    assert len(truth) == 3226
    totals = [sum(int(faces.counted[subset].sum()) for faces in truth.values()) for subset in SUBSETS]
    assert totals == [7211, 13319, 31958]
