"""`python -m tflite` is `python -m tflite.detect`."""

from tflite.command import start
from tflite.detect import DetectOptions, detect_files

if __name__ == "__main__":
    start(detect_files, DetectOptions)
