"""The ONNX files: the Keras network's outputs, the .tflite's integers, any input shape."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from quantization import convert
from quantization.fold import fold
from quantization.graph import FoldedNetwork, Ranges, signature_names
from quantization.onnx_export import OnnxMissing, OnnxRunner, largest_differences, onnx_operations, to_onnx
from quantization.recipe import Int8Network
from quantization.verify import FileRunner
from rf_keras.config import ModelConfig
from rf_keras.evaluation.scoring import open_detector
from rf_keras.model import build_model
from tflite.benchmark import measure_onnx
from tflite.command import parse
from tflite.interpreter import ModelError
from tflite.onnx_runtimes import onnx_session, onnx_spec
from tflite.shapes import auto_shape
from tflite.spec import ModelSpec, SpecError

from .conftest import SIZE, randomize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MEAN = ModelSpec.mean
SPEC = ModelSpec(input_height=SIZE, input_width=SIZE, antialias=True, score_threshold=0.3, source="a tést")
CONFIGS = {
    "mobilenet": ModelConfig(
        backbone="mobilenet", width=0.125, neck_channels=8, ssh_channels=8, activation="leaky_relu"
    ),
    "plain": ModelConfig(
        backbone="plain", width=0.5, blocks=(1, 1), neck_channels=8, ssh_channels=8, activation="relu"
    ),
}


@pytest.mark.parametrize("backbone", CONFIGS)
def test_float_outputs_are_those_of_keras_at_any_shape(backbone: str) -> None:
    """Upsampling, additions, strided and depthwise convs, both activations."""
    config = CONFIGS[backbone]
    network = fold(randomize(build_model(config)), config)
    content = to_onnx(network, SPEC)
    for height, width in ((64, 64), (96, 160)):
        images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        differences = largest_differences(content, network.model, network.config, images, MEAN)
        assert list(differences) == signature_names(network.config)
        outputs = [output.numpy() for output in network.model(images.astype(np.float32) - np.float32(MEAN))]
        for (name, difference), output in zip(differences.items(), outputs, strict=True):
            assert difference["largest"] <= 1e-4 * max(1, np.abs(output).max()), name
            assert output.std() > 0.01  # it says something


@pytest.fixture(scope="module")
def float_file(folded: FoldedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "retinaface_tiny.onnx"
    path.write_bytes(to_onnx(folded, SPEC))
    return path


def test_the_file_describes_itself(float_file: Path, folded: FoldedNetwork) -> None:
    session, runtime = onnx_session(float_file, 1)
    assert onnx_spec(session, float_file) == SPEC and runtime.startswith("ONNX Runtime ")
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("image", [1, 3, "height", "width"])]
    assert [value.name for value in session.get_outputs()] == signature_names(folded.config)
    assert [value.shape[1] for value in session.get_outputs()] == [2] * 3 + [8] * 3 + [20] * 3
    assert float_file.read_bytes() == to_onnx(folded, SPEC)  # same network, same bytes


def test_a_file_without_description_is_refused(float_file: Path, tmp_path: Path) -> None:
    model = onnx.load(float_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(SpecError, match=r"no retinaface\.json in its metadata"):
        onnx_spec(onnx_session(tmp_path / "bare.onnx", 1)[0], tmp_path / "bare.onnx")


@pytest.fixture(scope="module")
def int8_onnx(folded: FoldedNetwork, ranges: Ranges) -> bytes:
    return to_onnx(folded, SPEC, Int8Network(folded, folded, ranges))


def test_int8_has_the_scales_of_the_tflite(int8_onnx: bytes, int8_file: bytes) -> None:
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load_from_string(int8_onnx).graph.initializer}
    runner = FileRunner(int8_file, MEAN)
    for name, details in runner.outputs.items():
        assert (constants[f"{name}/scale"], constants[f"{name}/zero"]) == details["quantization"], name
    scale, zero_point = runner._input["quantization"]
    assert (constants["image/int8/scale"], constants["image/int8/zero"]) == (scale, zero_point)


def test_int8_outputs_are_the_integers_of_the_tflite(int8_onnx: bytes, int8_file: bytes, images: np.ndarray) -> None:
    """To a few steps: runtimes round halves, and the slope of leaky ReLUs, in ways of their own."""
    runner, ours = OnnxRunner(int8_onnx, MEAN), FileRunner(int8_file, MEAN)
    steps = []
    for image in images:
        found, wanted = runner(image), ours(image)
        for name, raw in wanted.items():
            scale, zero_point = ours.outputs[name]["quantization"]
            integers = found[name] / np.float32(scale) + zero_point
            np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)  # on the grid
            steps.append(np.abs(np.rint(integers) - raw).ravel())
    assert np.percentile(np.concatenate(steps), 99.9) <= 4
    operations = onnx_operations(int8_onnx)
    assert operations["QuantizeLinear"] > 30 and operations["DequantizeLinear"] > operations["QuantizeLinear"]


def test_faces_are_those_of_the_float_network(float_file: Path) -> None:
    """Through letterbox, decode and NMS, as side_by_side runs them."""
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    peer = peers.ours_onnxruntime(str(float_file), SIZE, SIZE)
    assert peer.name == "tiny" and peer.infer is not None
    faces = peer.detect(image, 0.3)
    assert len(faces) and (faces.scores >= 0.3).all()
    peer.infer()


def test_a_file_is_evaluated(float_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own size, at others, and with a line where ONNX Runtime is missing."""
    image = np.random.default_rng(2).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    own, auto, large = (open_detector(float_file, size) for size in (None, "auto", "96x128"))
    assert (own.size, auto.size, large.size, own.threshold) == (str(SIZE), "auto", "96x128", 0.3)
    assert own.interpreter.startswith("ONNX Runtime ")
    found = own.in_use(image)
    assert len(found) and found == peers.ours_onnxruntime(str(float_file), SIZE, SIZE).detect(image, 0.3)
    assert len(own.for_ap(image)) >= len(found)
    for opened, (height, width) in ((auto, auto_shape(70, 90, SIZE, SIZE)), (large, (96, 128))):
        assert opened.in_use(image) == peers.ours_onnxruntime(str(float_file), height, width).detect(image, 0.3)
    assert len(open_detector(float_file, "original").in_use(image))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match="ONNX Runtime is not installed"):
        open_detector(float_file, None)


