"""Faces of a camera or a video, frame by frame: python examples/webcam.py [0|video.mp4]

Shows them where OpenCV can open windows (pip install opencv-python); Esc ends.
"""

import sys

import cv2

from tflite import FaceDetector
from tflite.draw import draw_detections
from tflite.video import Video

source = sys.argv[1] if len(sys.argv) > 1 else "0"
windows = "GUI:                           NONE" not in cv2.getBuildInformation()
with FaceDetector("fast_320") as detector:
    for number, frame in enumerate(Video(source)):
        faces = detector.detect(frame)
        print(f"frame {number}: {faces}")
        if windows:
            cv2.imshow("faces", draw_detections(frame, faces))
            if cv2.waitKey(1) == 27:
                break
