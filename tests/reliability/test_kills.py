"""A few of the kills of `tests.reliability.kills`, in a process of its own that has no threads when it forks."""

import os
import subprocess
import sys
from pathlib import Path

from tests.reliability.kills import difference

ROOT = Path(__file__).parents[2]


def test_a_killed_run_goes_on_to_what_an_undisturbed_one_leaves():
    words = [sys.executable, "-m", "tests.reliability.kills", "--points", "6", "--no_store"]
    answer = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert sum(line.endswith("  equal") for line in answer.stdout.splitlines()) == 6


def test_whatever_differs_is_named():
    left = {"records": [1], "a.npz": {"w": 1}, "same": None, "gone": None}
    assert difference(left, {"records": [2], "a.npz": {"w": 1}, "same": None, ".left": None}) == ".left gone records"
    assert difference(left, dict(left)) == ""
