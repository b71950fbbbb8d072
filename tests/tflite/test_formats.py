"""The files of faces: each format as its readers expect it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tests.tflite.stub import at
from tflite.detect_options import DetectOptions, parse_shard, parse_tile
from tflite.formats import COLUMNS, FORMATS, Record, yolo_text
from tflite.outputs import UsageError
from tflite.postprocess import Detections
from tflite.results import Results
from tflite.sources import FILE, VideoSource
from tflite.spec import LANDMARK_NAMES
from tflite.tracking import Tracked
from tflite.video import Frame

IMAGE = photo(100, 200)
FACES = at((20, 10, 60, 50), (100, 40, 140, 90))
VIDEO = (VideoSource("v.mp4", FILE),)


def write(path: Path, format: str | None = None, frames: bool = False, **options: Any) -> str:
    """What the file holds after two pictures with two faces and none, or two such frames."""
    chosen = DetectOptions(faces=str(path), format=format, **options)
    names = {} if frames else {"p/a.jpg": Path("a.jpg"), "p/b.png": Path("b.png")}
    with Results(chosen, names, VIDEO if frames else ()) as sink:
        for i, faces in enumerate((FACES, FACES[:0])):
            if frames:
                tracked = Tracked(faces, [7, 3][: len(faces)], np.empty((0, 4), np.float32))
                sink.add("v.mp4", Path(f"frame_{i:06d}"), IMAGE, faces, Frame(i, i / 8, IMAGE), tracked)
            else:
                sink.add(list(names)[i], list(names.values())[i], IMAGE, faces)
    return path.read_text() if path.is_file() else ""


def test_json_names_the_points_and_says_which_left(tmp_path: Path) -> None:
    document = json.loads(write(tmp_path / "f.json"))
    assert document["landmarks"] == list(LANDMARK_NAMES)
    assert document["left"] == "left and right are those of the picture, not of the person"
    first, second = document["images"]
    assert {key: first[key] for key in ("file", "width", "height")} == {"file": "p/a.jpg", "width": 200, "height": 100}
    assert second["faces"] == []
    face = first["faces"][1]
    assert face["box"] == [100, 40, 140, 90] and face["score"] == pytest.approx(0.9)
    assert face["landmarks"]["left_eye"] == [112, 60] and list(face["landmarks"]) == list(LANDMARK_NAMES)
    turned = json.loads(write(tmp_path / "t.json", any_rotation=True))
    assert "once" not in document["left"] and "so that the face is upright" in turned["left"]


def test_json_of_a_video_has_frames_times_and_tracks(tmp_path: Path) -> None:
    first, second = json.loads(write(tmp_path / "f.json", frames=True))["images"]
    assert (first["frame"], first["time"], second["frame"], second["time"]) == (0, 0.0, 1, 0.125)
    assert [face["track"] for face in first["faces"]] == [7, 3]


def test_lines_are_appended_and_the_old_json_stays_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    write(tmp_path / "f.jsonl", json=str(old))
    lines = [json.loads(line) for line in write(tmp_path / "f.jsonl").splitlines()]
    assert [line["file"] for line in lines] == ["p/a.jpg", "p/b.png"] * 2
    assert lines[0]["faces"][0]["landmarks"]["nose"] == [40, 32]
    assert json.loads(old.read_text()) == {"p/a.jpg": FACES.to_list(), "p/b.png": []}
    assert set(FACES.to_list()[0]) == {"box", "score", "landmarks"}


def test_csv_has_a_row_per_face_and_one_header(tmp_path: Path) -> None:
    write(tmp_path / "f.csv", frames=True)
    rows = list(csv.DictReader(io.StringIO(write(tmp_path / "f.csv", frames=True))))
    assert len(rows) == 4 and tuple(rows[0]) == COLUMNS
    assert rows[1]["face"] == "1" and rows[1]["track"] == "3" and rows[1]["time"] == "0.0"
    assert [float(rows[1][name]) for name in ("x1", "y1", "x2", "y2")] == [100, 40, 140, 90]
    assert float(rows[1]["right_mouth_x"]) == pytest.approx(126)
    name = 'odd, "name".jpg'
    chosen = DetectOptions(faces=str(tmp_path / "odd.csv"))
    with Results(chosen, {name: Path(name)}) as sink:
        sink.add(name, Path(name), IMAGE, FACES)
    assert [row["file"] for row in csv.DictReader((tmp_path / "odd.csv").open())] == [name] * 2


def test_coco(tmp_path: Path) -> None:
    document = json.loads(write(tmp_path / "f.json", "coco"))
    assert [image["file_name"] for image in document["images"]] == ["p/a.jpg", "p/b.png"]
    assert document["images"][0] == {"id": 1, "file_name": "p/a.jpg", "width": 200, "height": 100}
    assert document["categories"][0]["keypoints"] == list(LANDMARK_NAMES) and document["categories"][0]["id"] == 1
    assert [(one["id"], one["image_id"]) for one in document["annotations"]] == [(1, 1), (2, 1)]
    one = document["annotations"][1]
    assert one["bbox"] == [100, 40, 40, 50] and one["area"] == 2000 and one["iscrowd"] == 0
    assert one["keypoints"][:3] == [112, 60, 2] and len(one["keypoints"]) == 15 and one["num_keypoints"] == 5
    tracked = json.loads(write(tmp_path / "v.json", "coco", frames=True))
    assert [one["track_id"] for one in tracked["annotations"]] == [7, 3]
    assert tracked["images"][1]["file_name"] == "v.mp4#1" and tracked["images"][1]["time"] == 0.125


def test_coco_annotations_of_one_picture() -> None:
    first, second = FACES.to_coco(image_id=5, first_id=10)
    assert (first["id"], second["id"], second["image_id"], second["category_id"]) == (10, 11, 5, 1)
    assert FACES[:0].to_coco() == []


def test_yolo_has_a_file_per_picture_in_shares_of_it(tmp_path: Path) -> None:
    write(tmp_path / "labels", "yolo")
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a.txt", "b.txt"]
    assert (tmp_path / "labels" / "b.txt").read_text() == ""
    first, second = (line.split() for line in (tmp_path / "labels" / "a.txt").read_text().splitlines())
    assert first[0] == "0" and [float(value) for value in second[1:5]] == pytest.approx([0.6, 0.65, 0.2, 0.5])
    assert len(second) == 5 + 15 and [float(value) for value in second[5:8]] == pytest.approx([0.56, 0.6, 2])
    outside = Detections(FACES.boxes[:1], FACES.scores[:1], FACES.landmarks[:1] - np.float32([36, 0]))
    values = yolo_text(Record("a", Path("a"), 200, 100, outside)).split()
    assert values[5:8] == ["0", "0", "0"] and float(values[8]) > 0
    write(tmp_path / "frames", "yolo", frames=True)
    assert (tmp_path / "frames" / "frame_000000.txt").exists()


def test_pictures_of_one_stem_get_a_label_file_each(tmp_path: Path) -> None:
    names = {"a.jpg": Path("a.jpg"), "a.png": Path("a.png")}
    with Results(DetectOptions(faces=str(tmp_path), format="yolo"), names) as sink:
        for source, name in names.items():
            sink.add(source, name, IMAGE, FACES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a_2.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces": "f.txt"}, "--faces f.txt: expected --format json|jsonl|coco|yolo|csv, or a name in .json .jsonl"),
        ({"faces": "-", "format": "yolo"}, "expected a folder"),
        ({"faces": "-", "jsonl": "-"}, "--jsonl and --faces are both stdout"),
        ({"format": "csv"}, "--format is that of --faces, which is missing"),
        ({"faces": "f.json", "json": "f.json"}, "would overwrite --json"),
        ({"faces": "a.jpg", "format": "json"}, "expected a file for text"),
        ({"output": "x.xyz"}, "no picture is written as .xyz, expected .jpg .jpeg .png"),
        ({"output": "x.gif"}, "no picture is written as .gif"),
    ],
)
def test_what_does_not_fit(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        Results(DetectOptions(**options), {"a.jpg": Path("a.jpg")})
    assert message in str(caught.value)


def test_an_output_with_a_dot_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "2026.11").mkdir()
    for output in (f"{tmp_path}/2026.11", f"{tmp_path}/new.d/"):
        with Results(DetectOptions(output=output), {"a.jpg": Path("a.jpg")}) as sink:
            sink.add("a.jpg", Path("a.jpg"), IMAGE, FACES)
        assert (Path(output) / "a.jpg").exists()


def test_values_of_flags() -> None:
    assert parse_tile("auto") == "auto" and parse_tile("640") == 640
    assert parse_shard("2/10") == (2, 10)
    for text in ("31", "x", "-5", ""):
        with pytest.raises(ValueError, match="expected auto or a number"):
            parse_tile(text)
    for text in ("0/4", "5/4", "1", "1/x", "/", "1/"):
        with pytest.raises(ValueError, match="expected I/N"):
            parse_shard(text)
    assert set(FORMATS) == {"json", "jsonl", "coco", "yolo", "csv"}
