"""Tiny models that obey the contract: a bright square is a face, so that tests know what must come out."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tflite.stub import stub  # noqa: F401  # a fixture of these tests
from tflite.mesh import MeshBasis, attach_basis, basis_from_bytes
from tflite.spec import ModelSpec, attach_spec

HEIGHT, WIDTH = 64, 96


def build_model(height: int, width: int, int8: bool, fixed: bool = False, mesh: int = 0) -> bytes:
    """A .tflite flatbuffer: one pooled 1×1 conv per output.

    An anchor's logit is 20·(mean brightness of its cell / 127 − 0.5) + 2 for the first anchor of a cell, 2 less for the
    second; box and landmark deltas depend a little on the channels, so that no output is constant. `fixed`: with a
    view in between, whose shapes are constants. `mesh`: coefficients of an anchor, 0 for a model without.
    """
    import tensorflow as tf

    random = np.random.default_rng(7)
    weights = {}
    for stride in (8, 16, 32):
        for kind, channels in (("score", 2), ("box", 8), ("landmark", 20), ("mesh", 2 * mesh)):
            if not channels:
                continue
            kernel = random.normal(0, 0.004, (1, 1, 3, channels))
            bias = random.normal(0, 0.2, channels)
            if kind == "score":
                kernel, bias = np.full((1, 1, 3, 2), 20 / 127 / 3), np.array([-8.0, -10.0])
            weights[f"{kind}_{stride}"] = kernel.astype(np.float32), bias.astype(np.float32)

    class Tiny(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, height, width, 3), tf.float32, name="image")])
        def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = {}
            if fixed:
                image = tf.reshape(tf.abs(tf.reshape(image, (1, height // 2, 2 * width, 3))), (1, height, width, 3))
            for name, (kernel, bias) in weights.items():
                stride = int(name.rpartition("_")[2])
                cells = tf.nn.avg_pool2d(image, stride, stride, "VALID")
                outputs[name] = tf.nn.conv2d(cells, kernel, 1, "VALID") + bias
            return outputs

    module = Tiny()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        noise = random.uniform(-123, 151, (8, 1, height, width, 3)).astype(np.float32)
        noise[:2] = [[[[[-110.0]]]], [[[[140.0]]]]]
        converter.representative_dataset = lambda: ([image] for image in noise)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def golden_basis() -> MeshBasis:
    """That of tests/golden: four coefficients."""
    text = (Path(__file__).resolve().parent.parent / "golden" / "mesh.json").read_text(encoding="utf-8")
    return basis_from_bytes(base64.b64decode(json.loads(text)["basis"]), "golden")


def build_mesh_model() -> bytes:
    """An int8 model of 64×96 pixels with metadata and a mesh, whose shapes are `golden_basis`."""
    basis = golden_basis()
    spec = ModelSpec(input_height=HEIGHT, input_width=WIDTH, quantization="int8", score_threshold=0.02, source="tests")
    flatbuffer = build_model(HEIGHT, WIDTH, int8=True, mesh=basis.coefficients)
    return attach_basis(attach_spec(flatbuffer, spec), basis)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with int8.tflite, fp32.tflite (both 64×96, with metadata) and bare.tflite (without)."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("int8", "fp32"):
        flatbuffer = build_model(HEIGHT, WIDTH, int8=kind == "int8")
        (folder / "bare.tflite").write_bytes(flatbuffer)
        spec = ModelSpec(input_height=HEIGHT, input_width=WIDTH, quantization=kind, source="tests")
        (folder / f"{kind}.tflite").write_bytes(attach_spec(flatbuffer, spec))
    return folder


def photo(
    height: int = 128, width: int = 192, squares: tuple[tuple[int, int, int], ...] = ((32, 48, 32),)
) -> np.ndarray:
    """uint8 BGR noise around 60 with bright squares (y, x, side): the tiny models' faces."""
    image = np.random.default_rng(3).integers(40, 80, (height, width, 3), dtype=np.uint8)
    for y, x, side in squares:
        image[y : y + side, x : x + side] = 230
    return image
