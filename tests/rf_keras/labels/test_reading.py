"""Label files: what is read, what is dropped, and one clear line for each thing that is wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rf_keras.labels import LabelError, NoLabels, format_label, read_labels, retinaface
from rf_keras.labels.model import Record
from rf_keras.labels.reading import describe
from tests.rf_keras.labels.pictures import picture

MARKS = "11 12 0.0 13 14 0.0 15 16 0.0 17 18 0.0 19 20 0.0"
UNKNOWN = "-1.0 " * 15


def folder(tmp_path: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.jpg"), name: str = "label.txt") -> Path:
    for image in images:
        picture(tmp_path / "images" / image)
    (tmp_path / name).write_text(text)
    return tmp_path


def test_reads_boxes_landmarks_and_images_without_faces(tmp_path: Path) -> None:
    samples = read_labels(folder(tmp_path, f"# a.jpg\n10 20 30 40 {MARKS} 0.9\n1 2 3.5 4 {UNKNOWN} 0.0\n\n# b.jpg\n"))
    first, second = samples
    assert first.image == tmp_path / "images" / "a.jpg"
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [1, 2, 4.5, 6]])
    np.testing.assert_array_equal(first.landmarks[0], [[11, 12], [13, 14], [15, 16], [17, 18], [19, 20]])
    assert (first.landmarks[1] == -1).all()
    assert first.boxes.dtype == first.landmarks.dtype == np.float32
    assert second.boxes.shape == (0, 4) and second.landmarks.shape == (0, 5, 2)


def test_box_only_lines_have_unknown_landmarks(tmp_path: Path) -> None:
    (sample,) = read_labels(folder(tmp_path, "# a.jpg\n10 20 30 40\n"))
    assert (sample.landmarks == -1).all()


def test_one_unknown_point_makes_the_face_unknown(tmp_path: Path) -> None:
    marks = MARKS.replace("15 16", "-1 -1")
    (sample,) = read_labels(folder(tmp_path, f"# a.jpg\n10 20 30 40 {marks} 0.9\n"))
    assert (sample.landmarks == -1).all()


def test_boxes_under_a_pixel_are_dropped_and_boxes_beyond_the_image_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "# a.jpg\n5 5 0 9\n5 5 9 0.5\n-3 -2 9 9\n1 1 2 2\n100 100 5 5\n"
    (sample,) = read_labels(folder(tmp_path, text))
    np.testing.assert_array_equal(sample.boxes, [[-3, -2, 6, 7], [1, 1, 3, 3], [100, 100, 105, 105]])
    assert "2 of 5 boxes are under 1 pixel" in caplog.text and "label.txt:2 (5 5 0 9" in caplog.text


OFFICIAL = """0--Parade/a.jpg
3
10 20 30 40 0 0 0 0 0 0
1 2 3 4 0 0 0 1 0 0
9 9 0.5 5 2 0 0 0 0 0
b.jpg
0
0 0 0 0 0 0 0 0 0 0
c.jpg
1
5 6 7 8 1 0 0 0 2 0
"""


def test_official_file_ignores_invalid_faces(tmp_path: Path) -> None:
    images = ("0--Parade/a.jpg", "b.jpg", "c.jpg")
    samples = read_labels(folder(tmp_path, OFFICIAL, images, "wider_face_train_bbx_gt.txt"))
    assert [str(sample.image.relative_to(tmp_path / "images")) for sample in samples] == list(images)
    np.testing.assert_array_equal(samples[0].boxes, [[10, 20, 40, 60]])
    assert len(samples[1].boxes) == 0
    np.testing.assert_array_equal(samples[2].boxes, [[5, 6, 12, 14]])
    assert (samples[2].landmarks == -1).all()
    np.testing.assert_array_equal(samples[0].ignored, [[1, 2, 4, 6]])
    assert [len(sample.ignored) for sample in samples] == [1, 0, 0]


def test_official_file_may_lack_the_line_of_zeros(tmp_path: Path) -> None:
    text = OFFICIAL.replace("0 0 0 0 0 0 0 0 0 0\n", "", 1).replace("9 9 0.5 5 2 0 0 0 0 0", "9 9 5 5 2 0 0 0 0 0")
    samples = read_labels(folder(tmp_path, text, ("0--Parade/a.jpg", "b.jpg", "c.jpg"), "wider_face_val_bbx_gt.txt"))
    assert [len(sample.boxes) for sample in samples] == [2, 0, 1]


def test_official_layout_with_the_labels_in_a_folder_beside(tmp_path: Path) -> None:
    split = tmp_path / "wider_face_split"
    split.mkdir()
    (split / "wider_face_val_bbx_gt.txt").write_text("a.jpg\n1\n1 1 9 9 0 0 0 0 0 0\n")
    (split / "wider_face_train_bbx_gt.txt").write_text("other.jpg\n0\n")
    picture(tmp_path / "WIDER_val" / "images" / "a.jpg")
    (sample,) = read_labels(tmp_path / "WIDER_val")
    assert sample.boxes.tolist() == [[1, 1, 10, 10]]


@pytest.mark.parametrize(
    ("text", "line", "found", "expected"),
    [
        ("# a.jpg\n1 2 3\n", 2, "3 values", "4 or 20"),
        (f"# a.jpg\n1 2 3 4 {MARKS}\n", 2, "19 values", "4 or 20"),
        ("# a.jpg\n1 2 3 four\n", 2, "four", "numbers"),
        ("# a.jpg\n\n1 2 -3 4\n", 3, "1 2 -3 4", "w, h >= 0"),
        ("# a.jpg\n1 nan 3 4\n", 2, "1 nan 3 4", "finite"),
        ("# a.jpg\n1 2 inf 4\n", 2, "1 2 inf 4", "finite"),
        (f"# a.jpg\n1 2 3 4 {MARKS.replace('15', 'nan')} 0\n", 2, "landmark is not finite", "-1 for all"),
        ("1 2 3 4\n# a.jpg\n", 1, "before any image", "'# relative/path.jpg' first"),
        ("#\n1 2 3 4\n", 1, "'#' without a path", "'# relative/path.jpg'"),
    ],
)
def test_bad_lines_name_place_finding_and_expectation(
    tmp_path: Path, text: str, line: int, found: str, expected: str
) -> None:
    with pytest.raises(LabelError) as error:
        read_labels(folder(tmp_path, text))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'label.txt'}:{line}: ")
    assert found in message and expected in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("a.jpg\n", 2, "the end of the file"),
        ("a.jpg\nx\n", 2, "'x'"),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", 2, "1 faces follow"),
        ("a.jpg\n1\n1 2 3 4 0 0 0 0 0\n", 3, "9 values"),
        ("a.jpg\n1\n1 2 -3 4 0 0 0 0 0 0\n", 3, "1 2 -3 4"),
    ],
)
def test_bad_official_lines(tmp_path: Path, text: str, line: int, found: str) -> None:
    with pytest.raises(LabelError) as error:
        read_labels(folder(tmp_path, text, name="wider_face_val_bbx_gt.txt"))
    assert str(error.value).startswith(f"{tmp_path / 'wider_face_val_bbx_gt.txt'}:{line}: ")
    assert found in str(error.value) and "expected" in str(error.value)


def test_missing_images_are_counted_named_and_refused(tmp_path: Path) -> None:
    data = folder(tmp_path, "# a.jpg\n# gone.jpg\n# b.jpg\n# lost.jpg\n")
    with pytest.raises(LabelError, match=r"2 of 4 images are missing .*gone\.jpg, lost\.jpg\), expected at most 0%"):
        read_labels(data, max_missing=0)
    with pytest.raises(LabelError, match="at most 49%"):
        read_labels(data, max_missing=0.49)


def test_few_missing_images_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = folder(tmp_path, "# a.jpg\n# gone.jpg\n# b.jpg\n# lost.jpg\n")
    with caplog.at_level(logging.WARNING):
        samples = read_labels(data, max_missing=0.5)
    assert [sample.image.name for sample in samples] == ["a.jpg", "b.jpg"]
    assert "gone.jpg" in caplog.text and "2 of 4" in caplog.text


def test_all_images_missing_is_an_error_whatever_the_share(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="1 of 1 images are missing"):
        read_labels(folder(tmp_path, "# gone.jpg\n"), max_missing=1.0)


def test_folders_and_files_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no such folder"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(NoLabels, match="no labels"):
        read_labels(tmp_path)
    assert describe(tmp_path) == ""
    with pytest.raises(LabelError, match="names no image"):
        read_labels(folder(tmp_path, "\n"))
    (tmp_path / "label.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelError, match="cannot be read as text"):
        read_labels(tmp_path)
    with pytest.raises(LabelError, match="max_missing is 2"):
        read_labels(tmp_path, max_missing=2)


def test_two_official_files_need_a_choice(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg\n0\n", name="wider_face_val_bbx_gt.txt")
    folder(tmp_path, "a.jpg\n1\n1 1 2 2 0 0 0 0 0 0\n", name="wider_face_train_bbx_gt.txt")
    with pytest.raises(LabelError, match="2 label files"):
        read_labels(tmp_path)
    assert len(read_labels(tmp_path / "wider_face_train_bbx_gt.txt")[0].boxes) == 1


def parse_text_of(lines: list[str]) -> list[Record]:
    return retinaface.parse(Path("label.txt"), lines, ()).records


coordinates = st.floats(0, 2000, width=32)


@settings(deadline=None)
@given(arrays(np.float32, (3, 4), elements=coordinates), arrays(np.float32, (3, 5, 2), elements=coordinates))
def test_format_label_round_trip(corners: np.ndarray, marks: np.ndarray) -> None:
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + np.float32(0.1)], axis=1)
    marks[1] = -1
    (record,) = parse_text_of(["# a.jpg", *format_label(boxes, marks)])
    np.testing.assert_allclose([face.box for face in record.faces], boxes, atol=1e-3)
    assert [face.points is None for face in record.faces] == [False, True, False]
    for row in (0, 2):
        np.testing.assert_array_equal(np.array(record.faces[row].points, np.float32).reshape(5, 2), marks[row])


@pytest.mark.shared_data
def test_shared_data_counts(shared_data: Path) -> None:
    samples = read_labels(shared_data / "scenes")
    assert len(samples) == 700
    assert sum(len(sample.boxes) for sample in samples) == 1526
    assert any(len(sample.boxes) == 0 for sample in samples)
    assert all(sample.plain and sample.size == (416, 416) for sample in samples)
