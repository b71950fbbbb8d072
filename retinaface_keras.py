"""The `retinaface` command: `retinaface detect photo.jpg` is `python -m tflite.detect photo.jpg`, and so on."""

from __future__ import annotations

import runpy
import sys

DISTRIBUTION = "retinaface-keras"
COMMANDS = {
    "detect": ("tflite.detect", "find faces in images, folders, videos and camera pictures"),
    "benchmark": ("tflite.benchmark", "time and memory of each stage of a detection"),
    "train": ("rf_keras.train", "train a float model on photos or on the built-in synthetic faces"),
    "evaluate": ("rf_keras.evaluate", "WIDER FACE AP and landmark error of a model"),
    "labels": ("rf_keras.labels", "labelled pictures: checked, and from one format to another"),
    "import": ("rf_keras.import_weights", "weights of the reference network as a .keras file"),
    "qat": ("quantization.qat", "quantization-aware fine-tuning"),
    "mesh": ("quantization.train_mesh", "a mesh branch for a trained network: dense faces and head poses"),
    "evaluate-mesh": ("rf_keras.evaluate_mesh", "error of a model's meshes and head poses"),
    "convert": ("quantization.convert", "a .keras file or a run as a .tflite file"),
    "compare": ("quantization.compare", "float and int8 side by side, as a report"),
}
# What only `[train]` and `[pretrained]` install.
TRAINING_PACKAGES = {
    "tensorflow": "train",
    "tf_keras": "train",
    "tensorflow_model_optimization": "train",
    "tensorboard": "train",
    "flatbuffers": "train",
    "h5py": "train",
    "matplotlib": "train",
    "scipy": "train",
    "onnx": "pretrained",
    "onnxruntime": "pretrained",
}


def other_tflite() -> str | None:
    """One line if `import tflite` finds PyPI's unrelated package of that name, or what uninstalling it left of ours."""
    try:
        import tflite

        if getattr(tflite, "DISTRIBUTION", None) == DISTRIBUTION:
            return None
        where = getattr(tflite, "__file__", None) or "without __init__.py"
    except Exception as error:  # the other one fails without flatbuffers
        where = type(error).__name__
    return (
        f"the package tflite here ({where}) is not that of {DISTRIBUTION}, but PyPI's unrelated one or what it left: "
        f"pip uninstall tflite, then install {DISTRIBUTION} again"
    )


def usage() -> str:
    lines = [f"  {name:<13} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["retinaface COMMAND [arguments]; retinaface COMMAND --help lists its flags", "", *lines])


def main() -> None:
    """The command; exits with the code of the command that it runs."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return
    if problem := other_tflite():
        sys.exit(f"error: {problem}")
    if command == "--version":
        from tflite import __version__

        print(f"{DISTRIBUTION} {__version__}")
        return
    if command not in COMMANDS:
        sys.exit(f"error: {command!r} is no command, expected one of {', '.join(COMMANDS)}")
    sys.argv[1:] = arguments
    try:
        runpy.run_module(COMMANDS[command][0], run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING_PACKAGES:
            raise
        extra = TRAINING_PACKAGES[package]
        sys.exit(f"error: retinaface {command} needs {package}: pip install '{DISTRIBUTION}[{extra}]'")


if __name__ == "__main__":
    main()
