"""Split learning in Flower's simulation under Ray, where any process may answer any client's message."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.picture_set import write_picture_set
from tests.split.federation import MOCOSFL, SPLIT

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ray_gives_the_weights_of_direct_calls(tmp_path: Path) -> None:
    """A round of three steps in float32; tests/split/test_rounds.py compares the engines' messages in float64."""
    write_picture_set(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    found = []
    for engine in ("local", "simulation"):
        words = [*SPLIT, *MOCOSFL, "model.width=8", "rounds=1", f"data_dir={tmp_path}"]
        own = [f"engine={engine}", f"hydra.run.dir={tmp_path / engine}"]
        command = [sys.executable, "-m", "fedvssl.main", *(w for w in words if not w.startswith("engine=")), *own]
        subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=550)
        found.append(np.load(tmp_path / engine / "round-1-weights.npz"))
    assert found[0].files == found[1].files
    for name in found[0].files:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-3, atol=1e-4, err_msg=name)
