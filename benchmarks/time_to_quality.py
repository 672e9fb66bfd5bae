"""Seconds from raw videos to a backbone that is seen to have learned, by stage.

    python -m benchmarks.time_to_quality                                              synthetic videos, R@1
    python -m benchmarks.time_to_quality --raw_dir ../clips --ann_dir ../lists        real clips, the motion probe
    python -m benchmarks.time_to_quality --before training.keep_optimizer=false       beside other settings, in turn

Each run prepares the videos, makes a partition and starts `fedvssl.main` with the preset `small` or `small_clips`,
which evaluates after every round. It ends, and training is stopped, as soon as two rounds in a row are better on the
same videos than random weights, the evaluation before the first round: the 95 % intervals of the paired differences lie
above 0. Two, because so many looks at one interval would find one by chance. Processor seconds are those of all
processes; some of Ray's are not seen.
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import spread
from data_tools.synthetic import main as write_synthetic
from fedvssl.files.environment import machine
from fedvssl.files.run_log import METRICS_FILE, read_config, read_records

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("preparing", "partition", "start", "training", "evaluating")
FEW_SECONDS = 0.2  # from one look at the records to the next


@dataclass(frozen=True)
class Kind:
    """Preset, short side of the prepared videos in pixels, and the evaluation that tells."""

    experiment: str
    short_side: int
    metric: str

    def words(self) -> list[str]:
        """Overrides of fedvssl.main: the preset, evaluated after each round by this metric alone."""
        others = ", ".join(f"{name}: null" for name in PROTOCOLS if name != self.metric)
        return [f"experiment={self.experiment}", "eval.every=1", f"eval.protocols={{{others}}}"]


SYNTHETIC, CLIPS = Kind("small", 64, "R@1"), Kind("small_clips", 72, "motion_probe")
PROTOCOLS = ("R@1", "knn_top1_acc", "motion_probe")


@dataclass(frozen=True)
class Reached:
    """One run: seconds of its stages, processor seconds, the round, what random weights and it reach, its precision."""

    seconds: Mapping[str, float]
    processor: float
    server_round: int
    random: float
    accuracy: float
    precision: str

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def reach(kind: Kind, raw_dir: Path, ann_dir: Path, words: Sequence[str]) -> Reached:
    """Run the stages in a new folder until the criterion is met.

    Raises:
        SystemExit: if a command fails, or the last round does not meet the criterion.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, seconds, used = Path(temporary), {}, processor_seconds()
        data, log = folder / "data/videos", folder / "log.txt"
        prepare = ["-m", "data_tools.ucf101.prepare", *flags(raw_dir=raw_dir, ann_dir=ann_dir, out_dir=data)]
        run_stage([*prepare, *flags(short_side=kind.short_side)], seconds, "preparing", log)
        lists = flags(json_path=data / "annotations", output_path=data / "annotations/client_distribution")
        run_stage(["-m", "data_tools.partition", *lists, *flags(num_clients=3)], seconds, "partition", log)
        places = [f"data_dir={folder}/data", "data.name=videos", f"hydra.run.dir={folder}/run"]
        command = ["-m", "fedvssl.main", *kind.words(), *places, *words]
        started = time.perf_counter()
        evaluated, ended = train_until(command, folder / "run", kind.metric, log)
        taken, first = ended - started, evaluated[0]
        rounds = [record for record in read_records(folder / "run" / METRICS_FILE) if "num_clients" in record]
        done = [record["seconds"] for record in rounds if record["server_round"] <= evaluated[-1]["server_round"]]
        seconds |= {"training": sum(done), "evaluating": sum(record["seconds_eval"] for record in evaluated)}
        seconds["start"] = taken - seconds["training"] - seconds["evaluating"]  # and the files of the rounds
        metric = f"eval_{kind.metric}"
        number, reached = evaluated[-1]["server_round"], evaluated[-1][metric]
        precision = read_config(folder / "run" / "config.yaml")["training"]["precision"]
        return Reached(seconds, processor_seconds() - used, number, first[metric], reached, precision)


def train_until(command: Sequence[str], run_dir: Path, metric: str, log: Path) -> tuple[list[dict[str, Any]], float]:
    """Train until two rounds beat random weights; return the evaluations until then, and when it was seen."""
    with (
        log.open("a") as file,
        subprocess.Popen([sys.executable, *command], env=environment(), stdout=file, stderr=file) as run,
    ):
        while True:
            ended = run.poll() is not None
            evaluated = [r for r in read_records(run_dir / METRICS_FILE) if f"eval_{metric}" in r]
            ends = [r.get(f"gain_{metric}_low", -1) > 0 for r in evaluated]
            better = next((n for n in range(1, len(ends)) if ends[n - 1] and ends[n]), None)
            if better is not None or ended:
                break
            time.sleep(FEW_SECONDS)
        seen = time.perf_counter()
        run.send_signal(signal.SIGTERM)
    if better is None:
        raise SystemExit(f"error: {' '.join(command)} did not get there:\n{log.read_text()[-2000:]}")
    return evaluated[: better + 1], seen


def run_stage(command: Sequence[str], seconds: dict[str, float], stage: str, log: Path) -> None:
    """Run a command to its end and note its seconds."""
    started = time.perf_counter()
    with log.open("a") as file:
        code = subprocess.run([sys.executable, *command], env=environment(), stdout=file, stderr=file).returncode
    if code:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    seconds[stage] = time.perf_counter() - started


def flags(**settings: object) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def environment() -> dict[str, str]:
    silence = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **silence, "PYTHONPATH": str(ROOT)}


def processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(name: str, runs: Sequence[Reached]) -> str:
    """Lines of one side: the total, its stages, and where each run met the criterion."""
    stages = ", ".join(f"{stage} {statistics.median(run.seconds[stage] for run in runs):.1f}" for stage in STAGES)
    ends = "; ".join(f"round {run.server_round}, {100 * run.random:.1f} -> {100 * run.accuracy:.1f} %" for run in runs)
    return (
        f"{name:8}{spread([run.total for run in runs])} s, processor {spread([run.processor for run in runs])} s\n"
        f"        medians: {stages}\n        {ends}"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw_dir", type=Path, help="folder with videos of UCF-101; without it they are synthetic")
    parser.add_argument("--ann_dir", type=Path, help="folder with the split lists of --raw_dir")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[7, 8, 9], help="of the synthetic videos and all training"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of fedvssl.main of all runs"
    )
    parser.add_argument("--before", nargs="+", default=[], metavar="KEY=VALUE", help="settings of a second side")
    args = parser.parse_args()
    if (args.raw_dir is None) != (args.ann_dir is None):
        parser.error("--raw_dir and --ann_dir belong together")
    sides = {"now": args.set} | ({"before": [*args.set, *args.before]} if args.before else {})
    found: dict[str, list[Reached]] = {side: [] for side in sides}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            raw_dir, ann_dir, kind = args.raw_dir, args.ann_dir, CLIPS
            if raw_dir is None:
                write_synthetic(flags(out_dir=folder, seed=seed))
                raw_dir, ann_dir, kind = Path(folder, "raw"), Path(folder, "lists"), SYNTHETIC
            for side, words in list(sides.items())[:: -1 if seed % 2 else 1]:  # neither side is always first
                found[side].append(reach(kind, raw_dir.resolve(), ann_dir.resolve(), [*words, f"seed={seed}"]))
                print(f"seed {seed} {report(side, found[side][-1:])}", flush=True)
    print("\n" + "\n".join(report(side, runs) for side, runs in found.items()))
    print(machine(found["now"][0].precision))


if __name__ == "__main__":
    main()
