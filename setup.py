"""Packaging. The base install is the device side only; `[train]` adds TensorFlow. BUILD_NOTES.md explains the pins."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGES = ("tflite", "rf_keras", "quantization")
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
# LiteRT has no wheel for 32-bit ARM; tflite-runtime, its predecessor, has, but knows NumPy 1 only.
LITERT, TFLITE_RUNTIME = "platform_machine != 'armv7l'", "platform_machine == 'armv7l'"

version = re.search(r'^__version__ = "([^"]+)"', (ROOT / "tflite" / "__init__.py").read_text(encoding="utf-8"), re.M)
assert version is not None

setup(
    name="retinaface-keras",
    version=version[1],
    description="RetinaFace for Keras: training, quantization-aware fine-tuning, int8 TFLite and a light runtime",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The RetinaFace for Keras authors",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    keywords="face detection, RetinaFace, TensorFlow Lite, LiteRT, quantization, int8, Keras",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # "." makes an editable install a plain line in a .pth; without it setuptools puts an import hook there, and every
    # start of Python in that environment loads the hook, 15 ms of a cold start.
    package_dir={"": "."},
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    py_modules=["retinaface_keras"],
    # Not rf_keras/weights: 9 MB that only training needs. rf_keras/weights_files.py finds them in a checkout.
    package_data={
        "tflite": ["py.typed", "models/*.tflite", "models/SHA256SUMS"],
        "rf_keras": ["py.typed"],
        "quantization": ["py.typed"],
    },
    entry_points={"console_scripts": ["retinaface = retinaface_keras:main"]},
    install_requires=[
        f"numpy>=1.23,<3; {LITERT}",
        f"numpy>=1.23,<2; {TFLITE_RUNTIME}",
        "opencv-python-headless>=4.8",
        "pillow>=10",
        "absl-py>=1.4",
        "tqdm>=4.66",
        f"ai-edge-litert>=1.4,<3; {LITERT}",
        f"tflite-runtime>=2.14; {TFLITE_RUNTIME}",
    ],
    # video: H.264, which browsers play; OpenCV's wheels cannot write it. heif: the pictures of iPhones.
    extras_require={
        "train": TRAIN,
        "pretrained": PRETRAINED,
        "onnx": PRETRAINED,
        "video": ["av>=12"],
        "heif": ["pillow-heif>=0.16"],
        "dev": DEV,
    },
)
