"""Settings and what follows from them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from rf_keras.config import (
    PRESETS,
    TAUGHT_THRESHOLD,
    ModelConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    default_threshold,
)
from rf_keras.distillation.config import Distillation


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, 0.5),
        ({"train": None}, 0.5),
        ({"train": {"teacher": None}}, 0.5),
        ({"train": {"teacher": "scrfd.onnx"}}, TAUGHT_THRESHOLD),
        # Fine-tuned by labels, but taught before.
        ({"train": {"distillation": None}, "parts": [{"teacher": "scrfd.onnx"}, {"teacher": ""}]}, TAUGHT_THRESHOLD),
        ({"parts": [{"teacher": ""}]}, 0.5),
        ({"train": {"distillation": None}}, 0.5),
        ({"train": {"distillation": {"teacher": "scrfd.onnx"}}}, TAUGHT_THRESHOLD),
    ],
)
def test_default_threshold(meta: dict[str, Any], expected: float) -> None:
    assert default_threshold(meta) == expected


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_configurations_come_back_from_json(name: str) -> None:
    config = dataclasses.replace(PRESETS[name], data_dirs=("a",), distillation=Distillation("t.onnx"), augment="mixed")
    assert config_from_dict(TrainConfig, json.loads(json.dumps(config_to_dict(config)))) == config
    assert config_from_dict(ModelConfig, {"backbone": "plain"}).backbone == "fast", "as version 0.1 called it"


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(ValueError, match=r"w\.keras: unknown settings \['depth'\], expected some of"):
        config_from_dict(ModelConfig, {"depth": 3}, "w.keras")
    with pytest.raises(ValueError, match="found list, expected settings of ModelConfig"):
        config_from_dict(ModelConfig, [])


def test_validation_size_is_a_multiple_of_32() -> None:
    assert TrainConfig(val_size="480x640").val_size == "480x640"
    with pytest.raises(ValueError, match="val_size is '100', expected N or HEIGHTxWIDTH, multiples of 32"):
        TrainConfig(val_size="100")


def test_images_without_labels_need_a_teacher() -> None:
    with pytest.raises(ValueError, match="augment is 'mixed', whose images leave their labels behind"):
        TrainConfig(augment="mixed")
    with pytest.raises(ValueError, match="augment is 'wild', expected one of none, reference, scale, mixed, light"):
        TrainConfig(augment="wild")
