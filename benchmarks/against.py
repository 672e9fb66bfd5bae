"""Is this tree slower than an earlier commit? Five costs of each, in turn, in new processes.

    python -m benchmarks.against 240e3b5 [--pairs 10] [--only round step]

    startup     `fedvssl.main --cfg job`, from Enter to its end
    round       of five R3D-18 over Flower, without training: the median of the later rounds of benchmarks/round.py
    step        one training step of CtP in float32, of benchmarks/step.py
    evaluation  one between the rounds, the motion probe of experiment=small_clips on 12 videos; processor seconds
    epoch       one clip of a client's epoch from the zips, of benchmarks/end_to_end.py

Each tree runs its own benchmarks. Printed are seconds of both, and the median over pairs of the ratio of here to there
with its 95 % interval. Slower means that the interval lies above 1.03. Needs an idle machine: half an hour to an hour.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import spread

ROOT = Path(__file__).resolve().parents[1]
SLOWER = 1.03
# Programs that print seconds; they use only what the benchmarks of an earlier tree have too.
PROGRAMS = {
    "startup": """
import subprocess, sys, time
begun = time.perf_counter()
subprocess.run([sys.executable, "-m", "fedvssl.main", "--cfg", "job"], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - begun)
""",
    "round": """
import os, statistics
from benchmarks import round
os.environ.update(round.SILENCE)
print(statistics.median(round.in_own_process(round.run_ours).seconds[1:]))
""",
    "step": """
import statistics
from benchmarks import step
step.convolution_rates = lambda *args, **options: []
step.matrix_peak = lambda *args, **options: 0.0
print(statistics.median(step.side("32-true")["seconds"]))
""",
    "evaluation": """
import time
from pathlib import Path
from benchmarks import clips
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.data.annotations import write_annotations
from fedvssl.server_evaluation import build_evaluations
from fedvssl.server_run import initial_arrays
with clips.prepared(clips.clip_parser(None).parse_args([])) as videos:
    for number, part in enumerate(("train", "test")):
        write_annotations(Path("lists", f"{part}_split_1.json"), videos.annotations[number::2])
    words = ["eval.every=1", "eval.protocols={R@1: null, knn_top1_acc: null}", "training.precision=32-true"]
    words += [f"eval.media_dir={videos.ours}", "eval.annotation_dir=lists", "client_resources.num_gpus=0"]
    config = compose("base", ["experiment=small_clips", *words])
    evaluations = build_evaluations(config)
    shared = initial_arrays(lambda: build_task(config), seed=7, init=None)
    shared |= {name: array + 0.01 for name, array in shared.items() if name.endswith("running_mean")}  # as trained
    begun = time.process_time()
    for _ in range(3):
        evaluations.monitor(shared, label="now")
    print((time.process_time() - begun) / 3)
""",
    "epoch": """
import statistics
from benchmarks import clips, end_to_end
end_to_end.CLIPS_AND_REPEATS = {"cpu": (8, 3), "cuda": (1920, 1)}
with clips.prepared(clips.clip_parser(None).parse_args([])) as videos:
    print(1 / statistics.median(end_to_end.measure(videos).ours))
""",
}


def seconds_of(program: str, tree: Path) -> float:
    """The number that a program prints last, run with the packages of a tree in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {tree} could not be measured:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median from the order of the values; least and most where they are fewer than six."""
    ordered, number, outside, rank = sorted(values), len(values), 2 / 2 ** len(values), 0
    while outside + 2 * math.comb(number, rank + 1) / 2**number <= 0.05:
        rank += 1
        outside += 2 * math.comb(number, rank) / 2**number
    return ordered[rank], ordered[-1 - rank]


def line_of(name: str, here: list[float], there: list[float]) -> str:
    """ "round     here 4.1 [4.0 4.2] s  there 4.2 [4.1 4.3] s  0.98 [0.95 1.01]" """
    ratios = [new / old for new, old in zip(here, there, strict=True)]
    low, high = interval_of_median(ratios)
    told = f"{statistics.median(ratios):.3f} [{low:.3f} {high:.3f}]" + (" SLOWER" if low > SLOWER else "")
    return f"{name:10}here {spread(here)} s  there {spread(there)} s  {told}"


def compare(tree: Path, names: list[str], *, pairs: int) -> None:
    """Print a line for each cost as soon as it is known."""
    for name in names:
        begun, program = time.monotonic(), PROGRAMS[name]
        seconds: dict[Path, list[float]] = {ROOT: [], tree: []}
        for number in range(pairs + 1):
            for side in (ROOT, tree)[:: -1 if number % 2 else 1]:  # neither is always first
                seconds[side].append(seconds_of(program, side))
        here, there = seconds[ROOT][1:], seconds[tree][1:]  # without the warm-up
        print(f"{line_of(name, here, there)}  ({pairs} pairs, {(time.monotonic() - begun) / 60:.0f} min)", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS), metavar="COST")
    args = parser.parse_args()
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary, "tree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), args.commit], check=True)
        try:
            compare(tree, args.only, pairs=args.pairs)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


if __name__ == "__main__":
    main()
