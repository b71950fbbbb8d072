"""The models that ship with the package, by short names: "fast_640" is models/retinaface_fast_640_int8.tflite."""

from __future__ import annotations

from pathlib import Path

from tflite.messages import printable
from tflite.spec import SpecError

MODELS = Path(__file__).parent / "models"
DEFAULT_NAME = "fast_640"
PREFIX, SUFFIX = "retinaface_", "_int8.tflite"
DEFAULT_MODEL = MODELS / f"{PREFIX}{DEFAULT_NAME}{SUFFIX}"


def model_names() -> list[str]:
    """Short names of all shipped models, sorted."""
    return sorted(path.name[len(PREFIX) : -len(SUFFIX)] for path in MODELS.glob(f"{PREFIX}*{SUFFIX}"))


def find_model(model: str | Path | None) -> Path:
    """The file that `model` means.

    Args:
        model: a short name, a path, or None for the default model. A name wins over a file of the same name in the
            working folder: write "./fast_320" for such a file.

    Returns:
        Its path; a path is returned as given, whether or not there is such a file.

    Raises:
        SpecError: neither a file nor a shipped model has that name, or none is given and none is shipped here.
    """
    if model is None:
        if not DEFAULT_MODEL.exists():
            raise SpecError(f"{DEFAULT_MODEL}: no model is shipped here, expected a .tflite file")
        return DEFAULT_MODEL
    names = model_names()
    if isinstance(model, str) and model in names:
        return MODELS / f"{PREFIX}{model}{SUFFIX}"
    path = Path(model)
    if isinstance(model, str) and "." not in model and not path.exists():
        choices = f"a .tflite file or one of {', '.join(names)}" if names else "a .tflite file"
        raise SpecError(f"{printable(model)}: no such model, expected {choices}")
    return path
