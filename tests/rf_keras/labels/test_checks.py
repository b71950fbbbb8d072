"""Labels that cannot be right, pictures that are not there or cannot be read: what is said, and what is refused."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rf_keras.labels import LabelError, Sample, check_apart, read_labels
from rf_keras.labels.pictures import look_at
from tests.rf_keras.labels.pictures import encoded, picture
from tests.tflite.test_images import UNDO, stored
from tflite.images import ImageError, read_image

MARKS = "230 140 0 290 140 0 260 170 0 235 200 0 285 200 0"


def labelled(folder: Path, text: str, name: str = "label.txt", newline: str = "\n") -> Path:
    """A folder with a.jpg and ev/a.jpg of 512×600, the size that the shared cases are of, and b.jpg of 100×80."""
    for image in ("a.jpg", "ev/a.jpg"):
        picture(folder / "images" / image, 512, 600)
    picture(folder / "images" / "b.jpg", 100, 80)
    (folder / name).write_bytes(text.replace("\n", newline).encode())
    return folder


BOX = [[190, 60, 320, 240]]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\ufeff# a.jpg\n190 60 130 180\n", "label.txt"),
        ("# ev\\a.jpg\n190 60 130 180\n", "label.txt"),
        (f"# a.jpg 512 600\n190 60 320 240 {MARKS}\n", "labelv2.txt"),
        ("\ufeffa.jpg\n1\n190 60 130 180 0 0 0 0 0 0\n", "wider_face_val_bbx_gt.txt"),
        ("ev\\a.jpg\n1\n190 60 130 180 0 0 0 0 0 0\n", "wider_face_val_bbx_gt.txt"),
    ],
)
def test_marks_of_windows_are_read(tmp_path: Path, text: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    for newline in ("\n", "\r\n", "\r"):
        (sample,) = read_labels(labelled(tmp_path, text, name, newline))
        assert sample.boxes.tolist() == BOX and sample.image.is_file()
    assert not caplog.records


@pytest.mark.shared_data
def test_shared_label_files(shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = shared_data.parent / "cases"
    for name in ("bom", "backslash", "corners", "header_per_face"):
        text = (cases / f"label_{name}.txt").read_bytes().decode()
        (sample,) = read_labels(labelled(tmp_path / name, text))
        if name in ("bom", "backslash"):
            assert sample.boxes.tolist() == BOX
    text = (cases / "labelv2.txt").read_text()
    (sample,) = read_labels(labelled(tmp_path / "v2", text, "labelv2.txt"))
    assert sample.boxes.tolist() == BOX and sample.landmarks[0, 2].tolist() == [260, 170]
    assert "1 boxes look like corners" in caplog.text and "named again" in caplog.text and len(caplog.records) == 2


def test_corners_read_as_sizes_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_labels(labelled(tmp_path, "# a.jpg\n190 60 320 240\n"))
    assert "1 boxes look like corners x1 y1 x2 y2" in caplog.text and "label.txt:2 (190 60 320 240)" in caplog.text
    lines = "\n".join(f"{x} {y} {x + 60} {y + 80}" for x in (100, 250, 400) for y in (150, 400))
    with pytest.raises(LabelError, match=r"6 boxes look like corners .* 5 leave their picture"):
        read_labels(labelled(tmp_path, f"# a.jpg\n{lines}\n"))


def test_large_faces_near_the_corner_are_no_corners(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_labels(labelled(tmp_path, "# a.jpg\n100 80 250 320\n# ev/a.jpg\n30 60 300 380\n"))
    assert not caplog.records


def test_a_header_per_face_is_one_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "# a.jpg\n190 60 130 180\n# a.jpg\n10 10 50 50\n# a.jpg\n190 60 130 180\n"
    (sample,) = read_labels(labelled(tmp_path, text))
    assert sample.boxes.tolist() == [*BOX, [10, 10, 60, 60]]
    assert "1 pictures are named again" in caplog.text
    assert "label.txt:1 and " in caplog.text and "label.txt:3;" in caplog.text


GOOD = "# a.jpg\n10 10 50 50\n60 60 70 80\n190 60 130 180\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("500 590 90 90", "boxes lie outside their picture"),
        ("0.2 0.1 0.3 0.4", "boxes lie between 0 and 1"),
        ("30 30 0.5 9", "boxes are under 1 pixel"),
        (f"10 300 60 80 {MARKS} 1", "faces have points outside their box"),
    ],
)
def test_few_wrong_boxes_are_told_and_most_are_refused(
    tmp_path: Path, line: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = labelled(tmp_path, f"{GOOD}190 60 130 180 {MARKS} 1\n{line}\n")
    read_labels(data)
    assert f"label.txt: 1 of {2 if 'points' in message else 5} {message}" in caplog.text
    assert f"first at {data}/label.txt:6 ({' '.join(line.split()[:4])} in 512×600)" in caplog.text
    with pytest.raises(LabelError, match=rf"2 of \d {message}") as error:
        read_labels(labelled(tmp_path, f"# a.jpg\n{line}\n190 60 130 180\n{line}\n"))
    assert "\n" not in str(error.value) and "label.txt:2 " in str(error.value)


def test_another_size_of_the_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "# a.jpg 512 600\n190 60 320 240\n# ev/a.jpg 512 600\n1 1 9 9\n# b.jpg 200 160\n5 5 20 20\n"
    read_labels(labelled(tmp_path, text, "labelv2.txt"))
    assert "1 of 3 pictures have another size than their labels say" in caplog.text
    assert "labelv2.txt:5: 200×160, found 100×80" in caplog.text
    with pytest.raises(LabelError, match="1 of 1 pictures have another size"):
        read_labels(labelled(tmp_path, text[text.index("# b.jpg") :], "labelv2.txt"))


def test_labels_of_stored_pixels_are_told_from_those_of_the_turned_picture(tmp_path: Path) -> None:
    data = labelled(tmp_path, "# a.jpg 512 600\n190 60 320 240\n", "labelv2.txt")
    image = np.asarray(Image.open(data / "images" / "a.jpg"))
    (data / "images" / "a.jpg").write_bytes(stored(np.rot90(image, -1), 6, "JPEG"))
    with pytest.raises(LabelError, match=r"512×600, found 600×512 .its EXIF turns it"):
        read_labels(data)


def test_eyes_in_the_wrong_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    swapped = "290 140 0 230 140 0 260 170 0 285 200 0 235 200 0"
    read_labels(labelled(tmp_path, "# a.jpg\n" + f"190 60 130 180 {swapped} 1\n" * 10 + f"191 60 130 180 {MARKS} 1\n"))
    assert "in 10 of 11 faces the first eye is right of the second" in caplog.text
    caplog.clear()
    read_labels(labelled(tmp_path, f"# a.jpg\n190 60 130 180 {swapped} 1\n"))
    assert not caplog.records


@pytest.mark.parametrize(
    ("given", "there", "why"),
    [
        ("A.JPG", "a.jpg", "which differs in case"),
        ("train/deep/a.jpg", "a.jpg", "in another folder"),
        ("b.jpeg", "b.jpg", "with another suffix"),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg"), "in another Unicode form"),
    ],
)
def test_a_missing_picture_comes_with_the_nearest_name(tmp_path: Path, given: str, there: str, why: str) -> None:
    data = labelled(tmp_path, f"# {given}\n1 1 9 9\n")
    picture(data / "images" / unicodedata.normalize("NFC", "é.jpg"))
    with pytest.raises(LabelError, match="1 of 1 images are missing") as error:
        read_labels(data)
    assert f"there is {there}, {why}" in str(error.value)


def broken(folder: Path) -> dict[str, bytes]:
    whole = encoded(".jpg", 512, 600)
    return {
        "page.jpg": b"<!doctype html><title>404</title>",
        "empty.jpg": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": encoded(".png", 512, 600)[:-40],
        "cut.webp": encoded(".webp", 512, 600)[:-400],
    }


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in broken(tmp_path).items():
        (tmp_path / name).mkdir()
        data = labelled(tmp_path / name, f"# a.jpg\n190 60 130 180\n# {name}\n5 5 20 20\n# b.jpg\n")
        (data / "images" / name).write_bytes(content)
        caplog.clear()
        assert [sample.image.name for sample in read_labels(data)] == ["a.jpg", "b.jpg"]
        assert f"1 of 3 pictures cannot be read ({data / 'images' / name}: " in caplog.text
        with pytest.raises(LabelError, match=r"1 of 3 pictures cannot be read .*at most 0%"):
            read_labels(data, max_missing=0)
    (data / "images" / "b.jpg").write_bytes(b"no picture either")
    with pytest.raises(LabelError, match="2 of 3 pictures cannot be read"):
        read_labels(data)


@pytest.mark.parametrize("orientation", UNDO)
@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("TIFF", ".tif")])
def test_a_look_tells_the_size_of_the_upright_picture(tmp_path: Path, orientation: int, form: str, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(stored(image, orientation, form))
    assert look_at(path) == ((50, 30), form == "JPEG" and orientation == 1)
    assert read_image(path).shape == (30, 50, 3)


def test_plain_is_what_tensorflow_reads_alike(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (9, 90, 200))
    for mode in ("RGB", "L", "CMYK", "cut"):
        buffer = io.BytesIO()
        image.convert("RGB" if mode == "cut" else mode).save(buffer, "JPEG")
        data = buffer.getvalue()
        path = tmp_path / f"{mode}.jpg"
        path.write_bytes(data[:-2] if mode == "cut" else data)  # without its end marker TensorFlow refuses it
        assert look_at(path) == ((40, 30), mode in ("RGB", "L"))
    path.write_bytes(data + b"what a phone appends")
    assert look_at(path) == ((40, 30), True)
    with pytest.raises(ImageError, match="No such file"):
        look_at(tmp_path / "no.jpg")


def test_pictures_in_training_and_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def sample(name: str, seed: int) -> Sample:
        return Sample(picture(tmp_path / name, seed=seed), np.zeros((0, 4)), np.zeros((0, 5, 2)))

    training = [sample(f"t{seed}.png", seed) for seed in range(4)]
    apart = [sample(f"v{seed}.png", seed) for seed in (7, 8)]
    check_apart(training, apart)
    assert not caplog.records
    check_apart(training, [*apart, sample("copy.png", 3)])
    assert "copy.png: 1 of 3 validation pictures are in training, too, the first as" in caplog.text
    assert "t3.png" in caplog.text
    with pytest.raises(LabelError, match="2 of 2 validation pictures"):
        check_apart(training, training[:2])
    check_apart(training, [])
