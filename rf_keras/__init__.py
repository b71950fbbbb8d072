"""Training side of RetinaFace for Keras: data, model, losses, training, evaluation, weight import."""

import os

# TFMOT's quantization-aware training knows Keras 2 only; this must be set before TensorFlow loads.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's kernels: 1.6 times the training speed on AVX2. TensorFlow turns them on by itself only for newer CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
