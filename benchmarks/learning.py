"""What pre-training is worth on the quickstart's synthetic videos, over several seeds.

    python -m benchmarks.learning --work_dir outputs/learning --json outputs/learning/learning.json

Runs scripts/quickstart.sh for each seed (of the videos, the partition and all training), five minutes each on two idle
cores, and prints mean and standard deviation of every cell of its table, and in how many seeds the paired 95 % interval
of each difference excludes 0. A repeated command goes on where it stopped.
"""

import argparse
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.evaluation.intervals import Difference
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.environment import machine
from fedvssl.sweeping.comparison import Entry, aligned, markdown

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "scripts" / "quickstart.sh"


def run_seed(seed: int, work_dir: Path) -> dict[str, Any]:
    """Run the quickstart, unless its table is there, and return the table."""
    table = work_dir / "table.json"
    if not table.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        command = ["bash", str(QUICKSTART), "--seed", str(seed), "--work_dir", str(work_dir.resolve())]
        environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        with (work_dir / "quickstart.log").open("w", encoding="utf-8") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
    return read_json(table)


def entries(tables: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Entry]]:
    """Accuracies of all seeds, by row and column; a cell that no seed has is not planned."""
    columns = list(tables[0]["differences"])
    return {
        row: {
            column: Entry(values, len(values))
            for column in columns
            for values in [[table["rows"][row][column]["value"] for table in tables if column in table["rows"][row]]]
        }
        for row in tables[0]["rows"]
    }


def summarise(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each difference: mean and deviation in points, the seeds that exclude 0, and each seed's interval."""
    lines = []
    for column, first in tables[0]["differences"].items():
        found = [Difference(*(table["differences"][column][name] for name in Difference._fields)) for table in tables]
        points = [100 * difference.difference for difference in found]
        deviation = f" +- {statistics.stdev(points):.1f}" if len(points) > 1 else ""
        above = sum(difference.low > 0 for difference in found)
        lines.append(
            f"{column}: pre-trained - {first['baseline']} {statistics.mean(points):+.1f}{deviation}, "
            f"above 0 in {above} of {len(found)} seeds: {'; '.join(difference.text() for difference in found)}"
        )
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work_dir", type=Path, default=Path("outputs/learning"), help="a folder for each seed")
    parser.add_argument("--json", type=Path, help="file for the tables of all seeds")
    args = parser.parse_args()
    tables = {}
    for seed in args.seeds:
        print(f"seed {seed} ...", flush=True)
        tables[seed] = run_seed(seed, args.work_dir / f"seed{seed}")
    found, columns = entries(list(tables.values())), {name: name for name in tables[args.seeds[0]]["differences"]}
    print(f"\n{machine('32-true')}\n{aligned(found, columns)}\n")
    print("\n".join(summarise(list(tables.values()))))
    print(f"\n{markdown(found, columns)}")
    if args.json:
        write_json(args.json, {str(seed): table for seed, table in tables.items()})


if __name__ == "__main__":
    main()
