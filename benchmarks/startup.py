"""Seconds until the command of a run answers: `--help`, and `--cfg job`, which shows the composed configuration.

    python -m benchmarks.startup

Baseline: a program that first imports torch, Flower and Ray (ours: when a run starts), then composes the configuration.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Result, alternate

LIMIT = 2.0  # seconds
REPEATS = 3
ROOT = Path(__file__).parents[1]
COMMANDS = {flags: ["-m", "fedvssl.main", *flags.split()] for flags in ("--help", "--cfg job")}
PLAIN = """
import torch, flwr.simulation, ray, lightning
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
with initialize_config_dir({conf!r}, version_base="1.3"):
    print(OmegaConf.to_yaml(compose("base")))
"""


def measure() -> Result:
    """Seconds of the slower of the two commands (ours) and of the baseline."""
    plain = ["-c", PLAIN.format(conf=str(ROOT / "conf"))]
    sides = {name: lambda words=words: run(words) for name, words in {**COMMANDS, "baseline": plain}.items()}
    seconds = alternate(sides, repeats=REPEATS)
    medians = {name: statistics.median(seconds[name]) for name in COMMANDS}
    slower = max(medians, key=medians.__getitem__)
    told = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    met = "met" if medians[slower] < LIMIT else "NOT met"
    return Result("startup", "s", seconds[slower], seconds["baseline"], note=f"{told}; limit {LIMIT:g} s {met}")


def run(words: list[str]) -> None:
    """Run a Python process in its own folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, *words], check=True, cwd=folder, env=environment, capture_output=True)


def main() -> None:
    print(measure().line())


if __name__ == "__main__":
    main()
