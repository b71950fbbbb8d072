"""Network and training settings: frozen dataclasses, and the named presets that combine them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite.anchors import make_anchors
from tflite.spec import ModelSpec

ACTIVATIONS = ("leaky_relu", "relu")
REFERENCE_ANCHORS = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
SMALL_ANCHORS = ((10.0, 20.0), (32.0, 64.0), (128.0, 256.0))


@dataclass(frozen=True)
class ModelConfig:
    """What the network is; stored in every weights file, so that no later command must be told again.

    Attributes:
        backbone: "mobilenet" (V1, depthwise), "plain" (3×3 convs chosen for int8 on CPU) or "resnet50".
        width: backbone width multiplier (mobilenet: 0.25, 0.5, 1.0).
        activation: "leaky_relu" (slope 0.1, the reference) or "relu".
        neck_channels: FPN channels.
        ssh_channels: output channels of an SSH context module, a multiple of 4 (½ + ¼ + ¼).
        class_logits: 2 (background, face: the reference) or 1 (face − background).
        strides, anchor_sizes: pixels, per level.
        variances: (centre, size) of the box code.
    """

    backbone: str = "mobilenet"
    width: float = 0.25
    activation: str = "leaky_relu"
    neck_channels: int = 64
    ssh_channels: int = 64
    class_logits: int = 2
    strides: tuple[int, ...] = (8, 16, 32)
    anchor_sizes: tuple[tuple[float, ...], ...] = REFERENCE_ANCHORS
    variances: tuple[float, float] = ModelSpec.variances  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}, expected one of {ACTIVATIONS}")
        if self.class_logits not in (1, 2):
            raise ValueError(f"class_logits is {self.class_logits!r}, expected 1 or 2")
        if self.ssh_channels % 4:
            raise ValueError(f"ssh_channels is {self.ssh_channels}, expected a multiple of 4")
        if len({len(level) for level in self.anchor_sizes}) != 1 or len(self.anchor_sizes) != len(self.strides):
            raise ValueError(f"anchor_sizes {self.anchor_sizes} need the same count for each of strides {self.strides}")

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0])

    def anchors(self, height: int, width: int) -> np.ndarray:
        """float32 [A, 3] (cx, cy, size) in pixels for an input of `height` × `width`."""
        return make_anchors(height, width, self.strides, self.anchor_sizes)

    def spec(self, height: int, width: int, **overrides: Any) -> ModelSpec:
        """The device-side spec of this network at one input size."""
        shared = {"strides": self.strides, "anchor_sizes": self.anchor_sizes, "variances": self.variances}
        return ModelSpec(input_height=height, input_width=width, **shared, **overrides)


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data."""
    return dataclasses.asdict(config)


def model_config_from_dict(data: dict[str, Any], name: str = "config") -> ModelConfig:
    """Inverse of `config_to_dict`; unknown settings are errors."""
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{name}: unknown model settings {unknown}, expected some of {sorted(known)}")
    data = dict(data)
    for key in ("strides", "variances"):
        if key in data:
            data[key] = tuple(data[key])
    if "anchor_sizes" in data:
        data["anchor_sizes"] = tuple(tuple(float(size) for size in level) for level in data["anchor_sizes"])
    return ModelConfig(**data)
