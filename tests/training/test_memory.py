"""Freed memory is kept, so that using it again costs no page faults."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import resource, torch
from fedvssl.training.memory import keep_freed_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 << 20)  # beyond what glibc would ever keep by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


RELEASE = """
from pathlib import Path
import torch
from fedvssl.training.memory import keep_freed_memory, release_freed_memory
keep_freed_memory()
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1])
for _ in range(3):
    torch.ones(16 << 20)
kept = resident()
release_freed_memory()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_can_be_given_back() -> None:
    pages = int(subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, check=True).stdout)
    assert pages * 4096 > 50e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_used_again_without_page_faults() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", MEASURE.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("keep_freed_memory()", "")
    )
    assert 4 * kept < returned
