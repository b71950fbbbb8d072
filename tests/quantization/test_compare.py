from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quantization import compare
from quantization.compare import above, same_faces
from quantization.comparison import Column
from quantization.graph import FoldedNetwork
from quantization.layer_error import layer_errors
from quantization.report import _against, _number
from rf_keras.evaluation.ground_truth import Truth, read_truth
from rf_keras.evaluation.scoring import AP_SCORE_THRESHOLD, Evaluation, ImageResult
from rf_keras.evaluation.wider_ap import match_detections
from tflite.detector import FaceDetector
from tflite.images import read_image
from tflite.postprocess import Detections
from tflite.spec import attach_spec

from .conftest import SIZE
from .test_convert import parsed

KIND = "int8-<script>"  # a file's own text, which the page must show as text


def faces(*boxes: tuple[float, float, float, float], scores: list[float] | None = None) -> Detections:
    count = len(boxes)
    values = np.array(scores or [0.9] * count, np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), values, np.zeros((count, 5, 2), np.float32))


@pytest.fixture(scope="module")
def model_file(int8_file: bytes, folded: FoldedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny_int8.tflite"
    path.write_bytes(attach_spec(int8_file, folded.config.spec(SIZE, SIZE, quantization=KIND, source="random")))
    return path


@pytest.fixture(scope="module")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    lines = []
    for path in sorted(photos.iterdir())[:9]:
        (folder / "images" / path.name).write_bytes(path.read_bytes())
        lines += [f"# {path.name}", "10 10 30 30 " + "20 20 0 " * 5 + "1"]
    (folder / "label.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_face_has_one_partner() -> None:
    expected = faces((0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60))
    assert same_faces(expected, faces((0, 0, 10, 10))).tolist() == [True, False, False]
    assert same_faces(expected, faces((0, 0, 10, 9), (0, 0, 10, 10))).tolist() == [True, True, False]
    assert same_faces(expected, faces()).tolist() == [False] * 3
    assert same_faces(faces(), expected).tolist() == []


def test_above() -> None:
    assert above(faces((0, 0, 1, 1), (0, 0, 2, 2), scores=[0.6, 0.4]), 0.5).scores.tolist() == [pytest.approx(0.6)]


def test_layer_errors_are_sorted_and_finite(model_file: Path, folded: FoldedNetwork, images: np.ndarray) -> None:
    rows = layer_errors(model_file.read_bytes(), folded.model, images[:2])
    assert [row.sqnr for row in rows] == sorted(row.sqnr for row in rows)
    by_name = {row.layer: row for row in rows}
    assert by_name["stem_conv"].sqnr > 25, "the first conv has only its own rounding"
    assert {"stem_act", "fpn_add_8", "ssh_8_concat", "box_16", "class_32"} <= set(by_name)


def test_report(
    model_file: Path, weights_file: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--weights", weights_file, "--models", model_file, "--data_dir", labelled, "--runs", 2)
    output = tmp_path / "r.html"
    facts = compare.run(parsed(compare, *arguments, "--output", output, "--sqnr_images", 8))
    page = output.read_text()
    for text in ("Accuracy", "AP by face size", "SQNR, dB", "invoke, 2 threads", "tiny_int8", "data:image/png"):
        assert text in page
    assert "int8-&lt;script&gt;" in page and "<script" not in page
    assert json.loads(json.dumps(facts)) == facts
    assert facts["images"] == 9 and facts["size"] == SIZE
    model = facts["models"]["tiny_int8"]
    assert model["kind"] == KIND and set(model["latency_ms"]) == {"1", "2"}
    assert set(facts["machine"]) == {"cpu", "cores", "python", "load", "threads", "runs"}
    shown = capsys.readouterr().out
    assert "invoke 1 thr." in shown and "tiny_int8" in shown and f"ms on {facts['machine']['cpu']}" in shown
    assert "-0.0" not in page and "-0.0" not in shown
    assert len(model["sqnr_db"]) > 50 and facts["models"]["float"]["all"] is not None


def test_a_file_at_another_size(model_file: Path, weights_file: Path, labelled: Path) -> None:
    truths = read_truth(labelled)[:3]
    size = compare.fixed_size(f"{SIZE}x{SIZE + 32}")
    found = compare.measure_file(model_file, truths, weights_file, 1, size).evaluation.images
    detector = FaceDetector(model_file, 1, (SIZE, SIZE + 32))
    for one in found:
        assert one.found == detector.detect(read_image(one.truth.image), AP_SCORE_THRESHOLD)
    times = compare.latencies([model_file], read_image(truths[0].image), 1, (SIZE, SIZE + 32))
    assert times[0]["1"]["end_to_end"] > 0


def test_files_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    class Timed:
        def __init__(self, path: Path, threads: int, input_size: None) -> None:
            self.name = path.name

        def __enter__(self) -> Timed:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def stages(detector: Timed, image: np.ndarray, runs: int) -> dict[str, np.ndarray]:
        calls.append((detector.name, runs))
        return {stage: np.full(runs, {"a": 1.0, "b": 2.0}[detector.name]) for stage in compare.STAGES}

    monkeypatch.setattr(compare, "FaceDetector", Timed)
    monkeypatch.setattr(compare, "measure_stages", stages)
    found = compare.latencies([Path("a"), Path("b")], np.zeros((4, 4, 3), np.uint8), 25)
    assert calls == [("a", 10), ("b", 10), ("a", 10), ("b", 10), ("a", 5), ("b", 5)] * 2
    assert [file["2"]["invoke"] for file in found] == [1.0, 2.0]


def column(name: str, threshold: float, *detections: Detections) -> Column:
    truth = Truth(Path("a.jpg"), np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0, bool))
    images = [
        ImageResult(truth, found, match_detections(found.boxes, found.scores, truth.boxes)) for found in detections
    ]
    return Column(name, {"score_threshold": threshold}, Evaluation({}, {}, images), [])


def test_models_are_compared_each_at_its_own_threshold() -> None:
    reference = column("float", 0.4, faces((0, 0, 10, 10), (30, 0, 40, 10), scores=[0.45, 0.3]))
    other = column("int8", 0.6, faces((0, 0, 10, 10), (60, 0, 70, 10), scores=[0.62, 0.7]))
    assert compare.agreement(reference, other) == 1.0
    (pair,) = compare.disagreements(reference, other, 4)
    assert (pair.lost, pair.new, len(pair.expected), len(pair.found)) == (0, 1, 1, 2)
    assert compare.agreement(reference, column("int8", 0.65, faces((0, 0, 10, 10), scores=[0.62]))) == 0.0


def test_small_losses_have_no_sign() -> None:
    assert "+0.0" in _against(90.0, 90.04) and "gain" in _against(90.0, 90.04)
    assert "-0.1" in _against(90.0, 90.08) and _number(-0.04) == "0.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "absent.tflite"], "absent.tflite: cannot read the model"),
        (["--models", "MODEL", "--models", "MODEL"], "two models of the same name"),
        (["--models", "MODEL", "--output", "report.txt"], "expected a name ending in .html"),
        (["--models", "MODEL", "--data_dir", "absent"], "absent"),
        (["--models", "WEIGHTS"], "not a TFLite model"),
        (["--models", "MODEL", "--size", "auto"], "--size is 'auto', expected a multiple of 32 in pixels"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, model_file: Path, weights_file: Path, labelled: Path, tmp_path: Path
) -> None:
    names = {"MODEL": str(model_file), "WEIGHTS": str(weights_file)}
    given = [names.get(a, a) for a in arguments]
    for flag, value in (("--weights", weights_file), ("--data_dir", labelled), ("--output", tmp_path / "r.html")):
        if flag not in given:
            given += [flag, str(value)]
    with pytest.raises(ValueError) as caught:
        compare.run(parsed(compare, *given))
    assert message in str(caught.value) and "\n" not in str(caught.value)
