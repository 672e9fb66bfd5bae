"""Annotation file -> one `client_dist<N>.json` per client, N = 1..num_clients, with statistics as JSON and PNG.

    python -m data_tools.partition --json_path data/ucf101/annotations \\
        --output_path data/ucf101/annotations/client_distribution --num_clients 5 --seed 7

Methods: `uniform`, the published rule of UCF-101; `k400-paper`, that of Kinetics-400, with its fault; `by-group`, whole
UCF-101 groups; `by-owner`, the videos of each first folder of their names at a client of their own; `class-shard
--classes_per_client 8`; `dirichlet --alpha 0.5`, classes in random proportions.
Methods of federated learning on pictures, with about as many samples for each client: `iid`, equal parts;
`class --classes_per_client 2`, exactly so many classes each; `shards --shards_per_client 2`, pieces of the list sorted
by class; `dirichlet-balanced --alpha 0.1`, proportions over those clients that have least.
`--labelled_share 0.01` first draws one percent of each class for an evaluation with few labels (fedvssl.semi): these
samples are in `labelled.json` beside the clients' lists, and with no client. Groups of videos (v_Archery_g08_c01) are
drawn whole, at least one of each class, so that a small share becomes a larger one.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.data.annotations import Annotation, class_names, read_annotations, write_annotations
from fedvssl.data.labelled import draw_labelled
from fedvssl.data.partition import Partition, by_group, class_shard, dirichlet, groups_of, k400_paper, uniform
from fedvssl.data.partition_balanced import by_class, dirichlet_balanced, iid, shards
from fedvssl.data.partition_stats import partition_stats
from fedvssl.data.validation import group_of
from fedvssl.files.atomic import write_json
from fedvssl.files.lock import owned

from .command import command_parser, run_command
from .partition_plot import plot_partition

# Methods whose rule draws from numpy's generator.
BALANCED = {"iid": iid, "class": by_class, "shards": shards, "dirichlet-balanced": dirichlet_balanced}
METHODS = ("uniform", "by-owner", "class-shard", "dirichlet", "by-group", "k400-paper", *BALANCED)
# Flag -> the methods that accept it. They require it, but for those that have a default.
FLAGS = {
    "classes_per_client": ("class-shard", "class"),
    "shards_per_client": ("shards",),
    "alpha": ("dirichlet", "dirichlet-balanced"),
}
WITH_DEFAULT = ("dirichlet-balanced",)
LABELLED = "labelled.json"
NUM_CLIENTS = 5


def make_partition(annotations: Sequence[Annotation], args: argparse.Namespace) -> Partition:
    """Partition by the flags of the command, but for `by-owner`.

    Raises:
        ValueError: if a flag is missing or belongs to another method, or the method rejects its arguments.
    """
    given = _flags_of_method(args)
    labels = [annotation.label for annotation in annotations]
    match args.method:
        case "uniform":
            return uniform(labels, args.num_clients, seed=args.seed)
        case "class-shard":
            return class_shard(labels, args.num_clients, **given, seed=args.seed)
        case "dirichlet":
            return dirichlet(labels, args.num_clients, **given, seed=args.seed)
        case "by-group":
            return by_group(groups_of([a.name for a in annotations]), args.num_clients, seed=args.seed)
        case "k400-paper":
            return k400_paper(labels, args.num_clients)
        case method:
            return BALANCED[method](labels, args.num_clients, **given, rng=np.random.default_rng(args.seed))


def by_owner(annotations: Sequence[Annotation], num_clients: int | None) -> dict[str, np.ndarray]:
    """Indices of each owner's samples, in the order of the owners' names: the first folder of a name is its owner.

    Raises:
        ValueError: if a sample lies in no folder, there is one owner alone, or not one for each of the clients.
    """
    owners = [annotation.name.partition("/")[0] if "/" in annotation.name else "" for annotation in annotations]
    if "" in owners:
        raise ValueError(
            f"{annotations[owners.index('')].name} lies in no owner's folder: --method uniform needs none."
        )
    names = sorted(set(owners))
    if len(names) < 2 or num_clients not in (None, len(names)):
        few = ", ".join(names[:5])
        asked = f"--num_clients {num_clients}" if num_clients else "a partition"
        raise ValueError(f"{asked} with --method by-owner: there are {len(names)} owners, {few}; two or more make one.")
    return {name: np.flatnonzero([owner == name for owner in owners]) for name in names}


def hold_out_labelled(
    annotations: Sequence[Annotation], share: float | None, *, seed: int
) -> tuple[list[Annotation], list[Annotation]]:
    """The labelled samples and all others, both in the order of the list; none are labelled if there is no share.

    Raises:
        ValueError: as `draw_labelled`.
    """
    chosen: set[int] = set()
    if share is not None:
        groups = [group_of(annotation.name) for annotation in annotations]
        labels = [annotation.label for annotation in annotations]
        chosen |= {*draw_labelled(labels, share, groups=groups, seed=seed).tolist()}
    numbered = list(enumerate(annotations))
    return [a for n, a in numbered if n in chosen], [a for n, a in numbered if n not in chosen]


def in_groups(annotations: Sequence[Annotation]) -> str:
    """ " in 12 groups", or nothing where each sample is a group of its own."""
    number = len({group_of(annotation.name) for annotation in annotations})
    return f" in {number} groups" if number < len(annotations) else ""


def _flags_of_method(args: argparse.Namespace) -> dict[str, Any]:
    given = {flag: getattr(args, flag) for flag in FLAGS if getattr(args, flag) is not None}
    for flag, methods in FLAGS.items():
        required = args.method in methods and args.method not in WITH_DEFAULT
        if (flag in given and args.method not in methods) or (required and flag not in given):
            need = "need" if len(methods) > 1 else "needs"
            raise ValueError(f"--{flag} belongs to --method {' or '.join(methods)}, which {need} it.")
    return given


def write_partition(
    annotations: Sequence[Annotation],
    parts: Partition,
    output_path: Path,
    *,
    labelled: Sequence[Annotation] = (),
    owners: Sequence[str] = (),
) -> dict:
    """Write the files of all clients and the statistics, after removing the files of an earlier partition.

    The list of client 1 goes first and comes last: where it is, all others are, and of the same partition.

    Args:
        annotations: all that have clients.
        parts: indices of each client.
        output_path: folder of the files.
        labelled: what is held out; it gets a file of its own.
        owners: names of the clients, if they have any.

    Returns:
        the result of `partition_stats`, with "class_names" by label, and a "warning" from `fault_of` if there is one.

    Raises:
        ValueError: if another process works in `output_path`.
    """
    stats = partition_stats([annotation.label for annotation in annotations], parts)
    for client, owner in zip(stats["clients"], owners, strict=False):
        client["owner"] = owner
    names = class_names(annotations)
    stats["class_names"] = {str(label + 1): name for label, name in names.items()}
    if warning := fault_of(stats):
        stats = {"warning": warning, **stats}
    files = [output_path / f"client_dist{client}.json" for client in range(1, len(parts) + 1)]
    with owned(output_path, writes=("client_dist*.json", "partition_stats.*", LABELLED)):
        files[0].unlink(missing_ok=True)
        (output_path / LABELLED).unlink(missing_ok=True)
        for old in output_path.glob("client_dist*.json"):
            old.unlink()
        write_json(output_path / "partition_stats.json", stats)
        if labelled:
            write_annotations(output_path / LABELLED, labelled)
        plot_partition(stats, names, output_path / "partition_stats.png")
        for file, part in reversed(list(zip(files, parts, strict=True))):
            write_annotations(file, [annotations[index] for index in part])
    return stats


def fault_of(stats: dict) -> str:
    """Warning about a partition that gives videos to several clients; empty for a good one."""
    if not stats["shared_videos"]:  # class and shards may leave samples over, by their rules
        return ""
    distinct = stats["num_videos"] - stats["unassigned_videos"]
    return (
        f"This is no partition: {stats['num_entries']} entries are {distinct} of {stats['num_videos']} videos; "
        f"{stats['shared_videos']} videos lie with two clients or more; {stats['classes_reached']} of the "
        f"{stats['num_classes']} classes are reached. The rule moves its window of classes by 1 where it should move "
        "by 4, as the published lists did: use it to compare with them, and class-shard for everything else."
    )


def tell(stats: dict, *, method: str) -> None:
    """Print the shares of the clients and how much their classes differ."""
    for client in stats["clients"]:
        owner = f" ({client['owner']})" if "owner" in client else ""
        print(f"client {client['client']}{owner}: {client['videos']} samples of {client['classes']} classes")
    print(
        f"entropy of the classes: {stats['mean_entropy']:.2f} bits per client, {stats['pooled_entropy']:.2f} pooled; "
        f"mean divergence from the pooled classes: {stats['mean_divergence']:.2f} bits"
    )
    if left_over := "warning" not in stats and stats["unassigned_videos"]:
        rest = f"{left_over} of {stats['num_videos']} samples are with no client"
        print(f"{rest}: equal parts of --method {method} leave them")
    if "warning" in stats:
        rule = "!" * 100
        print(f"{rule}\nWARNING: {stats['warning']}\n{rule}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--json_path", type=Path, required=True, help="annotation file, or the folder of train_split_1.json"
    )
    parser.add_argument("--output_path", type=Path, required=True, help="folder for the files of the clients")
    parser.add_argument("--num_clients", type=int, help=f"default: {NUM_CLIENTS}, or as many as there are owners")
    parser.add_argument("--seed", type=int, default=7, help="k400-paper has seeds of its own")
    parser.add_argument("--method", choices=METHODS, default="uniform")
    parser.add_argument("--classes_per_client", type=int, help="for class-shard, at most; for class, exactly")
    parser.add_argument("--shards_per_client", type=int, help="for shards")
    parser.add_argument(
        "--alpha", type=float, help="for dirichlet and dirichlet-balanced (0.1); above 0, small: clients differ much"
    )
    parser.add_argument(
        "--labelled_share", type=float, help="share of each class that is held out, in whole groups; default: none"
    )
    args = parser.parse_args(argv)
    json_path = args.json_path / "train_split_1.json" if args.json_path.is_dir() else args.json_path
    annotations = read_annotations(json_path)
    labelled, annotations = hold_out_labelled(annotations, args.labelled_share, seed=args.seed)
    owned_parts = by_owner(annotations, args.num_clients) if args.method == "by-owner" else {}
    args.num_clients = NUM_CLIENTS if args.num_clients is None else args.num_clients
    parts = [*owned_parts.values()] or make_partition(annotations, args)
    stats = write_partition(annotations, parts, args.output_path, labelled=labelled, owners=[*owned_parts])
    if labelled:
        print(
            f"{args.output_path / LABELLED}: {len(labelled)} labelled samples{in_groups(labelled)}, which no client has"
        )
    tell(stats, method=args.method)


if __name__ == "__main__":
    run_command(main)
