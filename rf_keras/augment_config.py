"""What augmentation does to an image: settings and the named presets. The operations are in `augment`."""

from __future__ import annotations

from dataclasses import dataclass, replace

REFERENCE_CROPS = (0.3, 0.45, 0.6, 0.8, 1.0)
INTERPOLATIONS = ("bilinear", "nearest", "area", "bicubic", "lanczos")
CLOSEUP_FACE = 64.0  # pixels of the file: both sides of a face that is shown from close by


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to an image between the file and the batch.

    Attributes:
        crop_scales: sides of the square window as shares of the image's short side, one drawn per image; above 1 the
            window reaches over the image and is filled with the mean. Empty: the whole image, letterboxed.
        crop_trials: windows drawn per image; the first that holds a whole face is used, else the whole image is.
        brightness: largest shift, in grey levels (0-255).
        contrast, saturation: range of the factor.
        hue: largest shift in OpenCV's 0-180 units (two degrees each).
        colour_chance: probability of each of the four.
        reference_colour: HSV in the reference's order, clipped after every step; else one 3×3 matrix for all four
            (saturation and hue then turn and stretch the chroma plane of YIQ).
        flip_chance: probability of a mirror image.
        interpolations: one is drawn per image, of `INTERPOLATIONS`.
        min_face: pixels after resizing; a face whose shorter side is less is no target (nor does it count as the whole
            face that a window needs). The reference drops none. Matching gives such a face no anchor when its best IoU
            is below 0.2, so a value near √0.2 × the smallest anchor changes nothing but saves work.
        clip_landmarks: pull points outside the window onto its border, as the reference does.
        mix_share: share of the images that are mixed with another of their batch (`distillation.mixing`). Faces stay as
            they were, so only a teacher, who is asked about the mixed image, gives it true targets.
        closeup_share: share of the images, of those with a face of at least `CLOSEUP_FACE` pixels and known landmarks,
            that show one such face filling the frame (`augment.choose_closeup`) instead of a window of `crop_scales`.
    """

    crop_scales: tuple[float, ...] = ()
    crop_trials: int = 50
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: float = 0.0
    colour_chance: float = 0.5
    reference_colour: bool = False
    flip_chance: float = 0.0
    interpolations: tuple[str, ...] = ("bilinear",)
    min_face: float = 0.0
    clip_landmarks: bool = False
    mix_share: float = 0.0
    closeup_share: float = 0.0

    def __post_init__(self) -> None:
        if not all(0.05 <= scale <= 8 for scale in self.crop_scales):
            raise ValueError(f"crop_scales is {self.crop_scales}, expected shares of the short side from 0.05 to 8")
        if self.crop_trials < 1:
            raise ValueError(f"crop_trials is {self.crop_trials}, expected at least 1")
        for name in ("colour_chance", "flip_chance", "mix_share", "closeup_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability")
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {(low, high)}, expected 0 <= low <= high")
        if self.brightness < 0 or not 0 <= self.hue <= 90 or self.min_face < 0:
            raise ValueError(
                f"brightness {self.brightness}, hue {self.hue}, min_face {self.min_face}: expected >= 0, hue <= 90"
            )
        if not self.interpolations or set(self.interpolations) - set(INTERPOLATIONS):
            raise ValueError(f"interpolations is {self.interpolations}, expected one or more of {INTERPOLATIONS}")

    @property
    def has_colour(self) -> bool:
        changes = self.brightness or self.hue or self.contrast != (1.0, 1.0) or self.saturation != (1.0, 1.0)
        return bool(changes and self.colour_chance)

    @property
    def needs_teacher(self) -> bool:
        """Whether images change in ways that their labels do not follow."""
        return self.mix_share > 0


# Windows larger than the image, as SCRFD (Guo et al. 2021, section 3.1) has them: many more small faces.
SCALE = AugmentConfig(
    crop_scales=(0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0),
    brightness=32.0,
    contrast=(0.5, 1.5),
    saturation=(0.5, 1.5),
    hue=18.0,
    flip_chance=0.5,
    interpolations=("bilinear", "nearest", "area", "bicubic"),
    min_face=4.0,
)

PRESETS = {
    # Letterbox only: calibration, validation.
    "none": AugmentConfig(),
    # Pytorch_Retinaface's data_augment.py.
    "reference": AugmentConfig(
        crop_scales=REFERENCE_CROPS,
        crop_trials=250,
        brightness=32.0,
        contrast=(0.5, 1.5),
        saturation=(0.5, 1.5),
        hue=18.0,
        reference_colour=True,
        flip_chance=0.5,
        interpolations=INTERPOLATIONS,
        clip_landmarks=True,
    ),
    "scale": SCALE,
    # For training by a teacher, who is asked about what the student sees.
    "mixed": replace(SCALE, mix_share=0.3),
    # Quantization-aware fine-tuning: the ranges must stay those of ordinary photos.
    "light": AugmentConfig(
        crop_scales=(0.8, 1.0, 1.25, 1.5),
        brightness=16.0,
        contrast=(0.8, 1.2),
        saturation=(0.8, 1.2),
        hue=4.0,
        flip_chance=0.5,
    ),
}
