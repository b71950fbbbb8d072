"""decode + NMS against tests/golden: the vectors that Kotlin reads too."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tflite.anchors import feature_size, make_anchors
from tflite.decode import decode_outputs, min_quantized_score
from tflite.mesh import MeshOutputs, axes, basis_from_bytes
from tflite.postprocess import detections_from_candidates
from tflite.preprocess import input_table, letterbox_size
from tflite.shapes import auto_shape
from tflite.spec import ModelSpec

FOLDER = Path(__file__).resolve().parent.parent / "golden"
INDEX = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
DATA = (FOLDER / "golden.bin").read_bytes()
MESH = json.loads((FOLDER / "mesh.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in INDEX["cases"]}
WIDTHS = {"score": 2, "box": 8, "landmark": 20}


def array(offset: int, dtype: str, *shape: int) -> np.ndarray:
    return np.frombuffer(DATA, np.dtype(dtype).newbyteorder("<"), int(np.prod(shape)), offset).reshape(shape)


def test_enough_cases_of_every_kind() -> None:
    kinds = {case["name"].partition("_")[0] for case in INDEX["cases"]}
    assert kinds == {"plain", "ties", "outside", "extreme", "empty", "all", "nonfinite", "step", "crowd"}
    assert len(INDEX["cases"]) >= 200
    assert len({case["name"] for case in INDEX["cases"]}) == len(INDEX["cases"])
    assert max(case["expected"]["candidates"] for case in INDEX["cases"]) == 5000


def read_case(case: dict[str, Any]) -> tuple[ModelSpec, dict[str, np.ndarray], dict[str, tuple[float, int]]]:
    """Spec, outputs and their quantization."""
    height, width = case["input"]
    sizes = tuple(map(tuple, case["anchor_sizes"]))
    settings = ("score_threshold", "iou_threshold", "max_candidates", "max_faces")
    spec = ModelSpec(
        input_height=height,
        input_width=width,
        strides=tuple(case["strides"]),
        anchor_sizes=sizes,
        variances=tuple(case["variances"]),
        **{key: case[key] for key in settings},
    )
    tensors, params = {}, {}
    for name, (offset, scale, zero_point) in case["tensors"].items():
        kind, _, stride = name.partition("_")
        rows, columns = feature_size(height, int(stride)), feature_size(width, int(stride))
        tensors[name] = array(offset, case["dtype"], 1, rows, columns, WIDTHS[kind])
        params[name] = (scale, zero_point)
    return spec, tensors, params


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_faces(case: dict[str, Any]) -> None:
    spec, tensors, params = read_case(case)
    for stride, least in zip(spec.strides, case["min_quantized"], strict=False):
        assert min_quantized_score(spec.score_threshold, *params[f"score_{stride}"], np.int8) == least
    anchors = make_anchors(*case["input"], spec.strides, spec.anchor_sizes)
    candidates = decode_outputs(tensors, anchors, spec, spec.score_threshold, params)
    faces = detections_from_candidates(candidates, spec, tuple(case["image"]), case["scale"])

    expected, count = case["expected"], case["expected"]["count"]
    assert len(candidates.anchors) == expected["candidates"]
    assert len(faces) == count
    boxes = array(expected["boxes"], "float32", count, 4)
    np.testing.assert_allclose(faces.boxes, boxes, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(faces.scores, array(expected["scores"], "float32", count), rtol=0, atol=1e-6)
    landmarks = array(expected["landmarks"], "float32", count, 10).reshape(count, 5, 2)
    np.testing.assert_allclose(faces.landmarks, landmarks, rtol=1e-6, atol=1e-4)
    # The very same anchors: each face is the candidate that the list names.
    chosen = np.searchsorted(candidates.anchors, array(expected["anchors"], "int32", count))
    np.testing.assert_array_equal(candidates.landmarks[chosen] / np.float32(case["scale"]), faces.landmarks)


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<"))


@pytest.mark.parametrize("wanted", MESH["cases"], ids=lambda wanted: wanted["case"])
def test_meshes_and_poses(wanted: dict[str, Any]) -> None:
    case = CASES[wanted["case"]]
    spec, tensors, params = read_case(case)
    basis = basis_from_bytes(base64.b64decode(MESH["basis"]), "golden")
    for name, (text, scale, zero_point) in wanted["tensors"].items():
        rows, columns = (feature_size(side, int(name.partition("_")[2])) for side in case["input"])
        tensors[name] = decoded(text, case["dtype"]).reshape(1, rows, columns, 2 * basis.coefficients)
        params[name] = (scale, zero_point)
    anchors = make_anchors(*case["input"], spec.strides, spec.anchor_sizes)
    candidates = decode_outputs(tensors, anchors, spec, spec.score_threshold, params)
    mesh_of = MeshOutputs(basis, tensors, spec.strides, params if case["dtype"] == "int8" else None)
    faces = detections_from_candidates(candidates, spec, tuple(case["image"]), case["scale"], mesh_of=mesh_of)
    meshes = decoded(wanted["meshes"], "float32").reshape(-1, 468, 3)
    assert faces.mesh is not None and faces.pose is not None and len(faces.mesh) == len(faces) >= len(meshes) > 0
    np.testing.assert_allclose(faces.mesh[: len(meshes)], meshes, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(faces.pose[: len(meshes)], wanted["poses"], rtol=0, atol=1e-3)
    shown = [axes(angles)[:, :2] for angles in faces.pose[: len(meshes)]]
    np.testing.assert_allclose(shown, wanted["axes"], rtol=0, atol=1e-4)


def test_mesh_file_is_what_the_script_writes() -> None:
    from tests.golden import make_mesh

    basis, entries = make_mesh.make_entries()
    assert make_mesh.text_of(basis) == MESH["basis"]
    for entry, wanted in zip(json.loads(json.dumps(entries)), MESH["cases"], strict=True):
        assert {key: entry[key] for key in ("case", "tensors")} == {key: wanted[key] for key in ("case", "tensors")}
        np.testing.assert_allclose(decoded(entry["meshes"], "float32"), decoded(wanted["meshes"], "float32"), rtol=1e-5)
        for key in ("poses", "axes"):
            np.testing.assert_allclose(entry[key], wanted[key], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", INDEX["tables"], ids=lambda case: f"scale {case['scale']:.3f}")
def test_input_tables(case: dict[str, Any]) -> None:
    table = input_table(case["mean"], case["scale"], case["zero_point"], np.int8)
    assert table.dtype == np.int8
    np.testing.assert_array_equal(table, case["values"])


@pytest.mark.parametrize("case", INDEX["letterbox"], ids=lambda case: f"{case['image']} in {case['input']}")
def test_letterbox_sizes(case: dict[str, Any]) -> None:
    rows, columns, scale = letterbox_size(*case["image"], *case["input"])
    assert [rows, columns] == case["resized"]
    assert scale == case["scale"]


def test_files_are_what_the_script_writes() -> None:
    """The tables, and one case of each kind with few anchors: all of them take seconds."""
    from tests.golden import make_golden

    assert json.loads(json.dumps(make_golden.table_cases())) == INDEX["tables"]
    assert json.loads(json.dumps(make_golden.letterbox_cases())) == INDEX["letterbox"]
    cases = make_golden.make_cases()
    assert [case.name for case in cases] == [case["name"] for case in INDEX["cases"]]
    for case, entry in zip(cases, INDEX["cases"], strict=True):
        if case.name.endswith("_01") or case.name in ("nonfinite_1", "step_1"):
            fresh = make_golden.case_entry(case, make_golden.Writer())
            for key in set(fresh) - {"tensors", "expected"}:
                assert json.loads(json.dumps(fresh[key])) == entry[key], key
            assert fresh["expected"]["count"] == entry["expected"]["count"]


@pytest.mark.parametrize("case", INDEX["shapes"], ids=lambda case: f"{case['image']}-{case['own']}")
def test_shapes(case: dict[str, Any]) -> None:
    assert auto_shape(*case["image"], *case["own"]) == tuple(case["input"])
