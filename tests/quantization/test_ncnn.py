"""The documented way to ncnn: convert.py --onnx, then pnnx; the nine outputs stay what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.contestants import convert_to_ncnn
from benchmarks.peers import PeerMissing
from quantization.graph import FoldedNetwork, signature_names
from quantization.onnx_export import to_onnx
from tflite.spec import ModelSpec

from .conftest import SIZE

ncnn = pytest.importorskip("ncnn", reason="the package ncnn is not installed (nor is it needed for anything else)")


def test_outputs_in_ncnn(folded: FoldedNetwork, images: np.ndarray, tmp_path: Path) -> None:
    onnx = tmp_path / "tiny.onnx"
    onnx.write_bytes(to_onnx(folded, ModelSpec()))
    try:
        param = convert_to_ncnn(onnx, (SIZE, SIZE), tmp_path)
    except PeerMissing as error:
        pytest.skip(str(error))
    net = ncnn.Net()
    assert net.load_param(str(param)) == 0 and net.load_model(str(param.with_suffix(".bin"))) == 0
    blob = images[0].astype(np.float32) - np.float32(ModelSpec.mean)
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(blob.transpose(2, 0, 1))))
    for i, (name, expected) in enumerate(zip(signature_names(folded.config), folded.model(blob[None]), strict=True)):
        found = np.array(extractor.extract(f"out{i}")[1]).transpose(1, 2, 0)
        wanted = expected.numpy()[0]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-2 * max(1, np.abs(wanted).max()), err_msg=name)
