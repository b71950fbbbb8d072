"""Faces keep their numbers: on made sequences whose identities are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tflite.stub import at
from tflite.postprocess import Detections
from tflite.tracking import Tracker

SIZE = 480, 640  # height, width of the frames


def sequence(frames: int = 120, gap: int = 5) -> list[dict[int, tuple[float, ...]]]:
    """Person → box in each frame: two cross each other's way, one comes nearer, one leaves and another comes.

    Each is missing for `gap` frames at a time, every 25 frames, at different times.
    """
    noise = np.random.default_rng(1)
    result = []
    for t in range(frames):
        near = 30 + 0.6 * t
        places = {
            1: (20 + 4 * t, 100, 60),  # to the right
            2: (540 - 4 * t, 120, 60),  # to the left, in front of the first
            3: (300, 300, near),  # grows
            4: (60 + 30 * np.sin(t / 9), 380, 40),  # sways
        }
        if t >= 70:
            places[5] = (450, 30 + 2 * (t - 70), 50)
        boxes = {}
        for person, (x, y, side) in places.items():
            if t % 25 >= 5 + 4 * person and t % 25 < 5 + 4 * person + gap and t > 10:
                continue
            corners = np.array((x, y, x + side, y + 1.2 * side)) + noise.normal(0, 0.02 * side, 4)
            if corners[0] < SIZE[1] and corners[2] > 0 and not (person == 4 and t > 100):
                boxes[person] = tuple(np.clip(corners, 0, (640, 480, 640, 480)))
        result.append(boxes)
    return result


def run(frames: list[dict[int, tuple[float, ...]]], tracker: Tracker) -> list[dict[int, int]]:
    """Person → number of the track, in each frame; faces come in another order each time."""
    shuffle, result = np.random.default_rng(2), []
    for boxes in frames:
        people = list(shuffle.permutation(list(boxes)))
        result.append(dict(zip(people, tracker.update(at(*(boxes[p] for p in people)), SIZE).ids, strict=True)))
    return result


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_no_identity_is_switched_and_gaps_are_bridged(gap: int) -> None:
    """As the MOT benchmark counts: a person's number in a frame differs from the last one."""
    ids = run(sequence(gap=gap), Tracker())
    numbers: dict[int, set[int]] = {}
    for frame in ids:
        assert len(set(frame.values())) == len(frame)
        for person, number in frame.items():
            numbers.setdefault(person, set()).add(number)
    assert len(numbers) == 5
    assert all(len(given) == 1 for given in numbers.values()), numbers
    assert len(set.union(*numbers.values())) == 5  # and nobody else's


def test_a_track_ends_and_its_number_is_not_given_again() -> None:
    tracker = Tracker()
    box = (100, 100, 160, 180)
    assert tracker.update(at(box), SIZE).ids == [1]
    for _ in range(15):
        assert tracker.update(at(), SIZE).ids == []
    assert tracker.update(at(box), SIZE).ids == [1]
    for _ in range(16):
        tracker.update(at(), SIZE)
    assert tracker.update(at(box), SIZE).ids == [2]


@pytest.mark.parametrize("hold", [0, 3, 30])
def test_the_place_of_a_missed_face_is_held(hold: int) -> None:
    """Where the face will be, not where it was; for so many frames and no longer."""
    tracker = Tracker(hold)
    for t in range(20):
        assert len(tracker.update(at((50 + 5 * t, 100, 110 + 5 * t, 180)), SIZE).held) == 0
    for missed in range(1, 40):
        held = tracker.update(at(), SIZE).held
        assert len(held) == (missed <= hold)
        if missed <= min(hold, 5):
            true = np.array((50 + 5 * (19 + missed), 100, 110 + 5 * (19 + missed), 180))
            assert (held[0][:2] <= true[:2] + 4).all() and (held[0][2:] >= true[2:] - 4).all()  # covers it
            assert np.abs(held[0] - true).max() < 20


def test_boxes_and_points_shake_less_and_do_not_lag() -> None:
    noise, tracker = np.random.default_rng(3), Tracker()
    raw, smooth = [], []
    for t in range(200):
        true = at((50 + 2 * t, 100, 130 + 2 * t, 200))
        shaken = Detections(
            true.boxes + noise.normal(0, 2, (1, 4)).astype(np.float32),
            true.scores,
            true.landmarks + noise.normal(0, 2, (1, 5, 2)).astype(np.float32),
        )
        faces = tracker.update(shaken, (480, 1000)).faces
        if t >= 20:
            raw.append([shaken.boxes - true.boxes, shaken.landmarks.reshape(1, -1) - true.landmarks.reshape(1, -1)])
            smooth.append([faces.boxes - true.boxes, faces.landmarks.reshape(1, -1) - true.landmarks.reshape(1, -1)])
    for part in (0, 1):
        before, after = (np.concatenate([pair[part] for pair in pairs]) for pairs in (raw, smooth))
        assert after.std() < 0.85 * before.std()
        assert np.abs(after.mean(axis=0)).max() < 0.6


def test_two_faces_never_share_a_number_and_edges_are_kept() -> None:
    tracker = Tracker(5)
    tracker.update(at((600, 440, 640, 480)), SIZE)
    tracked = tracker.update(at((610, 450, 640, 480), (600, 445, 640, 480), (598, 440, 640, 480)), SIZE)
    assert len(set(tracked.ids)) == 3 and 1 in tracked.ids
    assert tracked.faces.boxes.max(axis=0).tolist()[2:] <= [640, 480] and tracked.faces.boxes.dtype == np.float32
    assert tracker.update(at(), SIZE).held.shape == (3, 4)
