"""The int8 recipe as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from quantization.config import Recipe
from quantization.graph import FoldedNetwork, Ranges
from quantization.recipe import export_int8, quantize, with_stored_ranges
from quantization.tflite_graph import read_graph
from quantization.verify import kernels

from .conftest import SIZE


def weights(network: FoldedNetwork, place: int) -> list[np.ndarray]:
    """All kernels (0) or biases (1)."""
    return [layer.get_weights()[place] for layer in network.convs]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_step_changes_what_it_should(folded: FoldedNetwork, images: np.ndarray) -> None:
    plain = quantize(folded, images[:8], Recipe(equalize=False, bias_correction=False))
    assert plain.network is plain.reference is folded
    corrected = quantize(folded, images[:8], Recipe(equalize=False))
    assert corrected.reference is folded and corrected.ranges == plain.ranges
    assert same(weights(corrected.network, 0), weights(folded, 0))
    assert not same(weights(corrected.network, 1), weights(folded, 1))
    both = quantize(folded, images[:8], Recipe())
    assert not same(weights(both.reference, 0), weights(folded, 0))
    assert same(weights(both.network, 0), weights(both.reference, 0))
    assert not same(weights(both.network, 1), weights(both.reference, 1))


def test_ranges_of_an_older_run_are_aligned(folded: FoldedNetwork, ranges: Ranges) -> None:
    low, high = ranges["stem_act"]
    older = ranges | {"stem_act": (1.1 * low, 1.1 * high)}
    found = with_stored_ranges(folded, {"quantization": {"size": [SIZE, SIZE], "ranges": older}})
    assert found is not None and found.ranges["stem_act"] == pytest.approx(older["stem_act"])
    assert found.ranges["stem_conv"] == pytest.approx([1.1 * side for side in ranges["stem_conv"]], rel=1e-5)
    assert with_stored_ranges(folded, {"train": {}}) is None
    for other in ({}, older | {"stem_act": (1.0, -1.0)}):
        with pytest.raises(ValueError, match=r"quantization range of .* expected two rising numbers"):
            with_stored_ranges(folded, {"quantization": {"size": [SIZE, SIZE], "ranges": other}})


def test_one_scale_for_depthwise_kernels_only(folded: FoldedNetwork, images: np.ndarray) -> None:
    files = {}
    for one_scale in (False, True):
        recipe = Recipe("minmax", by_use=False, bias_correction=False, equalize=False, depthwise_per_tensor=one_scale)
        spec = folded.config.spec(SIZE, SIZE, quantization="int8-ptq", source="random")
        content, _ = export_int8(quantize(folded, images, recipe), spec)
        files[one_scale] = [(name, kernel.scales) for name, kernel in kernels(read_graph(content))]
    depthwise = 0
    for (name, one), (same_name, many) in zip(files[True], files[False], strict=True):
        assert name == same_name and len(np.unique(many)) > 1
        depthwise += "_dw" in name
        np.testing.assert_array_equal(one, many.max() if "_dw" in name else many)
    assert depthwise > 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "mse"}, "method is 'mse', expected one of percentile, minmax"),
        ({"percentile": 90.0}, r"percentile is 90\.0, expected 97\.5 to 100"),
        ({"calibration_images": 0}, "calibration_images is 0, expected at least 1"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)  # type: ignore[arg-type]
