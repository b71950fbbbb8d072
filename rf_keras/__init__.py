"""Training side of RetinaFace for Keras: data, model, losses, training, evaluation, weight import."""

import os

# TFMOT's quantization-aware training knows Keras 2 only; this must be set before TensorFlow loads.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
