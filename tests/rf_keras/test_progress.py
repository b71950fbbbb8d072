"""Means of training steps."""

from __future__ import annotations

import pytest

from rf_keras.progress import Progress, check_finite


def test_means_start_anew_with_each_row() -> None:
    progress = Progress(batch=4)
    progress.add({"loss": 1.0, "box": 2.0})
    progress.add({"loss": 3.0, "box": 2.0})
    assert progress.means == {"loss": 2.0, "box": 2.0}
    means, speed = progress.take()
    assert means == {"loss": 2.0, "box": 2.0} and speed > 0
    progress.add({"loss": 8.0})
    assert progress.means == {"loss": 8.0}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(loss: float) -> None:
    check_finite(1.0, 1, "a.jpg")
    with pytest.raises(
        ValueError, match=r"loss is (nan|inf) at step 7, expected a finite number; batch: a\.jpg, b\.jpg"
    ):
        check_finite(loss, 7, "a.jpg, b.jpg")
