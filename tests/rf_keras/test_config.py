"""Settings and what follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from rf_keras.config import TAUGHT_THRESHOLD, default_threshold


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, 0.5),
        ({"train": None}, 0.5),
        ({"train": {"teacher": None}}, 0.5),
        ({"train": {"teacher": "scrfd.onnx"}}, TAUGHT_THRESHOLD),
    ],
)
def test_default_threshold(meta: dict[str, Any], expected: float) -> None:
    assert default_threshold(meta) == expected
