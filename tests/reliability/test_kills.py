"""A few of the kills of `tests.reliability.kills`, in a process of its own that has no threads when it forks."""

import os
import subprocess
import sys
from pathlib import Path

from tests.reliability.kills import difference, spread

ROOT = Path(__file__).parents[2]


def test_a_killed_run_goes_on_to_what_an_undisturbed_one_leaves():
    words = [sys.executable, "-m", "tests.reliability.kills", "--points", "4", "--no_store"]
    answer = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=550
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    seen = "equal: 1 of 1 renames, 1 of 1 deletions, 1 of 1 half lines, 1 of 1 scalars"
    assert answer.stdout.splitlines()[-1] == seen


def test_kills_are_spread_over_a_run_and_its_kinds_of_writes():
    kinds = ["replace", "line", "scalars", "replace", "unlink", "line", "scalars", "replace", "line"]
    assert spread(kinds, 4) == [1, 5, 6, 7] and spread(kinds, 5) == [1, 5, 6, 7, 8]


def test_whatever_differs_is_named():
    left = {"records": [1], "a.npz": {"w": 1}, "same": None, "gone": None}
    assert difference(left, {"records": [2], "a.npz": {"w": 1}, "same": None, ".left": None}) == ".left gone records"
    assert difference(left, dict(left)) == ""
