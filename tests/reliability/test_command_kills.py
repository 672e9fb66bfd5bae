"""Two commands killed at one point each; tests/reliability/command_kills.py has all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.command_killer import chosen

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_command_is_made_up_for() -> None:
    """In a process of its own, because a fork of this one would have its threads and locks."""
    words = ["-m", "tests.reliability.command_kills", "--points", "1", "--full_points", "0", "finetune", "export"]
    killed = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == 0, killed.stdout + killed.stderr
    told = [line.split(" points")[0] for line in killed.stdout.splitlines()]
    assert told == ["finetune, killed: 1", "export, killed: 1"]


def test_operations_are_chosen_from_the_first_write_to_the_last() -> None:
    seen = ["read", "write", "fsync", "replace", "read", "append", "unlink"]
    assert chosen(seen, 3) == [2, 4, 7] and chosen(seen, 2) == [2, 7]
    assert chosen(seen, 6) == [2, 3, 4, 5, 6, 7] and chosen(seen, 10) == [1, 2, 3, 4, 5, 6, 7]
