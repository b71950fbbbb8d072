from __future__ import annotations

import numpy as np
import pytest

from tflite.anchors import feature_size, make_anchors

REFERENCE = ((16, 32), (64, 128), (256, 512))


def test_count_at_640() -> None:
    anchors = make_anchors(640, 640, (8, 16, 32), REFERENCE)
    assert anchors.shape == (16800, 3)
    assert anchors.dtype == np.float32


def test_order_is_level_row_column_anchor() -> None:
    anchors = make_anchors(32, 64, (8, 16, 32), REFERENCE)
    assert anchors[:4].tolist() == [[4, 4, 16], [4, 4, 32], [12, 4, 16], [12, 4, 32]]
    assert anchors[2 * 8].tolist() == [4, 12, 16]  # the second row
    assert anchors[2 * 32].tolist() == [8, 8, 64]  # the second level
    assert anchors[-1].tolist() == [48, 16, 512]


def test_cells_round_up() -> None:
    assert feature_size(100, 32) == 4
    assert len(make_anchors(100, 33, (32,), ((1,),))) == 4 * 2


def test_one_list_of_sizes_per_stride() -> None:
    with pytest.raises(ValueError, match="one entry per level"):
        make_anchors(32, 32, (8, 16), ((1,),))
