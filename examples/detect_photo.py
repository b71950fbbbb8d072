"""Faces of one photo, printed and drawn: python examples/detect_photo.py photo.jpg [faces.jpg]"""

import sys
from pathlib import Path

from tflite import FaceDetector, read_image
from tflite.draw import draw_detections
from tflite.images import write_image

photo, output = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "faces.jpg")
image = read_image(photo)
with FaceDetector() as detector:  # or FaceDetector("fast_320"), FaceDetector("my_model.tflite")
    faces = detector.detect(image)

for face in faces:
    x1, y1, x2, y2 = face.box
    print(f"{face.score:.2f} at {x1:.0f},{y1:.0f}-{x2:.0f},{y2:.0f}, nose at {face.landmarks.nose}")
write_image(output, draw_detections(image, faces))
