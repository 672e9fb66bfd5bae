"""What a federation is worth to Segment-Anything: a filled box, initial weights, each client alone, federated, pooled.

    python -m data_tools.shapes --out_dir data/shapes/raw --number 480
    python -m data_tools.masks --picture_dir data/shapes/raw/images --mask_dir data/shapes/raw/masks --kind classes \\
        --least_area 20 --test_share 0.3 --out_dir data/shapes
    python -m data_tools.partition --json_path data/shapes/annotations \\
        --output_path data/shapes/annotations/clients2 --method by-owner
    python -m benchmarks.segment --work_dir outputs/segment experiment=fedsam_small data_dir=data data.name=shapes

Trains every row for each seed, tests it on the same objects from the same boxes, and prints means and standard
deviations over the seeds. Each row has the same number of rounds, so that a client alone makes fewer steps. A repeated
command goes on where it stopped. Further words are settings of fedvssl.main.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.files.atomic import read_json, write_json
from fedvssl.main import run
from fedvssl.test import object_test

CLIENTS = 2
MEASURES = ("iou", "dice")
OF_TEST = ("model", "data", "experiment", "data_dir")  # beginnings of the words that the test takes too


def lists_of(row: str, partition: Path, folder: Path) -> tuple[Path, int]:
    """Folder of the lists of a row, and its number of clients."""
    if row == "federated":
        return partition, CLIENTS
    own = [read_annotations(partition / f"client_dist{number}.json") for number in range(1, CLIENTS + 1)]
    chosen = [item for part in own for item in part] if row == "pooled" else own[int(row.rpartition(" ")[2]) - 1]
    write_annotations(folder / "client_dist1.json", chosen)
    return folder, 1


def measure(row: str, seed: int, words: Sequence[str], work_dir: Path) -> dict[str, Any]:
    """Train a row and test it, unless its result is there; returns the result."""
    folder = work_dir / f"{row.replace(' ', '_')}-seed{seed}"
    result = folder / "test/test.json"
    if not result.is_file():
        checkpoint = "null"
        if row != "initial weights":
            config = compose("base", [*words, f"seed={seed}", "engine=local"])
            lists, clients = lists_of(row, Path(config["partition_dir"]), folder / "lists")
            config |= {"partition_dir": str(lists), "pool_size": clients}
            config["strategy"]["min_fit_clients"] = clients
            (folder / "run").mkdir(parents=True, exist_ok=True)
            run(config, run_dir=folder / "run")
            checkpoint = str(folder / "run" / f"round-{config['rounds']}-weights.npz")
        own = [word for word in words if word.startswith(OF_TEST)]
        places = [f"checkpoint={checkpoint}", f"work_dir={folder / 'test'}", f"seed={seed}", "device=cpu"]
        object_test(compose("test", [*own, *places])).run()
    return read_json(result)


def rows_of() -> list[str]:
    return ["initial weights", *(f"client {number}" for number in range(1, CLIENTS + 1)), "federated", "pooled"]


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Markdown, in percent: mean and standard deviation over the seeds."""
    lines = ["| | mean IoU | mean Dice |", "|---|---|---|"]
    filled = [{name: result[f"box_{name}"] for name in MEASURES} for result in results["federated"]]
    for row, own in {"filled prompt box": filled, **results}.items():
        cells = []
        for name in MEASURES:
            values = [100 * result[name] for result in own]
            deviation = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{deviation}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True)
    parser.add_argument("--seeds", default="7,8,9", help="with commas")
    args, words = parser.parse_known_args(argv)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    results = {row: [measure(row, seed, words, args.work_dir) for seed in seeds] for row in rows_of()}
    write_json(args.work_dir / "segment.json", results)
    first = results["federated"][0]
    print(table(results))
    print(
        f"{first['num_objects']} objects in {first['num_pictures']} test pictures of {first['dataset']}; {args.seeds}"
    )


if __name__ == "__main__":
    main()
