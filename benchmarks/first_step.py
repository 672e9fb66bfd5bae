"""Seconds from Enter to the first training step of a run with clients in this process, and where they go.

    python -m benchmarks.first_step

Ours is `fedvssl.main experiment=small engine=local` on one tiny video for each of three clients; the baseline is the
same run in Flower's simulation. A step begins when a client opens its log. Each time is that of a new process, with
files in the cache of the system after a warm-up.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.measure import Result, alternate
from fedvssl.data.annotations import Annotation, write_annotations

ROOT = Path(__file__).parents[1]
REPEATS, LIMIT = 5, 5.0  # seconds
NUM_CLIENTS = 3
IMPORTS = "import fedvssl.preflight, fedvssl.server_run, fedvssl.client.training"
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


def seconds_of_imports() -> dict[str, float]:
    """Seconds of importing what a run needs, by library; measuring them costs some more."""
    command = [sys.executable, "-X", "importtime", "-c", IMPORTS]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stderr
    found: dict[str, float] = defaultdict(float)
    for microseconds, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", told):
        package, _, rest = module.partition(".")
        part = rest.partition(".")[0]
        is_compiler = package == "torch" and part in ("_dynamo", "_inductor")
        found[f"torch.{part}" if is_compiler else package] += int(microseconds) / 1e6
    return found


def measure() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        sides = {
            engine: lambda engine=engine: found[engine].append(seconds_to_first_step(engine, Path(folder)))
            for engine in ("local", "simulation")
        }
        found: dict[str, list[float]] = {engine: [] for engine in sides}
        alternate(sides, repeats=REPEATS)
    local, simulation = (found[engine][1:] for engine in ("local", "simulation"))  # without the warm-up
    imports = seconds_of_imports()
    slowest = sorted(imports, key=imports.__getitem__, reverse=True)[:8]
    largest = ", ".join(f"{name} {imports[name]:.2f}" for name in slowest)
    print(f"imports {sum(imports.values()):.1f} s with the time of measuring them: {largest} s")
    met = "met" if statistics.median(local) <= LIMIT else "NOT met"
    return Result("first_step", "s", local, simulation, note=f"engine=local, simulation; limit {LIMIT:g} s {met}")


def main() -> None:
    print(measure().line())


if __name__ == "__main__":
    main()