def test_times_beside_the_tflite(float_file: Path, tmp_path: Path) -> None:
    first, *_ = measure_onnx(float_file, (64, 96), (1, 2), 2)
    assert first["runtime"].startswith("ONNX Runtime ") and first["invoke_ms"]["2"]["p50"] > 0
    (tmp_path / "none.onnx").write_bytes(b"none")
    assert "cannot load the file" in measure_onnx(tmp_path / "none.onnx", (64, 96), (1,), 2)[0]["skipped"]


def test_the_command(weights_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--weights", str(weights_file), "--data_dir", str(photos), "--size", str(SIZE)]
    figures = convert.run(parse(convert.Options, ["--onnx", *common, "--output", str(tmp_path / "a.onnx")]))
    assert figures["quantization"] == "fp32" and figures["ops"]["Conv"] > 30
    assert max(d["largest"] for d in figures["differences"].values()) < 1e-3
    figures = convert.run(parse(convert.Options, ["--onnx", "--int8", *common, "--output", str(tmp_path / "b.onnx")]))
    assert figures["quantization"] == "int8-ptq"
    assert "difference to the simulated int8 model" in capsys.readouterr().out
    assert onnx_spec(onnx_session(tmp_path / "b.onnx", 1)[0], tmp_path / "b.onnx").quantization == "int8-ptq"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--onnx", "--fp16"], "--onnx goes with --int8 or alone, found --fp16"),
        (["--onnx", "--output", "a.tflite"], "expected a name ending in .onnx"),
    ],
)
def test_what_does_not_fit(flags: list[str], message: str, weights_file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        convert.run(parse(convert.Options, [*flags, "--weights", str(weights_file)]))


def test_without_the_package_onnx(folded: FoldedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OnnxMissing, match=r"pip install 'retinaface-keras\[onnx\]'"):
        to_onnx(folded, SPEC)
