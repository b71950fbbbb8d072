"""Training side of RetinaFace for Keras: data, model, losses, training, evaluation, weight import."""

import os
import sys

import retinaface_keras

if problem := retinaface_keras.other_tflite():
    if sys.argv[:1] == ["-m"]:  # python -m rf_keras.…: one line instead of a traceback
        sys.exit(f"error: {problem}")
    raise ImportError(problem)

# TFMOT's quantization-aware training knows Keras 2 only; this must be set before TensorFlow loads.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's kernels: 1.6 times the training speed on AVX2. TensorFlow turns them on by itself only for newer CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from rf_keras.quiet import load_quietly

load_quietly("tensorflow")
