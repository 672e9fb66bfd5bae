"""Seconds from Enter to the first training step of a run with clients in this process, and where they go.

    python -m benchmarks.first_step

Ours is `fedvssl.main experiment=small engine=local` on one tiny video for each of three clients; the baseline is the
same run in Flower's simulation. A step begins when a client opens its log. Each time is that of a new process, with
files in the cache of the system after a warm-up.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Result, alternate
from fedvssl.data.annotations import Annotation, write_annotations

ROOT = Path(__file__).parents[1]
REPEATS, LIMIT = 5, 5.0  # seconds
NUM_CLIENTS = 3
# What a run imports, in this order; `PARTS` prints the seconds of each, and first those of composing its configuration.
IMPORTED = {
    "torch": ("torch",),
    "torchvision": ("torchvision.ops",),
    "Lightning": ("lightning.fabric",),
    "ours": ("fedvssl.preflight", "fedvssl.server_run", "fedvssl.client.training"),
}
PARTS = """
import importlib, sys, time
begun = time.perf_counter()
from fedvssl.config import compose
compose("base", ["experiment=small"])
print(time.perf_counter() - begun)
for modules in sys.argv[1:]:
    begun = time.perf_counter()
    for module in modules.split():
        importlib.import_module(module)
    print(time.perf_counter() - begun)
"""
SETTINGS = ("experiment=small", "rounds=1", "training.local_epochs=1", "training.warmup_steps=0")


def write_data(folder: Path) -> None:
    """One video of 48x36 pixels, which every client has."""
    from data_tools.synthetic import make_video, write_video

    write_video(
        folder / "videos/v.avi", make_video("Drift", np.random.default_rng(0), width=48, height=36, num_frames=20)
    )
    for number in range(1, NUM_CLIENTS + 1):
        write_annotations(folder / f"client_dist{number}.json", [Annotation("v", 0)])


def seconds_to_first_step(engine: str, data: Path) -> float:
    """Seconds until a client of a new run opens its log; the run then goes on to its end."""
    with tempfile.TemporaryDirectory() as folder:
        places = (f"data.media_dir={data / 'videos'}", f"partition_dir={data}", f"hydra.run.dir={folder}/run")
        command = [sys.executable, "-m", "fedvssl.main", *SETTINGS, *places, f"engine={engine}"]
        started = time.perf_counter()
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log) as run,
        ):
            while not any(Path(folder).glob("run/clients/*/train.log")) and run.poll() is None:
                time.sleep(0.005)
            seconds = time.perf_counter() - started
            if run.wait():
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} failed:\n{log.read().decode()[-2000:]}")
    return seconds


def environment() -> dict[str, str]:
    silence = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **silence, "PYTHONPATH": str(ROOT)}


def seconds_of_parts() -> dict[str, float]:
    """Seconds of composing the configuration and of each import that a run needs, in a process of their own."""
    command = [sys.executable, "-c", PARTS, *map(" ".join, IMPORTED.values())]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    return dict(zip(("composing", *IMPORTED), map(float, told.split()), strict=True))


def measure() -> Result:
    """Seconds to the first step with either engine; prints where they go."""
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        sides = {
            engine: lambda engine=engine: found[engine].append(seconds_to_first_step(engine, Path(folder)))
            for engine in ("local", "simulation")
        }
        found: dict[str, list[float]] = {engine: [] for engine in sides}
        alternate(sides, repeats=REPEATS)
    local, simulation = (found[engine][1:] for engine in ("local", "simulation"))  # without the warm-up
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in seconds_of_parts().items())
    print(f"of a start: {parts} s; the rest are the interpreter, the checks and building")
    met = "met" if statistics.median(local) <= LIMIT else "NOT met"
    return Result("first_step", "s", local, simulation, note=f"engine=local, simulation; limit {LIMIT:g} s {met}")


def main() -> None:
    print(measure().line())


if __name__ == "__main__":
    main()
