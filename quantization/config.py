"""Settings of quantization: frozen dataclasses, importable without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from tflite.command import option

METHODS = ("percentile", "minmax")
DEFAULT_PERCENTILE = 99.995
# The lower tail may lose this many times the values of the upper one: what lies there is mostly what an activation
# will make small, while the largest values are faces.
LOWER_TAIL = 20
LOWEST_PERCENTILE = 97.5  # both tails together may take half of the values


@dataclass(frozen=True)
class Recipe:
    """How a float network becomes int8 without training (`recipe.quantize`).

    Attributes:
        by_use: outputs get the ranges that candidates need, not those of all anchors.
        depthwise_per_tensor: one scale for a whole depthwise kernel, as TFMOT's default has it.
    """

    method: str = option("percentile", "how activation ranges are chosen", choices=METHODS, hidden=True)
    percentile: float = option(
        DEFAULT_PERCENTILE,
        f"upper percentile of method percentile, the lower tail is {LOWER_TAIL} times as large",
        low=LOWEST_PERCENTILE,
        high=100.0,
        hidden=True,
    )
    calibration_images: int = option(128, "images for the ranges, at most", low=1)
    equalize: bool = option(True, "even out the channels in front of depthwise convs before calibration", hidden=True)
    bias_correction: bool = option(True, "take back the mean error of rounding in the biases", hidden=True)
    by_use: bool = True
    depthwise_per_tensor: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if not LOWEST_PERCENTILE <= self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}, expected {LOWEST_PERCENTILE} to 100")
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images is {self.calibration_images}, expected at least 1")

    def __str__(self) -> str:
        method = f"percentile {self.percentile:g}" if self.method == "percentile" else self.method
        return method + ", biases corrected" * self.bias_correction
