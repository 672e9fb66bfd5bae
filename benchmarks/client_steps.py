"""How many steps of a client until the loss moves, with 1, 2, 4 and 8 clients that see as many clips together?

    python -m benchmarks.client_steps --data_dir data --name ucf6_144p --png docs/results/client_steps.png

Each federation has the same videos in equal parts and as many rounds of `experiment=small_clips`, so all see equally
many clips and a client of eight makes an eighth of the steps. The loss has moved in the first round in which it is five
percent below that of standing still. The strategy is FedVSSL (0.9, 0), as in the quickstart. A repeated command goes on
where it stopped.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedvssl.data.annotations import read_annotations
from fedvssl.files.atomic import atomic_path
from fedvssl.files.environment import machine
from fedvssl.files.run_log import METRICS_FILE, read_records
from fedvssl.training.watch import unbeaten

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Curve:
    """Losses of one federation by round, beside that of standing still; steps that each client makes in a round."""

    clients: int
    seed: int
    steps: int
    losses: Sequence[float]
    still: Sequence[float]
    moved: int | None
    precision: str

    def line(self) -> str:
        """ "4 clients, seed 7: 49 steps a round, moved in round 4 (147 to 196 steps of each client), last loss .3" """
        told = f"{self.clients} clients, seed {self.seed}: {self.steps} steps a round, "
        if self.moved is None:
            return f"{told}not moved after {self.steps * len(self.losses)} steps, last loss {self.losses[-1]:.3f}"
        between = f"{self.steps * (self.moved - 1)} to {self.steps * self.moved} steps of each client"
        return f"{told}moved in round {self.moved} ({between}), last loss {self.losses[-1]:.3f}"


def curve(clients: int, seed: int, words: Sequence[str], annotation_dir: Path, work_dir: Path) -> Curve:
    """Train one federation, or what is missing of it, and read its losses."""
    lists, run_dir = work_dir / f"lists-{clients}", work_dir / f"clients-{clients}-seed{seed}"
    if not lists.is_dir():
        flags = ["--json_path", str(annotation_dir), "--output_path", str(lists), "--num_clients", str(clients)]
        run(["-m", "data_tools.partition", *flags])
    own = [f"pool_size={clients}", f"strategy.min_fit_clients={clients}", f"partition_dir={lists}", f"seed={seed}"]
    run(["-m", "fedvssl.main", *words, *own, f"hydra.run.dir={run_dir}"])
    training = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["training"]
    videos = len(read_annotations(lists / "client_dist1.json"))
    steps = training["local_epochs"] * math.ceil(videos / training["batch_size"])
    rounds = [record for record in read_records(run_dir / METRICS_FILE) if "num_clients" in record]
    return curve_of(rounds, clients=clients, seed=seed, steps=steps, precision=training["precision"])


def curve_of(rounds: Sequence[Mapping[str, Any]], *, clients: int, seed: int, steps: int, precision: str) -> Curve:
    """Losses of the records of rounds, and the first round that has moved."""
    moved = next((number for number, record in enumerate(rounds, start=1) if not unbeaten(record)), None)
    losses, still = ([record[name] for record in rounds] for name in ("loss", "trivial_still"))
    return Curve(clients, seed, steps, losses, still, moved, precision)


def run(command: Sequence[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([sys.executable, *command], check=True, env=environment, stdout=sys.stderr)


def draw(png: Path, curves: Sequence[Curve]) -> None:
    """Loss over the steps of each client, and over the rounds, in which all federations see equally many clips."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    colors = {clients: f"C{number}" for number, clients in enumerate(dict.fromkeys(c.clients for c in curves))}
    for axes, label in zip(figure.subplots(1, 2, sharey=True), ("steps of each client", "round"), strict=True):
        told: set[int] = set()
        for one in curves:
            each = one.steps if label.startswith("steps") else 1
            name = None if one.clients in told else f"{one.clients} client{'s' * (one.clients > 1)}"
            told.add(one.clients)
            xs = [each * number for number in range(1, len(one.losses) + 1)]
            axes.plot(xs, one.losses, color=colors[one.clients], label=name)
        axes.axhline(curves[0].still[-1], color="k", linestyle="--", linewidth=1, label="standing still")
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_xscale("log")
    figure.axes[0].set_ylabel("loss")
    figure.axes[0].legend(fontsize="small")
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of all data sets")
    parser.add_argument("--name", required=True, help="of the data set")
    parser.add_argument("--work_dir", type=Path, default=Path("outputs/client_steps"))
    parser.add_argument("--png", type=Path, required=True, help="picture to write")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of fedvssl.main of all runs"
    )
    args = parser.parse_args()
    words = ["experiment=small_clips", f"data_dir={args.data_dir}", f"data.name={args.name}", *args.set]
    annotation_dir, curves = args.data_dir / args.name / "annotations", []
    for seed in args.seeds:
        for clients in args.clients:
            curves.append(curve(clients, seed, words, annotation_dir, args.work_dir.resolve()))
            print(curves[-1].line(), flush=True)
            draw(args.png, curves)
    print(machine(curves[0].precision))


if __name__ == "__main__":
    main()
