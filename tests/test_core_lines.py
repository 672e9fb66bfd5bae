"""The count of lines that a change adds to core files."""

import subprocess
import sys

from tests.core_lines import added, counted
from tests.test_architecture import ROOT


def test_moved_lines_are_old_and_new_ones_are_counted_once() -> None:
    before = ["import a\n\ndef f(x):\n    return x\n", "y = 1\n"]
    after = {"new.py": "def f(x):\n        return x\n", "old.py": "y = 1\ny = 1\nz = 2\n", "same.py": "# why\n"}
    assert added(before, after) == {"old.py": 2}


def test_only_code_counts() -> None:
    head = '"""What.\n\nMore.\n"""\nimport a\nfrom b import c\n'
    text = head + 'def f(\n    x,\n):\n    """Do."""\n    # why\n    return x\n'
    assert counted(text) == {"def f(": 1, "x,": 1, "return x": 1}


def test_an_unknown_commit_is_a_sentence() -> None:
    command = [sys.executable, "-m", "tests.core_lines", "nowhere"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("error: git does not know nowhere")
