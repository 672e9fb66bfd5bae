"""Annotation file -> one `client_dist<N>.json` per client, N = 1..num_clients, with statistics as JSON and PNG.

    python -m data_tools.partition --json_path data/ucf101/annotations \\
        --output_path data/ucf101/annotations/client_distribution --num_clients 5 --seed 7

`--method uniform` is the published rule; `--method class-shard --classes_per_client k` gives every client k classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np

from fedvssl.data.annotations import Annotation, class_names, read_annotations, write_annotations
from fedvssl.data.atomic import atomic_path
from fedvssl.data.partition import Partition, class_shard, partition_stats, uniform

from .command import command_parser, run_command


def write_partition(annotations: Sequence[Annotation], parts: Partition, output_path: Path) -> dict:
    """Write the files of all clients and the statistics.

    The files of an earlier partition are removed first: a client that no longer exists must not find its list.

    Returns:
        what `partition_stats` returns.
    """
    for old in output_path.glob("client_dist*.json"):
        old.unlink()
    for client, part in enumerate(parts, start=1):
        write_annotations(output_path / f"client_dist{client}.json", [annotations[index] for index in part])
    stats = partition_stats([annotation.label for annotation in annotations], parts)
    with atomic_path(output_path / "partition_stats.json") as temporary:
        temporary.write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
    plot_partition(stats, class_names(annotations), output_path / "partition_stats.png")
    return stats


def plot_partition(stats: dict, names: dict[int, str], path: Path) -> None:
    """Three panels: videos per client, videos per client and class, videos shared between clients."""
    num_clients, labels = stats["num_clients"], list(names)
    per_class = np.array(
        [[client["videos_per_class"].get(str(label + 1), 0) for label in labels] for client in stats["clients"]]
    )
    overlap = np.array(stats["video_overlap"]) * (1 - np.eye(num_clients, dtype=int))
    figure = matplotlib.figure.Figure(figsize=(15, 4.5), layout="constrained")
    bars, classes, shared = figure.subplots(1, 3, width_ratios=(1, 2, 1))

    clients = np.arange(1, num_clients + 1)
    bars.bar(clients, per_class.sum(axis=1))
    bars.set(title=f"{stats['num_videos']} videos over {num_clients} clients", xlabel="client", ylabel="videos")
    ends = (0.5, len(labels) + 0.5, num_clients + 0.5, 0.5)
    image = classes.imshow(per_class, aspect="auto", interpolation="nearest", extent=ends, vmin=0)
    most = max(client["classes"] for client in stats["clients"])
    fewest = min(client["classes"] for client in stats["clients"])
    title = f"videos per class ({fewest} to {most} of {stats['num_classes']} classes per client)"
    classes.set(title=title, xlabel="class", ylabel="client")
    if len(labels) <= 12:
        classes.set_xticks(range(1, len(labels) + 1), names.values(), rotation=30, ha="right")
    figure.colorbar(image, ax=classes)
    ends = (0.5, num_clients + 0.5, num_clients + 0.5, 0.5)
    image = shared.imshow(overlap, interpolation="nearest", extent=ends, vmin=0, vmax=max(1, overlap.max()))
    shared.set(title=f"videos shared by two clients: {overlap.sum() // 2}", xlabel="client", ylabel="client")
    figure.colorbar(image, ax=shared)
    for axis in (bars.xaxis, classes.yaxis, shared.xaxis, shared.yaxis):
        axis.get_major_locator().set_params(integer=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--json_path", type=Path, required=True, help="annotation file, or the folder of train_split_1.json"
    )
    parser.add_argument("--output_path", type=Path, required=True, help="folder for the files of the clients")
    parser.add_argument("--num_clients", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--method", choices=("uniform", "class-shard"), default="uniform")
    parser.add_argument("--classes_per_client", type=int, help="for --method class-shard; at most")
    args = parser.parse_args(argv)
    if (args.method == "class-shard") != (args.classes_per_client is not None):
        raise ValueError("--classes_per_client belongs to --method class-shard, which needs it.")
    json_path = args.json_path / "train_split_1.json" if args.json_path.is_dir() else args.json_path
    annotations = read_annotations(json_path)
    labels = [annotation.label for annotation in annotations]
    if args.method == "uniform":
        parts = uniform(labels, args.num_clients, seed=args.seed)
    else:
        parts = class_shard(labels, args.num_clients, classes_per_client=args.classes_per_client, seed=args.seed)
    stats = write_partition(annotations, parts, args.output_path)
    for client in stats["clients"]:
        print(f"client {client['client']}: {client['videos']} videos of {client['classes']} classes")


if __name__ == "__main__":
    run_command(main)
