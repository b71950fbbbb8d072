"""Every format: what is read of it, what it says where it is malformed, and the way through all of them and back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf_keras.labels import LabelError, Sample, describe, read_labels
from rf_keras.labels.__main__ import Options, run
from rf_keras.labels.voc import read_xml
from rf_keras.labels.writing import FORMATS, write_set
from rf_keras.labels.yolo import read_yaml
from tests.rf_keras.labels.pictures import picture

BOX, CROWD = [10.0, 20.0, 50.0, 70.0], [200.0, 100.0, 300.0, 180.0]
POINTS: list[list[float]] = [[22.25, 38.5], [38, 39], [30, 48], [24, 58], [37.125, 59]]


def faces(*boxes: list[float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def points(*rows: Any) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 5, 2)


NO_POINTS = np.full((5, 2), -1, np.float32)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """A face with points and a crowd, two faces without points, and a picture without a face; names of three kinds."""
    images = tmp_path / "source"
    return [
        Sample(picture(images / "sub dir" / "a.jpg"), faces(BOX), points(POINTS), faces(CROWD), (320, 240)),
        Sample(
            picture(images / "ünïcode.png", 300, 500),
            faces([1, 2, 33, 44], [100, 100, 250.5, 333.25]),
            points(NO_POINTS, NO_POINTS),
            size=(300, 500),
        ),
        Sample(picture(images / "c & d.jpg"), faces(), points(), size=(320, 240)),
    ]


def same(found: list[Sample], expected: list[Sample], with_points: bool = True, with_ignored: bool = True) -> None:
    assert [sample.image.name for sample in found] == [sample.image.name for sample in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        assert one.image.read_bytes() == other.image.read_bytes() and one.size == other.size
        if with_points:
            np.testing.assert_array_equal(one.landmarks, other.landmarks)
        np.testing.assert_allclose(one.ignored, other.ignored if with_ignored else faces(), atol=0.01)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_again(samples: list[Sample], tmp_path: Path, form: str) -> None:
    lost = write_set(samples, tmp_path / "out", form)
    names = {"coco": "COCO JSON", "yolo": "YOLO txt", "voc": "Pascal VOC", "wider": "WIDER FACE", "label": "label.txt"}
    assert describe(tmp_path / "out") == names[form]
    found = sorted(read_labels(tmp_path / "out"), key=lambda sample: sample.image.name)
    order = sorted(samples, key=lambda sample: sample.image.name)
    same(found, order, with_points=form != "wider", with_ignored=form != "label")
    assert [line.partition(":")[0] for line in lost] == {
        "label": ["1 regions to ignore are left out"],
        "wider": ["points of 1 faces are left out"],
    }.get(form, [])
    with pytest.raises(LabelError, match="out: is there already"):
        write_set(samples, tmp_path / "out", form)


sides = st.floats(4, 90, width=32)
starts = st.floats(0, 140, width=32)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(starts, starts, sides, sides, st.booleans()), min_size=1, max_size=4), st.data())
def test_the_way_through_all_formats_keeps_boxes_and_points(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, float, float, bool]], data: st.DataObject
) -> None:
    top = tmp_path_factory.mktemp("way")
    boxes = faces(*([x, y, x + w, y + h] for x, y, w, h, _ in rows))
    marks = np.full((len(rows), 5, 2), -1, np.float32)
    for row, (x, y, w, h, known) in enumerate(rows):
        if known:
            shares = data.draw(st.lists(st.floats(0, 1, width=32), min_size=10, max_size=10))
            marks[row] = np.array(shares, np.float32).reshape(5, 2) * (w, h) + (x, y)
    start = [Sample(picture(top / "images" / "a.jpg", 317, 241), boxes, marks, size=(317, 241))]
    write_set(start, top / "0", "coco", "copy")
    for number, form in enumerate(("yolo", "voc", "label", "coco"), 1):
        write_set(read_labels(top / str(number - 1)), top / str(number), form)
    (end,) = read_labels(top / "4")
    known = np.all(boxes[:, 2:] - boxes[:, :2] >= 1, axis=1)
    np.testing.assert_allclose(end.boxes, boxes[known], atol=0.5)
    np.testing.assert_array_equal(end.landmarks, marks[known])


def coco(folder: Path, **changes: Any) -> Path:
    picture(folder / "images" / "a.jpg")
    document: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 320, "height": 240}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 40, 50]}],
        "categories": [{"id": 3, "name": "face"}, {"id": 4, "name": "car"}],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    path = folder / "annotations" / "instances_all.json"
    path.write_text(json.dumps(document | changes), encoding="utf-8-sig")
    return path


def test_coco_flags_classes_and_names_of_points(tmp_path: Path) -> None:
    names = ["nose", "mouth_right", "mouth_left", "right eye", "LEFT_EYE", "chin"]
    marks = [30, 48, 2, 37, 59, 2, 24, 58, 2, 38, 39, 2, 22, 38, 1, 30, 69, 2]
    one = {"image_id": 7, "category_id": 3, "bbox": [10, 20, 40, 50], "keypoints": marks}
    hidden = one | {"keypoints": [*marks[:-4], 0, *marks[-3:]]}  # an eye that is not labelled
    crowd, car = one | {"iscrowd": 1, "bbox": [200, 100, 100, 80]}, one | {"category_id": 4}
    categories = [{"id": 3, "name": "face", "keypoints": names}, {"id": 4, "name": "car"}]
    path = coco(tmp_path, annotations=[one, hidden, crowd, car, one | {"ignore": True}], categories=categories)
    for source in (path, tmp_path):
        (sample,) = read_labels(source)
        assert sample.boxes.tolist() == [[10, 20, 50, 70]] * 2
        assert sample.landmarks[0].tolist() == [[22, 38], [38, 39], [30, 48], [24, 58], [37, 59]]
        assert (sample.landmarks[1] == -1).all()
        assert sample.ignored.tolist() == [[200, 100, 300, 180], [10, 20, 50, 70]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 1, 2, 2]}]}, "image_id 8, which no image has"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, -2, 2]}]}, "annotation 1: box 1 1 -2 2"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 2]}]}, "bbox of 3 values"),
        ({"annotations": [{"image_id": 7, "category_id": 3}]}, "'bbox' is missing"),
        ({"annotations": 5}, "expected COCO's images"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}]}, "classes a, b, none of them named face"),
        ({"images": [], "annotations": []}, "names no image"),
    ],
)
def test_coco_that_is_malformed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message) as error:
        read_labels(coco(tmp_path, **changes))
    assert "\n" not in str(error.value)


def yolo(folder: Path, text: str, name: str = "a") -> Path:
    picture(folder / "images" / "train" / f"{name}.jpg")
    label = folder / "labels" / "train" / f"{name}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(text)
    return folder


def test_yolo_with_and_without_a_description(tmp_path: Path) -> None:
    spots = " ".join(f"{x / 320} {y / 240}" for x, y in POINTS)
    data = yolo(tmp_path, f"1 {30 / 320} {45 / 240} {40 / 320} {50 / 240} {spots}\r\n0 0.5 0.5 0.1 0.1\n")
    picture(data / "images" / "train" / "none.jpg")
    picture(data / "images" / "val" / "b.jpg")
    with pytest.raises(LabelError, match="classes 0, 1 without names"):
        read_labels(data)
    (data / "labels" / "classes.txt").write_text("plate\nface\n")
    first, empty, second = read_labels(data)  # all parts
    np.testing.assert_allclose(first.boxes, [BOX], atol=1e-4)
    np.testing.assert_allclose(first.landmarks, [POINTS], atol=1e-4)
    assert (len(empty.boxes), second.image.name) == (0, "b.jpg")
    (data / "labels" / "val").mkdir()
    (data / "labels" / "val" / "b.txt").write_text("1 0.5 0.5 0.1 0.1\n0 0.2 0.2 0.1 0.1\n")
    (sample,) = read_labels(data / "images" / "val")
    np.testing.assert_allclose(sample.boxes, [[144, 108, 176, 132]], atol=1e-4)
    parts = "train: images/train\nval: [images/val]\nnames: [plate, face]\n"
    (data / "set.yaml").write_text(f"# a set\npath: {tmp_path}\n{parts}")
    assert [sample.image.name for sample in read_labels(data)] == ["a.jpg", "none.jpg"]
    assert [sample.image.name for sample in read_labels(data / "set.yaml", split="val")] == ["b.jpg"]


def test_yaml_in_all_its_spellings() -> None:
    text = (
        "nc: 2 # two\nnames:\n  0: face\n  1: 'a b'\ntrain:\n  - x/images\n- \"y\"\none: {0: a, 1: b}\ntwo: [a, 'b']\n"
    )
    expected = {"nc": "2", "names": {"0": "face", "1": "a b"}, "train": ["x/images", "y"]}
    assert read_yaml(text) == expected | {"one": {"0": "a", "1": "b"}, "two": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1\n", r"a\.txt:1: 4 values, expected 5 or 15 or 20"),
        ("\n0 0.5 0.5 0.1 -0.1\n", r"a\.txt:2: .*width and height >= 0"),
        ("0 160 120 40 50\n", "1 of 1 boxes are no shares"),
        ("0.5 0.5 0.5 0.1 0.1\n", "expected a class"),
        ("0 nan 0.5 0.1 0.1\n", "expected a class"),
    ],
)
def test_yolo_that_is_malformed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_labels(yolo(tmp_path, text))


def voc(folder: Path, text: str, name: str = "a") -> Path:
    picture(folder / "JPEGImages" / "a.png")
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    return folder


def thing(name: str, corners: list[int], more: str = "") -> str:
    tags = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{tags}</bndbox></object>"


def test_voc_takes_faces_and_ignores_difficult_ones(tmp_path: Path) -> None:
    items = thing("face", [10, 20, 50, 70]) + thing("person", [0, 0, 100, 200])
    items += thing("face", [200, 100, 300, 180], "<difficult>1</difficult>")
    # The name in the file is often of another machine or format.
    head = "<filename>C:\\photos\\a.jpg</filename><size><width>320</width><height>240</height></size>"
    (sample,) = read_labels(voc(tmp_path, f"<annotation>{head}{items}</annotation>"))
    assert sample.boxes.tolist() == [[10, 20, 50, 70]] and sample.ignored.tolist() == [[200, 100, 300, 180]]
    chosen = run(Options(source=(tmp_path,), classes="person"))
    assert (chosen["faces"], chosen["ignored"], chosen["format"]) == (1, 0, "Pascal VOC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "a document type or entities"),
        ("<annotation>" + "<a>" * 40 + "</a>" * 40 + "</annotation>", "more than 32 levels"),
        ("<annotation><object>", r"a\.xml: no element found"),
        ("<html></html>", "element 'html', expected 'annotation'"),
        ("<annotation><object><name>face</name></object></annotation>", "object 1: no bndbox"),
        (f"<annotation>{thing('face', [9, 9, 3, 10])}</annotation>", "x2 >= x1"),
    ],
)
def test_voc_that_is_malformed_or_dangerous(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_labels(voc(tmp_path, text))


def test_an_xml_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    path.write_text("<annotation>" + " " * (1 << 22) + "</annotation>")
    with pytest.raises(LabelError, match=r"4194329 bytes, expected a Pascal VOC"):
        read_xml(path)


def test_answers_of_a_detector_are_pseudo_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "pics" / "a.jpg")
    face = {"box": BOX, "score": 0.9, "landmarks": POINTS}
    (tmp_path / "f.json").write_text(json.dumps({"pics/a.jpg": [face, face | {"box": CROWD, "score": 0.2}]}))
    (tmp_path / "f.jsonl").write_text(json.dumps({"file": "pics/a.jpg", "faces": [face]}) + "\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # names are relative to where the detector ran, or to the file
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    named = {"file": "pics/a.jpg", "faces": [face | {"landmarks": dict(zip(names, POINTS, strict=True))}]}
    (tmp_path / "n.json").write_text(json.dumps({"landmarks": names, "left": "of the picture", "images": [named]}))
    one = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 50], "score": 0.9}
    one["keypoints"] = [value for x, y in POINTS for value in (x, y, 2)]
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "pics/a.jpg"}],
                "annotations": [one, one | {"score": 0.2}],
                "categories": [{"id": 1, "name": "face", "keypoints": names}],
            }
        )
    )
    for name, least in (("f.json", 0.5), ("f.jsonl", 0.0), ("n.json", 0.0), ("c.json", 0.5)):
        (sample,) = read_labels(tmp_path / name, least_score=least)
        assert sample.boxes.tolist() == [BOX] and sample.landmarks.tolist() == [POINTS]
    assert len(read_labels(tmp_path / "f.json")[0].boxes) == 1 + 1
    (tmp_path / "f.jsonl").write_text('{"file": "a"}\n')
    with pytest.raises(LabelError, match=r"f\.jsonl:1: expected an object with file and faces"):
        read_labels(tmp_path / "f.jsonl")


def test_labels_of_scrfd_and_yunet(tmp_path: Path) -> None:
    picture(tmp_path / "a b.jpg")
    picture(tmp_path / "c.jpg")
    marks = " ".join(f"{x} {y} 0" for x, y in POINTS)
    text = f"# a b.jpg 320 240\n10 20 50 70 {marks}\n200 100 300 180 1\n1 1 9 9 0\n# c.jpg 320 240\n"
    (tmp_path / "labelv2.txt").write_text(text)
    first, second = read_labels(tmp_path)
    assert first.boxes.tolist() == [BOX, [1, 1, 9, 9]] and first.ignored.tolist() == [CROWD]
    assert first.landmarks[0].tolist() == POINTS and (first.landmarks[1] == -1).all()
    assert len(second.boxes) == 0 and describe(tmp_path) == "labelv2.txt"


JUNK: list[Any] = [None, True, -3, 400, 0.5, float("nan"), "", "a.jpg", "face", "é", [], {}, [1, 2, 3, 4], [[1, 2]] * 5]
FIELDS = ("id", "image_id", "file_name", "bbox", "category_id", "name", "keypoints", "score", "box", "file", "faces")
LINES = ["# a.jpg", "#", "# a.jpg 9 9", "a.jpg", "1", "0", "", "1 2 3 4", "1 2 3 4 1", "0 .5 .5 .1 .1", "nan " * 20]
LINES += ["names:", "  0: face", "  x: y", "- x", "train: images", "names: face", "train: [", "{", "\0", "1e999 " * 10]
LINES += ["<annotation>", "<object>", "</object>", "<name>face</name>", "</annotation>", "<bndbox/>"]
NAMES = ("label.txt", "labelv2.txt", "wider_face_a_bbx_gt.txt", "data.yaml", "c.json", "d.jsonl", "labels/a.txt")


def nonsense(rng: random.Random) -> bytes:
    """Bytes, lines or JSON that are a little like labels."""

    def thing() -> dict[str, Any]:
        return {field: rng.choice(JUNK) for field in rng.sample(FIELDS, rng.randrange(6))}

    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(40))
    if kind == 1:
        return "\n".join(rng.choices(LINES, k=rng.randrange(6))).encode()
    keys = rng.sample(["images", "annotations", "categories", "a.jpg", "file", "faces"], rng.randrange(5))
    values = [rng.choice([rng.choice(JUNK), [thing() for _ in range(rng.randrange(3))]]) for _ in keys]
    return json.dumps(dict(zip(keys, values, strict=True))).encode()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_bytes_are_the_answer_is_samples_or_one_line(tmp_path: Path, seed: int) -> None:
    rng, refused = random.Random(seed), 0
    for number in range(200):
        folder = tmp_path / str(number)
        picture(folder / "images" / "a.jpg", 32, 24)
        path = folder / rng.choice([*NAMES, "Annotations/a.xml"])
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(nonsense(rng))
        for source in (folder, path) if path.name in NAMES else (folder,):
            try:
                found = read_labels(source)
            except LabelError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
                refused += 1
            else:
                assert all(sample.image.is_file() and np.isfinite(sample.boxes).all() for sample in found)
    assert 200 < refused < 390


def test_the_command(samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(samples, tmp_path / "in", "coco")
    counts = run(Options(source=(tmp_path / "in",), output=tmp_path / "out", format="label", pictures="copy"))
    assert counts == {"format": "COCO JSON", "images": 3, "faces": 3, "with_points": 1, "ignored": 1}
    shown = capsys.readouterr().out
    assert "COCO JSON, 3 images, 3 faces, 1 with points, 1 to ignore" in shown and "left out" in shown
    assert not (tmp_path / "out" / "images" / "c & d.jpg").is_symlink()
    for wrong, message in (
        ({"source": ()}, "0 sources"),
        ({"output": tmp_path / "x"}, "--output and --format go together"),
        ({"source": (tmp_path / "nowhere",)}, "no such folder"),
    ):
        with pytest.raises(LabelError, match=message):
            run(Options(**({"source": (tmp_path / "in",)} | wrong)))
