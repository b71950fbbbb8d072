"""Evenly spaced picks."""

from __future__ import annotations

from rf_keras.selection import evenly_spaced


def test_evenly_spaced() -> None:
    items = list("abcdefghij")
    assert evenly_spaced(items, 3) == ["a", "e", "j"]
    assert evenly_spaced(items, 5) == ["a", "c", "e", "h", "j"]  # 0, 2¼, 4½, 6¾ and 9
    assert evenly_spaced(items, 1) == ["a"]
    assert evenly_spaced(items, 99) == items
    assert evenly_spaced([], 3) == []
