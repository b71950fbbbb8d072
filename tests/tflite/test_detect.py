"""The detect command, as a user runs it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tflite.conftest import photo
from tflite import benchmark
from tflite.detect import DetectOptions
from tflite.images import read_image, write_image


class Command:
    """Runs `python -m tflite.detect` from the repository root."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model

    def __call__(self, *arguments: str | Path, model: Path | None = None, stdin: bytes = b"") -> tuple[int, str, str]:
        command = [sys.executable, "-m", "tflite.detect", "--model", str(model or self.model), *map(str, arguments)]
        result = subprocess.run(command, cwd=self.root, capture_output=True, input=stdin)
        error = result.stderr.decode()
        assert "Traceback" not in error
        return result.returncode, result.stdout.decode(), error


@pytest.fixture
def detect(root: Path, model_dir: Path) -> Command:
    return Command(root, model_dir / "int8.tflite")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photos, one in a sub-folder."""
    write_image(tmp_path / "photos" / "one.png", photo())
    write_image(tmp_path / "photos" / "sub" / "two.png", photo(96, 96, ((32, 32, 32), (0, 64, 32))))
    return tmp_path / "photos"


def test_one_image_to_json_and_annotated_image(detect: Command, photos: Path, tmp_path: Path) -> None:
    out, faces = tmp_path / "out.png", tmp_path / "faces.json"
    code, stdout, stderr = detect(photos / "one.png", "--json", faces, "--output", out)
    assert code == 0, stderr
    assert "int8 96×64, ai_edge_litert" in stderr
    results = json.loads(faces.read_text())
    (found,) = results.values()
    assert list(results) == [str(photos / "one.png")]
    assert f"one.png: {len(found)} faces, best score" in stdout
    for face in found:
        assert set(face) == {"box", "score", "landmarks"}
        assert len(face["box"]) == 4
        assert np.array(face["landmarks"]).shape == (5, 2)
        assert 0.5 <= face["score"] <= 1
    annotated = cv2.imread(str(out))
    assert annotated.shape == photo().shape
    assert not np.array_equal(annotated, photo())


def test_folder_crops_jsonl_and_thresholds(detect: Command, photos: Path, tmp_path: Path) -> None:
    code, _, stderr = detect(
        *(photos, "--output", tmp_path / "out", "--crops", tmp_path / "crops", "--jsonl", tmp_path / "f.jsonl"),
        *("--score_threshold", "0.9", "--iou_threshold", "0.2", "--num_threads", "1"),
    )
    assert code == 0, stderr
    assert "1 thread" in stderr
    assert "2 images" in stderr
    assert (tmp_path / "out" / "one.png").exists()
    assert (tmp_path / "out" / "sub" / "two.png").exists()
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["one.png", "two.png"]
    assert all(face["score"] >= 0.9 for line in lines for face in line["faces"])
    crops = sorted((tmp_path / "crops").rglob("*.png"))
    assert len(crops) == sum(len(line["faces"]) for line in lines)
    assert (tmp_path / "crops" / "sub" / "two.png_0.png") in crops
    assert read_image(crops[0]).shape == (112, 112, 3)


def test_blur_changes_the_faces_only(detect: Command, photos: Path, tmp_path: Path) -> None:
    out, faces = tmp_path / "out.png", tmp_path / "f.json"
    code, _, stderr = detect(photos / "one.png", "--blur", "--output", out, "--json", faces)
    assert code == 0, stderr
    changed = (cv2.imread(str(out)) != photo()).any(axis=2)
    outside = changed.copy()
    for face in json.loads(faces.read_text())[str(photos / "one.png")]:
        x1, y1, x2, y2 = face["box"]
        assert changed[int(y1) : int(y2), int(x1) : int(x2)].mean() > 0.1  # the bright square itself is one colour
        margin = int(0.15 * max(x2 - x1, y2 - y1)) + 2
        outside[max(int(y1) - margin, 0) : int(y2) + margin, max(int(x1) - margin, 0) : int(x2) + margin] = False
    assert not outside.any()


def test_stdin_and_stdout(detect: Command, photos: Path) -> None:
    code, stdout, _ = detect("-", "--jsonl", "-", stdin=(photos / "one.png").read_bytes())
    assert code == 0
    (line,) = stdout.splitlines()
    assert json.loads(line)["file"] == "-"
    assert json.loads(line)["faces"]
    code, _, stderr = detect("-", stdin=b"")
    assert code == 1
    assert "stdin: the file is empty" in stderr


def test_tiles_find_more(detect: Command, tmp_path: Path) -> None:
    write_image(tmp_path / "large.png", photo(640, 960, ((100, 144, 16), (320, 800, 16))))
    assert "large.png: 0 faces" in detect(tmp_path / "large.png")[1]
    assert "large.png: 0 faces" not in detect(tmp_path / "large.png", "--tile", "96")[1]


def test_bad_files_are_listed_and_good_ones_processed(detect: Command, photos: Path, tmp_path: Path) -> None:
    good = (photos / "one.png").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(photo()[..., ::-1]).save(buffer, "JPEG", exif=exif)
    contents = {
        "truncated.png": good[: len(good) // 2],
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "truncated.jpg": buffer.getvalue()[:-100],
        "rotated.jpg": buffer.getvalue(),
    }
    for name, content in contents.items():
        (photos / name).write_bytes(content)
    write_image(photos / "pixel.png", photo(1, 1, ()))
    code, stdout, stderr = detect(photos, tmp_path / "missing.jpg", tmp_path / "*.none", "--json", tmp_path / "f.json")
    assert code == 1
    names = {Path(name).name for name in json.loads((tmp_path / "f.json").read_text())}
    assert names == {"one.png", "two.png", "rotated.jpg", "pixel.png"}
    assert len(stdout.splitlines()) == 4
    listed = stderr[stderr.index("6 inputs failed:") :].splitlines()[1:]
    assert len(listed) == 6
    for name in ("truncated.png", "empty.jpg", "text.jpg", "truncated.jpg", "missing.jpg", "*.none"):
        assert sum(name in line for line in listed) == 1


def test_an_empty_folder(detect: Command, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    code, _, stderr = detect(tmp_path / "none")
    assert code == 1
    assert "none: no image in the folder" in stderr


def test_models_that_cannot_be_used(detect: Command, photos: Path, model_dir: Path, tmp_path: Path) -> None:
    good = (model_dir / "int8.tflite").read_bytes()
    half = tmp_path / "half.tflite"
    half.write_bytes(good[: len(good) // 2])
    for model, message in (
        (model_dir / "bare.tflite", "no readable retinaface.json"),
        (half, "no readable retinaface.json"),
        (photos / "one.png", "not a TFLite model"),
        (tmp_path / "missing.tflite", "cannot read the model (No such file"),
    ):
        code, _, stderr = detect(photos / "one.png", model=model)
        assert code == 1
        (line,) = stderr.splitlines()
        assert line.startswith(f"error: {model}: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected image files"),
        (("{photo}", "--source", "0"), "expected image files"),
        (("{photo}", "--blur"), "--blur needs --output"),
        (("{photo}", "{other}", "--output", "{tmp}/o.png"), "there are 2 inputs: expected a folder"),
        (("{photo}", "--output", "{tmp}/file.txt"), "is a file, expected a folder"),
        (("--source", "{tmp}/none.mp4"), "no such file, expected a video file or the number of a camera"),
        (("--source", "{photo}x"), "no such file"),
        (("--source", "{tmp}/file.txt"), "cannot open the video file"),
        (("{photo}", "--json", "{tmp}/file.txt/f.json"), "file.txt is a file, not a folder"),
        (("{photo}", "--bogus"), "Unknown command line flag 'bogus'"),
        (("{photo}", "--score_threshold", "2"), "--score_threshold is 2, expected 0 to 1"),
        (("{photo}", "--num_threads", "0"), "--num_threads is 0, expected at least 1"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], message: str, detect: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text")
    values = {"photo": photos / "one.png", "other": photos / "sub" / "two.png", "tmp": tmp_path}
    code, _, stderr = detect(*(argument.format(**values) for argument in arguments))
    assert code != 0
    assert message in stderr
    assert not (tmp_path / "o.png").exists()


def test_the_input_is_never_overwritten(detect: Command, photos: Path) -> None:
    before = (photos / "one.png").read_bytes()
    code, _, stderr = detect(photos, "--output", photos)
    assert code == 1
    assert "would overwrite the input" in stderr
    assert (photos / "one.png").read_bytes() == before


def test_video_in_and_out(detect: Command, tmp_path: Path) -> None:
    source, target = tmp_path / "in.avi", tmp_path / "out.mp4"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 128))
    for i in range(5):
        writer.write(photo(squares=((32, 16 * i, 32),)))
    writer.release()
    code, _, stderr = detect("--source", source, "--output", target, "--jsonl", tmp_path / "f.jsonl")
    assert code == 0, stderr
    assert "5 frames" in stderr
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(i, round(i / 10, 4)) for i in range(5)]
    assert all(line["faces"] for line in lines)
    capture = cv2.VideoCapture(str(target))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
    code, _, stderr = detect("--source", source, "--output", tmp_path / "folder")
    assert code == 1
    assert "expected a video file (.mp4" in stderr


def test_show_without_a_window_system(detect: Command, photos: Path) -> None:
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV can open windows; the message is for the headless one")
    code, _, stderr = detect(photos / "one.png", "--show")
    assert code == 1
    assert "pip install opencv-python" in stderr


@pytest.mark.parametrize("module", ["tflite", "tflite.detect", "tflite.benchmark"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_every_flag_in_a_second(module: str, flag: str, root: Path) -> None:
    options = benchmark.BenchmarkOptions if module == "tflite.benchmark" else DetectOptions
    start = os.times()
    result = subprocess.run([sys.executable, "-m", module, flag], cwd=root, capture_output=True, text=True)
    used = os.times().children_user + os.times().children_system
    used -= start.children_user + start.children_system
    assert result.returncode == 0 and result.stderr == ""
    for field in dataclasses.fields(options):
        assert f"--{field.name}" in result.stdout or field.name == "images"
    assert used < 1


def test_nothing_but_our_lines_on_stderr(detect: Command, photos: Path) -> None:
    _, _, stderr = detect(photos / "one.png")
    (line,) = stderr.splitlines()
    assert line.startswith(f"{detect.model}: int8 96×64, ai_edge_litert ")
