"""Faces as the arrays that supervision's annotators take: python examples/hand_to_supervision.py photo.jpg [faces.jpg]

Without supervision (pip install supervision) it prints them.
"""

import importlib.util
import sys
from pathlib import Path

from tflite import FaceDetector, read_image
from tflite.images import write_image

image = read_image(sys.argv[1])
faces = FaceDetector().detect(image)
print(f"xyxy {faces.boxes.shape}, confidence {faces.scores.shape}, key points {faces.landmarks.shape}")
print(faces.to_coco(image_id=1))
if importlib.util.find_spec("supervision"):
    import supervision as sv

    boxes = sv.Detections(xyxy=faces.boxes, confidence=faces.scores)
    drawn = sv.BoxAnnotator(color_lookup=sv.ColorLookup.INDEX).annotate(image.copy(), boxes)
    drawn = sv.VertexAnnotator(radius=4).annotate(drawn, sv.KeyPoints(xy=faces.landmarks))
    write_image(Path(sys.argv[2] if len(sys.argv) > 2 else "faces.jpg"), drawn)
