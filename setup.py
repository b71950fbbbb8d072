"""Packaging. The base install is the device side only; `[train]` adds TensorFlow. BUILD_NOTES.md explains the pins."""

from setuptools import setup

TRAIN = [
    "tensorflow==2.21.0",
    "tf-keras==2.21.0",
    "tensorboard~=2.20",
    "tensorflow-model-optimization==0.8.1",
    "flatbuffers>=25.9",
    "h5py>=3.10",
    "matplotlib>=3.8,<4",
    "scipy>=1.11",
]
PRETRAINED = ["onnx>=1.16,<2", "onnxruntime>=1.16,<2"]
DEV = [
    "pytest==9.2.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.17",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "onnxruntime==1.32.0",
]

setup(
    name="retinaface-keras",
    version="0.1.0",
    description="RetinaFace for Keras: training, quantization-aware fine-tuning, int8 TFLite and a light runtime",
    license="MIT",
    python_requires=">=3.10,<3.14",
    # "." makes an editable install a plain line in a .pth; without it setuptools puts an import hook there, and every
    # start of Python in that environment loads the hook, 15 ms of a cold start.
    package_dir={"": "."},
    packages=["tflite", "rf_keras", "quantization"],
    package_data={"tflite": ["models/*.tflite", "py.typed"], "rf_keras": ["weights/*.keras"]},
    install_requires=[
        "numpy>=1.23,<3",
        "opencv-python-headless>=4.8",
        "pillow>=10",
        "absl-py>=1.4",
        "tqdm>=4.66",
        "ai-edge-litert>=1.4,<3",
    ],
    extras_require={"train": TRAIN, "pretrained": PRETRAINED, "dev": DEV},
)
