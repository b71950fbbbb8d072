"""Identities of faces over the frames of a video: overlap with where a face should be by now, at constant velocity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tflite.overlap import iou_matrix
from tflite.postprocess import Detections

LEAST_IOU = 0.2  # of a face with the prediction of its track
NEAR = 0.6  # sides of the box: a face whose centre lies as near to the prediction may be its, too, without overlap
POSITION_GAIN = 0.6  # share of the way from prediction to detection, per frame (an alpha-beta filter)
VELOCITY_GAIN = 0.3
POINTS_GAIN = 0.6
LONGEST_GAP = 15  # frames after which a track that is not seen ends
GROWTH = 0.05  # of the box, per frame in which it is not seen: its place becomes uncertain


@dataclass
class Tracked:
    """Faces of one frame with their identities.

    Attributes:
        faces: the detected ones in their order, boxes and points smoothed; meshes are as detected.
        ids: number of each face's track, from 1.
        held: float32 [M, 4], where faces should be that were seen shortly before and are missing now.
    """

    faces: Detections
    ids: list[int]
    held: np.ndarray


class _Track:
    """Centre x, y and log width, height with their change per frame; points relative to the box."""

    def __init__(self, number: int, box: np.ndarray, points: np.ndarray) -> None:
        self.number, self.missed = number, 0
        self.state, self.velocity = _state(box), np.zeros(4)
        self.points = _relative(points, self.state)

    def predict(self) -> None:
        self.state = self.state + self.velocity
        self.missed += 1

    def update(self, box: np.ndarray, points: np.ndarray) -> None:
        difference = _state(box) - self.state
        self.state = self.state + POSITION_GAIN * difference
        self.velocity = self.velocity + VELOCITY_GAIN * difference / self.missed
        self.points = self.points + POINTS_GAIN * (_relative(points, _state(box)) - self.points)
        self.missed = 0

    def box(self, growth: float = 0.0) -> np.ndarray:
        half = np.exp(self.state[2:]) * (0.5 + growth / 2)
        return np.concatenate((self.state[:2] - half, self.state[:2] + half))


def _state(box: np.ndarray) -> np.ndarray:
    """Centre and log size of x1 y1 x2 y2."""
    box = np.asarray(box, np.float64)
    return np.concatenate(((box[:2] + box[2:]) / 2, np.log(np.maximum(box[2:] - box[:2], 1.0))))


def _relative(points: np.ndarray, state: np.ndarray) -> np.ndarray:
    return (points - state[:2]) / np.exp(state[2:])


class Tracker:
    """Gives the faces of successive frames their numbers.

    Args:
        hold: frames for which the place of a face that is missing is told (`Tracked.held`); 0: never. A track lives for
            `LONGEST_GAP` frames without its face, or for `hold` where that is more.
    """

    def __init__(self, hold: int = 0) -> None:
        self._hold, self._longest = hold, max(hold, LONGEST_GAP)
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, found: Detections, image_size: tuple[int, int]) -> Tracked:
        """Take the next frame's faces.

        Args:
            found: its faces.
            image_size: (height, width) of the frame in pixels; boxes stay inside.
        """
        for track in self._tracks:
            track.predict()
        owners = self._match(found.boxes)
        for i in range(len(found)):
            if i in owners:
                owners[i].update(found.boxes[i], found.landmarks[i])
            else:
                owners[i] = _Track(self._next, found.boxes[i], found.landmarks[i])
                self._tracks.append(owners[i])
                self._next += 1
        self._tracks = [track for track in self._tracks if track.missed <= self._longest]
        seen = [owners[i] for i in range(len(found))]
        held = [track.box(GROWTH * track.missed) for track in self._tracks if 0 < track.missed <= self._hold]
        boxes = _clipped([track.box() for track in seen], image_size)
        points = [track.points * np.exp(track.state[2:]) + track.state[:2] for track in seen]
        faces = replace(found, boxes=boxes, landmarks=np.array(points, np.float32).reshape(-1, 5, 2))
        return Tracked(faces, [track.number for track in seen], _clipped(held, image_size))

    def _match(self, boxes: np.ndarray) -> dict[int, _Track]:
        """Number of the face → its track: pairs by overlap, the best first; then by distance."""
        owners: dict[int, _Track] = {}
        if not len(boxes) or not self._tracks:
            return owners
        predicted = np.array([track.box() for track in self._tracks])
        overlap = iou_matrix(predicted, boxes.astype(np.float64))
        centres = (predicted[:, None, :2] + predicted[:, None, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
        sides = np.sqrt(np.prod(np.maximum(predicted[:, 2:] - predicted[:, :2], 1.0), axis=1))
        distance = np.linalg.norm(centres, axis=2) / sides[:, None]
        # A pair that overlaps enough comes before any that is only near.
        value = np.where(overlap >= LEAST_IOU, 1 + overlap, np.where(distance <= NEAR, 1 - distance, -1.0))
        free = set(range(len(self._tracks)))
        for pair in np.argsort(-value, axis=None, kind="stable"):
            track, face = divmod(int(pair), len(boxes))
            if value[track, face] < 0:
                break
            if track in free and face not in owners:
                owners[face] = self._tracks[track]
                free.remove(track)
        return owners


def _clipped(boxes: list[np.ndarray], image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return np.clip(array, 0, np.array((width, height) * 2, np.float32))
