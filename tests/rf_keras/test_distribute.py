"""Two replicas compute what one does with the whole batch: counts, losses, gradients, BN statistics, average."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from rf_keras.synthetic import make_dataset


def test_two_replicas_equal_one(tmp_path: Path, root: Path) -> None:
    data = make_dataset(tmp_path / "faces", 20, seed=3, size=96)
    results = []
    for replicas in (1, 2):
        output = tmp_path / f"{replicas}.npz"
        command = [sys.executable, "-m", "tests.rf_keras.distributed_steps", str(replicas), str(data), str(output)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(np.load(output))
    one, two = results
    assert one["losses"][0] != one["losses"][-1]  # it did train
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4)
    for name in one.files:
        # One replica's fused BN kernel keeps the unbiased variance, n/(n−1) times the other; n is 4 × 2² at the least.
        relative = 0.07 if "moving_variance" in name else 0.0
        np.testing.assert_allclose(two[name], one[name], rtol=relative, atol=1e-4, err_msg=name)
