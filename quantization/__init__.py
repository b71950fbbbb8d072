"""Float model → int8 .tflite: calibration, quantization-aware fine-tuning, conversion, comparison."""

import rf_keras  # noqa: F401  (selects Keras 2 before TensorFlow loads)
