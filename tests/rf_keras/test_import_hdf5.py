"""HDF5 files of Keras: arrays that fit a known network come in, whatever else a file holds does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras as keras

from rf_keras import evaluate, import_weights
from rf_keras.config import FAST, ModelConfig, format_anchors
from rf_keras.importing.reading import read_source
from rf_keras.importing.source_hdf5 import read_hdf5
from rf_keras.importing.source_weights import ImportWeightsError, conv_layers
from rf_keras.model import build_model, folded_model
from rf_keras.model_file import ModelFileError, load_model, read_config
from rf_keras.synthetic import make_dataset

KERNEL = "stem_conv/stem_conv/kernel:0"


def scrambled(model: keras.Model) -> keras.Model:
    """Weights far from their defaults, so that a swap of any two shows."""
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 0.2, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return scrambled(build_model(ModelConfig()))


@pytest.fixture(scope="module")
def named(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights by their names, as Keras 2 wrote them."""
    path = tmp_path_factory.mktemp("hdf5") / "w.h5"
    network.save_weights(path)
    return path


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5", "whole.h5"])
def test_the_ways_in_which_keras_writes(name: str, network: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "whole.h5":
        network.save(path, include_optimizer=False)
    else:
        network.save_weights(path)
    path = path.rename(tmp_path / "w.pth")  # the content tells
    source, graph, _ = read_source(str(path))
    assert source.config == ModelConfig() and source.activation is None and graph is None
    layers = conv_layers(network)
    assert source.convs.keys() == layers.keys()
    for layer, conv in source.convs.items():
        kernel, *bias = layers[layer].get_weights()
        axes = (2, 3, 0, 1) if layer.endswith("_dw_conv") else (3, 2, 0, 1)
        np.testing.assert_array_equal(conv.kernel, kernel.transpose(axes))
        if conv.norm is None:
            np.testing.assert_array_equal(conv.bias, bias[0])
        else:
            norm = network.get_layer(layer.removesuffix("_conv") + "_bn")
            found = (conv.norm.gamma, conv.norm.beta, conv.norm.mean, conv.norm.variance)
            for a, b in zip(found, norm.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_another_network_with_folded_normalization(tmp_path: Path) -> None:
    model = scrambled(folded_model(FAST))
    model.save_weights(tmp_path / "w.weights.h5")
    source = read_hdf5(tmp_path / "w.weights.h5")
    assert source.config == FAST
    for name, layer in conv_layers(model).items():
        kernel, bias = layer.get_weights()
        np.testing.assert_array_equal(source.convs[name].kernel, kernel.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(source.convs[name].bias, bias)
        assert source.convs[name].norm is None


def replaced(path: str, fill: Callable[[h5py.File], object]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[path]
        fill(file)

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 8), np.float32)
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (3, 3, 3, 8))
    file.create_virtual_dataset(KERNEL, layout)


def huge(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (1 << 50,), np.float32)


def bomb(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (3, 3, 3, 8), np.float32, chunks=(3, 3, 3, 8), compression=9)


def external(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (3, 3, 3, 8), np.float32, external=[("/etc/hostname", 0, 864)])


def references(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (3, 3, 3, 8), h5py.ref_dtype)


def endless(file: h5py.File) -> None:
    file["stem_conv/again"] = file["stem_conv"]


def crowd(file: h5py.File) -> None:
    for number in range(10_001):
        file[f"stem_conv/{number}"] = file[KERNEL]


def not_finite(file: h5py.File) -> None:
    file[KERNEL] = np.full((3, 3, 3, 8), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(KERNEL, huge), "its 253 arrays fit no known network (fast, mobilenet, resnet50)"),
        (replaced(KERNEL, lambda file: None), "its 252 arrays fit no known network"),
        (replaced("class_8", lambda file: None), "its 251 arrays fit no known network"),
        (lambda file: file.create_dataset("more/more", data=[1.0]), "its 254 arrays fit no known network"),
        (replaced(KERNEL, bomb), "stored in another way"),
        (replaced(KERNEL, external), "stored in another way"),
        (replaced(KERNEL, virtual), "stored in another way"),
        (replaced(KERNEL, references), "found object"),
        (replaced(KERNEL, not_finite), "array stem_conv/stem_conv/kernel:0 holds values that are not finite"),
        (
            replaced(KERNEL, lambda file: file.__setitem__(KERNEL, h5py.ExternalLink("/etc/other.h5", "/x"))),
            "stem_conv/stem_conv/kernel:0 is a link to elsewhere",
        ),
        (
            replaced("stem_conv", lambda file: file.__setitem__("stem_conv", h5py.SoftLink("/class_8"))),
            "stem_conv is a link to elsewhere",
        ),
        (endless, "is in more groups than Keras writes"),
        (crowd, "more than 10000 objects"),
    ],
)
def test_what_is_no_such_file_is_refused(
    change: Callable[[h5py.File], object], message: str, named: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.h5"
    shutil.copyfile(named, path)
    with h5py.File(path, "r+") as file:
        change(file)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory("VmRSS")
    with pytest.raises(ImportWeightsError) as caught:
        read_hdf5(path)
    assert memory("VmHWM") - before < 150_000
    assert message in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 500


def memory(what: str) -> int:
    """Kibibytes that this process takes, by the system's name of the figure."""
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0])


def test_a_damaged_file_is_one_line(named: Path, tmp_path: Path) -> None:
    content = named.read_bytes()
    for part in (content[:8], content[:900], content[: len(content) // 2], content[:8] + b"\xff" * 500):
        (tmp_path / "w.h5").write_bytes(part)
        with pytest.raises(ImportWeightsError, match=r"w\.h5: no HDF5 file as Keras writes it") as caught:
            read_source(str(tmp_path / "w.h5"))
        assert str(caught.value).isprintable()
    (tmp_path / "w.h5").write_bytes(b"text")
    with pytest.raises(ImportWeightsError, match=r"w\.h5: not an HDF5 file"):
        read_source(str(tmp_path / "w.h5"))


def test_other_commands_say_how_to_import(named: Path) -> None:
    with pytest.raises(ModelFileError, match=r"--source .*w\.h5 --output W\.keras"):
        read_config(named)


def test_evaluate_finds_out_what_network_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(import_weights, "CHECK_IMAGES", 6)
    model, config, _ = load_model(root / "rf_keras" / "weights" / "retinaface_mobilenet0.25.keras")
    path = tmp_path / "w.weights.h5"
    model.save_weights(path)
    data = make_dataset(tmp_path / "data", 6, seed=3, size=160)
    figures = evaluate.run(evaluate.Options(model=path, data_dir=data, size="160"))
    assert figures["all"] > 50 and figures["model"] == str(path)
    chosen = f"chosen: activation {config.activation}, anchor sizes {format_anchors(config.anchor_sizes)}"
    told = capsys.readouterr()
    assert chosen in told.out and "deprecated" not in told.err
