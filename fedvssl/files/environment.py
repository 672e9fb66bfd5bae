"""Machine and versions of a run, recorded in its folder as `environment.json` for later readers.

A list, because a run may be continued elsewhere. One entry:
    {"done": 0, "started": "2026-01-31T12:00:00+00:00", "processor": "AMD EPYC", "cores": 2, "memory_bytes": 8192000000,
     "gpus": ["NVIDIA H200, 143771 MiB, driver 570.86"], "system": "Linux-6.1...",
     "versions": {"python": "3.11.2", "torch": "2.15.0", ...}, "revision": "a087a95c1b2d-dirty"}
"done" counts the rounds or epochs before this entry; "revision" is None if the package is not in a checkout.
"""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fedvssl
from fedvssl.files.atomic import read_json, write_json

ENVIRONMENT_FILE = "environment.json"
PACKAGES = ("torch", "torchvision", "flwr", "ray", "numpy", "lightning")
Facts = dict[str, Any]


def record_environment(folder: Path, *, done: int = 0) -> None:
    """Add this machine to the folder's environment.json, unless it made the last of the `done` rounds or epochs too."""
    path = folder / ENVIRONMENT_FILE
    entries = [entry for entry in read_environment(path) if entry["done"] < done]  # later starts saved nothing
    facts = environment()
    if entries and {name: entries[-1].get(name) for name in facts} == facts:
        return
    entries.append({"done": done, "started": datetime.now(UTC).isoformat(timespec="seconds"), **facts})
    write_json(path, entries)


def read_environment(path: Path) -> list[Facts]:
    """Read an environment.json; [] if it is missing or damaged, because no run should end over it."""
    try:
        entries = read_json(path)
        return [entry for entry in entries if isinstance(entry["done"], int)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def environment() -> Facts:
    """Facts about the machine and the software of this process."""
    return {
        "processor": processor(),
        "cores": num_cores(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "system": platform.platform(),
        "versions": versions(),
        "revision": revision(Path(fedvssl.__file__).parent),
    }


def machine(precision: str) -> str:
    """One line for a table of figures: "AMD EPYC, 2 cores, no GPU, bf16-mixed, torch 2.15.0"."""
    hardware = f"{processor()}, {num_cores()} cores, {'; '.join(gpus()) or 'no GPU'}"
    return f"{hardware}, {precision}, torch {versions()['torch']}"


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def processor() -> str:
    """Processor name under Linux, processor type elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return name[1] if name else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """One line for each NVIDIA GPU that this process may use; nvidia-smi takes no GPU memory to answer, torch would."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    lines = (visible and _output([*query, f"--id={visible}"])) or _output(query)  # a part of a GPU has no such line
    return [f"{name}, driver {driver}" for name, _, driver in (line.rpartition(", ") for line in lines.splitlines())]


def gpu_bytes() -> int:
    """Bytes of the smallest NVIDIA GPU of this machine, whether this process may use it or not; 0 without one."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return min((int(line) << 20 for line in _output(query).splitlines() if line.strip().isdigit()), default=0)


def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that decide its numbers, read without importing them."""
    from importlib import metadata  # it loads the package of e-mail messages, and every command starts with this module

    found = {"python": platform.python_version(), "fedvssl": fedvssl.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def revision(package: Path) -> str | None:
    """Git revision of a checkout, with "-dirty" if tracked files are changed; None for an installed package."""
    git = ["git", "-C", str(package)]
    if not _output([*git, "ls-files", "__init__.py"]):  # a .venv inside a checkout is no part of it
        return None
    return _output([*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]) or None


def _output(command: list[str]) -> str:
    """Output of a command; empty if the command is not installed, fails or takes more than 10 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
