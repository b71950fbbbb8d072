"""What the detect command writes of one picture: the annotated one and the crops of its faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tflite.align import align_face
from tflite.blur import PIXELATE, blur_faces
from tflite.detect_options import DetectOptions
from tflite.draw import draw_detections
from tflite.images import write_image
from tflite.outputs import crop_name
from tflite.postprocess import Detections
from tflite.tracking import Tracked


@dataclass(frozen=True)
class PictureWriter:
    """Writes crops and annotated pictures; can be sent to another process.

    Attributes:
        blur: a mode of `blur_faces`; None: boxes are drawn.
        crops: folder for crops; None: none.
        mesh, pose: what is drawn besides boxes.
    """

    blur: str | None
    crops: str | None
    mesh: bool = False
    pose: bool = False

    @staticmethod
    def of(options: DetectOptions) -> PictureWriter:
        hidden = options.blur or options.blur_mode is not None
        blur = (options.blur_mode or PIXELATE) if hidden else None
        return PictureWriter(blur, options.crops, options.mesh, options.pose)

    def annotate(self, image: np.ndarray, found: Detections, tracked: Tracked | None = None) -> np.ndarray:
        """A copy of the uint8 BGR picture with its faces drawn or hidden, also those that tracking knows of."""
        if self.blur is None:
            tracks = tracked.ids if tracked else None
            return draw_detections(image, found, tracks, mesh=self.mesh, pose=self.pose)
        boxes = found.boxes if tracked is None else np.concatenate((found.boxes, tracked.held))
        return blur_faces(image, boxes, self.blur)

    def write_crops(self, name: Path, image: np.ndarray, found: Detections) -> None:
        """One aligned picture per face, by the name of the picture below the folder.

        Raises:
            OSError: one cannot be written.
        """
        for i, points in enumerate(found.landmarks if self.crops else ()):
            write_image(Path(self.crops or "") / crop_name(name, i), align_face(image, points))

    def write(self, name: Path, target: Path | None, image: np.ndarray, found: Detections) -> None:
        """Crops, and the annotated picture at `target` where there is one; raises as `write_crops`."""
        self.write_crops(name, image, found)
        if target is not None:
            write_image(target, self.annotate(image, found))
