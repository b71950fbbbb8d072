"""Read RetinaFace weights out of a PyTorch state dict with the names of biubug6/Pytorch_Retinaface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rf_keras.importing.source_weights import (
    BatchNorm,
    Conv,
    ImportWeightsError,
    SourceWeights,
    config_from_shapes,
    conv_layers,
)
from rf_keras.model import build_model

PREFIX = "module."  # of models trained with DataParallel
HEADS = {"class": "ClassHead", "box": "BboxHead", "landmark": "LandmarkHead"}
SSH = {"3": "conv3X3", "5_1": "conv5X5_1", "5_2": "conv5X5_2", "7_2": "conv7X7_2", "7_3": "conv7x7_3"}
LEVEL = {"8": 1, "16": 2, "32": 3}
WITHOUT_USE = "num_batches_tracked"


def torch_names(layer: str) -> tuple[str, str | None]:
    """Names in the state dict, without `.weight`, of a Keras conv layer and of the BN behind it (None for heads)."""
    part, _, rest = layer.removesuffix("_conv").partition("_")
    if part in HEADS:
        return f"{HEADS[part]}.{LEVEL[rest] - 1}.conv1x1", None
    if part == "stem":
        return "body.stage1.0.0", "body.stage1.0.1"
    if part == "fpn":
        kind, stride = rest.split("_")
        base = f"fpn.{'output' if kind == 'lateral' else kind}{LEVEL[stride]}"
        return f"{base}.0", f"{base}.1"
    if part == "ssh":
        stride, branch = rest.split("_", 1)
        base = f"ssh{LEVEL[stride]}.{SSH[branch]}"
        return f"{base}.0", f"{base}.1"
    block, kind = rest.split("_")
    # The stem is block 0 of stage 1; a block is conv, BN, activation twice, depthwise and pointwise.
    base, first = f"body.{part}.{int(block) - (part != 'stage1')}", {"dw": 0, "pw": 3}[kind]
    return f"{base}.{first}", f"{base}.{first + 1}"


def read_state(state: Mapping[str, np.ndarray], name: str) -> SourceWeights:
    """Weights by their names; the file tells neither activation nor anchors.

    Args:
        state: name → array, with or without the prefix "module.".
        name: what to call the file in errors.

    Raises:
        ImportWeightsError: names are missing, unknown, or of another backbone.
    """
    state = {key.removeprefix(PREFIX): value for key, value in state.items() if not key.endswith(WITHOUT_USE)}
    used: set[str] = set()

    def get(key: str) -> np.ndarray:
        if key not in state:
            first = ", ".join(sorted(state)[:3])
            raise ImportWeightsError(
                f"{name}: no weights {key!r} among {len(state)} ({first}, …); "
                "expected biubug6/Pytorch_Retinaface names with a MobileNetV1 backbone"
            )
        used.add(key)
        return np.asarray(state[key], np.float32)

    def conv(layer: str) -> Conv:
        base, norm = torch_names(layer)
        kernel = get(f"{base}.weight")
        if norm is None:
            return Conv(kernel, get(f"{base}.bias"))
        gamma, beta, mean, variance = (get(f"{norm}.{p}") for p in ("weight", "bias", "running_mean", "running_var"))
        return Conv(kernel, None, BatchNorm(gamma, beta, mean, variance))

    config = config_from_shapes(name, conv("stem_conv"), conv("ssh_8_3_conv"), conv("class_8"), conv("box_8"))
    convs = {layer: conv(layer) for layer in conv_layers(build_model(config))}
    if unknown := sorted(set(state) - used):
        raise ImportWeightsError(f"{name}: {len(unknown)} weights have no place here, e.g. {unknown[0]!r}")
    return SourceWeights(name, config, convs, None)


def read_torch(path: Path) -> SourceWeights:
    """Weights of a `.pth` file, loaded without running any code that a pickle may carry.

    Raises:
        ImportWeightsError: PyTorch is missing, or the file is not such a state dict.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportWeightsError(f"{path}: reading .pth files needs PyTorch: pip install torch") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        reason = str(error).strip().splitlines()[0]
        raise ImportWeightsError(f"{path}: not a PyTorch file of plain weights ({reason})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ImportWeightsError(f"{path}: holds {type(state).__name__}, expected a state dict of tensors")
    return read_state({key: value.float().numpy() for key, value in state.items()}, str(path))
