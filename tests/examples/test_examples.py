"""Each example as a user runs it; they are short enough to read."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from rf_keras.synthetic import make_dataset
from tests.optional import missing, needed
from tests.quantization.conftest import photos, shallow_file  # noqa: F401  # fixtures
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.spec import read_spec

PHOTO = Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def run(root: Path, folder: Path, *command: str | Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    path = root / "examples" / command[0]
    result = subprocess.run([sys.executable, path, *command[1:]], cwd=folder, env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def test_examples_are_short(root: Path) -> None:
    files = sorted((root / "examples").glob("*.py"))
    assert [path.name for path in files] == [
        "convert_in_python.py",
        "detect_photo.py",
        "fine_tune.py",
        "hand_to_supervision.py",
        "spark_detect.py",
        "webcam.py",
    ]
    for path in files:
        most = 80 if path.name == "spark_detect.py" else 25
        assert 10 <= len(path.read_text(encoding="utf-8").splitlines()) <= most


def test_detect_photo(root: Path, tmp_path: Path) -> None:
    (line,) = run(root, tmp_path, "detect_photo.py", PHOTO).splitlines()
    match = re.fullmatch(r"(0\.\d+) at (\d+),(\d+)-(\d+),(\d+), nose at \(([\d.]+), ([\d.]+)\)", line)
    assert match, line
    score, *places = map(float, match.groups())
    assert score > 0.5
    # Between the answers of two versions of the model, which are up to 8 px apart; the face is 170 px wide.
    assert places == pytest.approx([181, 123, 350, 335, 268, 247], abs=12)
    assert (read_image(tmp_path / "faces.jpg") != read_image(PHOTO)).any()


def test_arrays_for_supervision(root: Path, tmp_path: Path) -> None:
    arrays, annotations = run(root, tmp_path, "hand_to_supervision.py", PHOTO).splitlines()
    assert arrays == "xyxy (1, 4), confidence (1,), key points (1, 5, 2)"
    (annotation,) = ast.literal_eval(annotations)
    assert annotation["image_id"] == 1 and len(annotation["keypoints"]) == 15


def test_webcam_on_a_small_video(root: Path, tmp_path: Path) -> None:
    image = cv2.resize(read_image(PHOTO), (256, 300))
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (256, 300))
    for frame in (image, np.zeros_like(image)):
        writer.write(frame)
    writer.release()
    first, second = run(root, tmp_path, "webcam.py", "v.avi").splitlines()
    assert first.startswith("frame 0: Detections(1 face, best score 0.") and second == "frame 1: Detections(0 faces)"


def test_spark_in_local_mode(root: Path, tmp_path: Path) -> None:
    """A row for each picture, JSON lines and Parquet; what cannot be read is a row with an error."""
    for module in ("pyspark", "pandas", "pyarrow"):
        needed(module)
    if shutil.which("java") is None:
        missing("Spark needs java")
    import pyarrow.parquet

    store = tmp_path / "store"
    (store / "deeper").mkdir(parents=True)
    shutil.copy(PHOTO, store / "one.jpg")
    cv2.imwrite(str(store / "deeper" / "none.png"), np.zeros((40, 60, 3), np.uint8))
    (store / "cut.jpg").write_bytes(PHOTO.read_bytes()[:5000])
    (store / "empty.jpg").write_bytes(b"")
    lines, table = tmp_path / "faces.jsonl", tmp_path / "faces.parquet"
    code = "import sys; import spark_detect; [spark_detect.main(sys.argv[1], to) for to in sys.argv[2:]]"
    quick = "--master local[1] --conf spark.ui.enabled=false --driver-java-options -XX:TieredStopAtLevel=1"
    settings = {"PYTHONPATH": os.pathsep.join([str(root), str(root / "examples"), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(
        [sys.executable, "-c", code, store, lines, table, table],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYSPARK_SUBMIT_ARGS": f"{quick} pyspark-shell",
            "SPARK_LOCAL_IP": "127.0.0.1",
            **settings,
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert re.search(r"^spark_detect: .*already exists", result.stderr, re.M)  # the third job
    found = [json.loads(line) for part in lines.glob("part-*") for line in part.read_text().splitlines()]
    rows = {Path(row["path"]).name: row for row in found}
    assert sorted(rows) == ["cut.jpg", "none.png", "one.jpg"] and len(found) == 3
    assert rows["cut.jpg"].keys() == {"path", "error"} and "cannot decode" in rows["cut.jpg"]["error"]
    assert rows["none.png"]["faces"] == [] and (rows["none.png"]["width"], rows["none.png"]["height"]) == (60, 40)
    (face,) = rows["one.jpg"]["faces"]
    with FaceDetector(num_threads=1) as detector:
        (expected,) = detector.detect(PHOTO).to_list()
    for name in ("box", "score", "landmarks"):
        np.testing.assert_allclose(face[name], expected[name], rtol=0, atol=0.01)
    same = {Path(row["path"]).name: row for row in pyarrow.parquet.read_table(table).to_pylist()}
    assert {name: len(row["faces"] or ()) for name, row in same.items()} == {"cut.jpg": 0, "none.png": 0, "one.jpg": 1}
    np.testing.assert_allclose(same["one.jpg"]["faces"][0]["landmarks"], face["landmarks"], atol=1e-4)
    assert same["cut.jpg"]["error"] == rows["cut.jpg"]["error"]


def test_convert_in_python(
    root: Path,
    shallow_file: Path,  # noqa: F811
    photos: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "m.tflite"
    monkeypatch.setattr(sys, "argv", ["convert_in_python.py", str(shallow_file), str(photos), str(output), "64"])
    runpy.run_path(str(root / "examples" / "convert_in_python.py"), run_name="__main__")
    assert read_spec(output).quantization == "int8-ptq" and read_spec(output).input_width == 64
    assert "default threshold 0.5, runs on ai_edge_litert" in capsys.readouterr().out


def test_fine_tune(
    root: Path,
    shallow_file: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled = make_dataset(tmp_path / "faces", 32, seed=5, size=96)
    output = tmp_path / "output"
    arguments = [str(shallow_file), str(labelled), str(labelled), str(output), "64", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["fine_tune.py", *arguments])
    runpy.run_path(str(root / "examples" / "fine_tune.py"), run_name="__main__")
    assert read_spec(output / "model.tflite").quantization == "int8-qat"
    assert (output / "report.html").stat().st_size > 10_000
    assert re.search(rf"{output}/model.tflite: AP [\d.]+ %, threshold 0.5; ", capsys.readouterr().out)
