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
from torch.utils.data import DataLoader
from fedvssl.training.memory import keep_freed_memory, release_freed_memory
keep_freed_memory()
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1])
for _ in range(3):
    torch.ones(16 << 20)
kept = resident()
release_freed_memory(DataLoader([0], num_workers=0))
alone = resident()
release_freed_memory(DataLoader([0], num_workers=1))
print(kept - alone, kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_is_given_back_before_a_fork_only() -> None:
    printed = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, check=True).stdout
    without_workers, with_workers = (4096 * int(pages) for pages in printed.split())
    assert without_workers < 5e6 < 50e6 < with_workers


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_used_again_without_page_faults() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", MEASURE.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("keep_freed_memory()", "")
    )
    assert 4 * kept < returned
