"""Weights to an int8 file, from Python: python examples/convert_in_python.py WEIGHTS PHOTOS OUTPUT.tflite [SIZE]

PHOTOS is a folder with pictures as the model will see them, for calibration; labels are not needed.
"""

import sys
from pathlib import Path

from quantization.convert import Options, run
from tflite import FaceDetector

weights, photos, output, *size = sys.argv[1:]
figures = run(
    Options(
        int8=True, weights=Path(weights), data_dir=(Path(photos),), output=Path(output), size=size[0] if size else None
    )
)
print(f"{figures['bytes']} bytes, warnings: {figures['warnings'] or 'none'}")

with FaceDetector(output) as detector:
    print(f"default threshold {detector.spec.score_threshold}, runs on {detector.interpreter_name}")
