"""Sections about a pre-training run: settings, partition, losses, seconds and bytes, evaluations."""

import shlex
from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.data.seen import SEEN_FILE, allowed_numbers
from fedvssl.files.arrays import load_arrays
from fedvssl.files.names import client_number
from fedvssl.files.progress import clock, show_bytes
from fedvssl.files.run_log import Record
from fedvssl.reporting import learning, page
from fedvssl.reporting.figures import Line, count_map, is_number, line, line_chart, stacked_chart, titled
from fedvssl.reporting.folders import Folder, partition_changed, read_result
from fedvssl.reporting.learning import CLIENTS_WITH_NAMES
from fedvssl.strategy.rounds import sample_size

SAMPLED = "strategy.fraction_fit"  # the number that follows from it is shown
SETTINGS = {
    "strategy": "strategy._target_",
    "of Flower": "strategy.strategy._target_",
    "rule of the clients": "strategy.rule._target_",
    "arrays that travel": "strategy.share",
    "never travels": "task.private",
    "encoder that clients send": "strategy.rule.sends",
    "alpha (mix_coeff)": "strategy.mix_coeff",
    "beta (swbeta)": "strategy.swbeta",
    "clients in a round": SAMPLED,
    "data": "data.name",
    "split": "data.split",
    "clients": "pool_size",
    "rounds": "rounds",
    "local epochs": "training.local_epochs",
    "batch": "training.batch_size",
    "learning rate": "training.lr",
    "optimizer": "training.optimizer._target_",
    "schedule": "training.schedule._target_",
    "precision": "training.precision",
    "pretext task": "task.module._target_",
    "frames of a clip": "task.sample.clip_len",
    "crop": "task.sample.crop_size",
    "side of the pictures": "task.sample.max_side",
    "backbone": "model._target_",
    "depth": "model.depth",
    "width": "model.width",
    "seed": "seed",
    "GPUs of a client": "client_resources.num_gpus",
}
# Fractions, as is any other eval_ value.
EVALUATION_LABELS = {"eval_R@1": "R@1", "eval_knn_top1_acc": "kNN top-1", "eval_motion_probe": "motion probe"}
DIRECTIONS = 8  # of the motion probe
MOST_NAMED = 30  # classes
SPREAD = {"eval_feature_std": "Standard deviation", "eval_effective_rank": "Effective rank"}
# Parts of a round's "seconds". The rest is the choice of clients, the packing of messages and the engine's start.
ROUND_PARTS = {"waiting for clients": "seconds_clients", "aggregation": "seconds_aggregate"}
WORK_PARTS = {"training": "seconds_compute", "waiting for data": "seconds_data"}


def configuration(run: Folder) -> str:
    """Main settings, and all of them folded."""
    values = [(name, setting_text(run, key)) for name, key in SETTINGS.items()]
    record = run.path / SEEN_FILE
    seen = allowed_numbers(load_arrays(record)) if record.is_file() else {}
    values += [(f"test videos in {stage}", f"{number}, as was allowed") for stage, number in seen.items()]
    return page.facts([(name, value) for name, value in values if value]) + page.details(
        f"All settings ({run.path / 'config.yaml'})",
        page.listing((run.path / "config.yaml").read_text(encoding="utf-8")),
    )


def setting_text(run: Folder, key: str) -> str:
    """Text of a setting: of a dotted `_target_` its last word; empty if there is no such setting."""
    if run.setting("strategy.fedavg") and key.startswith("strategy.") and key != SAMPLED:
        return "FedAvg" if key == "strategy._target_" else ""
    value = run.setting(key)
    if key == SAMPLED:
        value = sampled(run)
    return "" if value in (None, []) else str(value).rsplit(".", 1)[-1] if key.endswith("_target_") else str(value)


def sampled(run: Folder) -> int | None:
    """Number of clients that train in a round; None if the run has not recorded what decides it."""
    num_clients, fraction, least = (run.setting(key) for key in ("pool_size", SAMPLED, "strategy.min_fit_clients"))
    if num_clients is None or fraction is None or least is None:
        return None
    return sample_size(num_clients, fraction_fit=fraction, min_fit_clients=least)


def partition(run: Folder) -> str:
    """Videos of each client, from the statistics beside the clients' lists, if the lists are still the run's."""
    folder = Path(run.setting("partition_dir", ""))
    stats = read_result(folder / "partition_stats.json", ("num_videos", "num_clients", "clients", "video_overlap"))
    annotations = shlex.quote(str(run.setting("data.annotation_dir", "<annotations>")))
    command = (
        f"python -m data_tools.partition --json_path {annotations} --output_path {shlex.quote(str(folder))} "
        f"--num_clients {run.setting('pool_size')}"
    )
    if stats is None:
        return page.missing(
            f"There is no {folder / 'partition_stats.json'}, which the partition's command writes (a relative path "
            "counts from the folder in which the run was started, so make the report there too):",
            command,
        )
    if partition_changed(run):
        return page.missing(f"The clients' lists in {folder} are no longer those of this run, so they are not shown.")
    clients = stats["clients"]
    columns = [name for name, value in clients[0].items() if isinstance(value, str | Real)]
    rows = [[text(client.get(name, "")) for name in columns] for client in clients]
    listed = page.table([name.replace("_", " ") for name in columns], rows)
    shared = (np.array(stats["video_overlap"]).sum() - sum(client["videos"] for client in clients)) // 2
    lost = stats.get("unassigned_videos", 0)
    spread = f"{lost} of them at none, and {shared} times two clients have the same one"
    return (
        page.paragraph(
            f"{stats['num_videos']} {run.medium}s over {stats['num_clients']} clients, "
            f"{spread if lost or shared else 'each at exactly one'}. Client 1 is the one of client_dist1.json."
        )
        + page.charts(*partition_charts(stats, medium=run.medium))
        + (listed if len(clients) <= CLIENTS_WITH_NAMES else page.details(f"All {len(clients)} clients", listed))
    )


def partition_charts(stats: dict[str, Any], *, medium: str) -> Iterator[tuple[str, str]]:
    """Videos or pictures per client and class, and shared by two clients; both are numbered from 1, as in the lists."""
    clients = stats["clients"]
    num_labels = max(int(label) for client in clients for label in client["videos_per_class"])
    counts = np.zeros((len(clients), num_labels), dtype=int)
    for row, client in zip(counts, clients, strict=True):
        for label, videos in client["videos_per_class"].items():
            row[int(label) - 1] = videos
    title = f"{medium.capitalize()}s of each class at each client"
    names = list(stats.get("class_names", {}).values())  # earlier versions have none
    named = names if len(names) == num_labels <= MOST_NAMED else ()
    yield title, count_map(title, counts, x="class", y="client", unit=f"{medium}s", names=named)
    overlap = np.array(stats["video_overlap"])
    np.fill_diagonal(overlap, 0)
    if overlap.any():
        title = f"{medium.capitalize()}s that two clients share: {overlap.sum() // 2}"
        yield title, count_map(title, overlap, x="client", y="client", unit=f"{medium}s")


def loss(run: Folder) -> str:
    """Section of `learning`, or a placeholder while no round is finished."""
    return learning.loss(run) if run.rounds else no_rounds(run)


def no_rounds(run: Folder) -> str:
    """Placeholder while no round is finished."""
    return page.missing(
        "No round is finished yet; the run's command with its settings and this folder goes on:",
        f"python -m fedvssl.main <its settings> hydra.run.dir={shlex.quote(str(run.path))}",
    )


def costs(run: Folder) -> str:
    """Seconds of the server and of a client, and bytes, by their parts, in each round and in all."""
    if not run.rounds:
        return no_rounds(run)
    xs = [record["server_round"] for record in run.rounds]
    kinds = {"seconds of the server": server_seconds, "seconds of a client (mean)": client_seconds, "bytes": transfers}
    columns = {kind: parts_of(run.rounds, split) for kind, split in kinds.items()}
    drawn = []
    for kind, parts in columns.items():
        if parts:
            scale, unit = (1e6, "MB") if kind == "bytes" else (1, "s")
            title = f"{kind.capitalize()} in each round"
            scaled = {name: [value / scale for value in values] for name, values in parts.items()}
            drawn.append((title, stacked_chart(title, xs, scaled, x="round", y=unit)))
    return (
        page.charts(*drawn)
        + "".join(cost_table(kind, parts) for kind, parts in columns.items() if parts)
        + page.paragraph(
            "Clients that train at the same time share the server's waiting. A client's communication and queue is its "
            "reply's round trip less its own work: packing, transport, and its turn where fewer processes than clients "
            "train at once; in the first round also the start of the processes."
        )
        + page.details("Every round", rounds_table(run.rounds))
    )


def cost_table(kind: str, parts: dict[str, list[float]]) -> str:
    """Mean, sum and share of each part."""
    total = sum(map(sum, parts.values()))
    rows = [(name, sum(values) / len(values), sum(values)) for name, values in parts.items()]
    return page.table(
        [kind, "per round", "in all", "share"],
        [[name, amount(mean, kind), amount(whole, kind), f"{100 * whole / total:.1f} %"] for name, mean, whole in rows],
    )


def server_seconds(record: Record) -> dict[str, float]:
    """Parts of a round; its "seconds" do not include the evaluation, which comes last."""
    parts = {name: number(record, key) for name, key in ROUND_PARTS.items()}
    rest = {"the rest": max(0.0, number(record, "seconds") - sum(parts.values()))}
    return {**parts, **rest, "evaluation": number(record, "seconds_eval")}


def client_seconds(record: Record) -> dict[str, float]:
    """The parts of a client's round trip, as means over the clients of a round."""
    parts = {name: number(record, key) for name, key in WORK_PARTS.items()}
    rest = {"its other work": max(0.0, number(record, "seconds_on_client") - sum(parts.values()))}
    return {**parts, **rest, "communication and queue": number(record, "seconds_communication")}


def transfers(record: Record) -> dict[str, float]:
    """Bytes between the server and all clients of a round."""
    return {"to the clients": number(record, "bytes_down"), "to the server": number(record, "bytes_up")}


def parts_of(rounds: Sequence[Record], split: Any) -> dict[str, list[float]]:
    """{part: its value in each round}, without the parts that are zero in all rounds."""
    told = [split(record) for record in rounds]
    columns = {name: [parts[name] for parts in told] for name in told[0]}
    return {name: values for name, values in columns.items() if any(values)}


def rounds_table(rounds: Sequence[Record]) -> str:
    """Table of the records of all rounds."""
    columns = {
        **{"loss": "loss", "clients": "num_clients", "seconds": "seconds", "of clients": "seconds_clients"},
        **{"of aggregation": "seconds_aggregate", "samples/s": "clips_per_second", "learning rate": "lr"},
        **{"gradient norm": "grad_norm", "largest": "grad_norm_max", "clipped steps": "clipped_share"},
    }
    rows = []
    for record in rounds:
        failed = ", ".join(str(client_number(who)) for who in record.get("failed_partition_ids", []))
        rows.append([text(record["server_round"]), *(text(record.get(key, "")) for key in columns.values()), failed])
    return page.table(["round", *columns, "failed clients"], rows)


def evaluations(run: Folder) -> str:
    """Accuracies with intervals, and spread of the features, in the evaluated rounds; round 0 is the initial model."""
    found = dict.fromkeys(name for record in run.evaluated for name in record if name.startswith("eval_"))
    names = {name: None for name in found if not name.endswith(("_low", "_high"))}  # the ends of an interval
    if not names:
        return page.missing(
            "No round was evaluated; a run with eval.every measures the representation while it is trained:",
            "python -m fedvssl.main <its settings> eval.every=5",
        )
    lines = [line(run.evaluated, n, label=EVALUATION_LABELS.get(n, n), scale=100) for n in names if n not in SPREAD]
    lines += chances(run)
    drawn = []
    if lines:
        title = "Accuracy" if run.setting("eval.validation") is None else f"Accuracy on validation {run.medium}s"
        chart = line_chart(f"Accuracy on the server's own {run.medium}s", lines, x="round", y="%", fraction=True)
        drawn.append((titled(title, lines), chart))
    for name in names.keys() & SPREAD:
        title = f"{SPREAD[name]} of the normalised features"
        drawn.append((title, line_chart(title, [line(run.evaluated, name)], x="round", y=SPREAD[name].lower())))
    return page.charts(*sorted(drawn))


def chances(run: Folder) -> Iterator[Line]:
    """Dashed lines at the percentages that guessing reaches, each as long as the accuracies to compare with it."""
    classes = run.setting("eval.num_classes")
    known = {"eval_motion_probe": DIRECTIONS} | ({"eval_R@1": classes, "eval_knn_top1_acc": classes} if classes else {})
    numbers: dict[int, list[str]] = {}
    for name, number in known.items():
        if isinstance(number, int) and line(run.evaluated, name).xs:
            numbers.setdefault(number, []).append(name)
    for number, names in numbers.items():
        label = f"chance, {' and '.join(EVALUATION_LABELS[name] for name in names)}: {100 / number:.1f} %"
        xs = line(run.evaluated, names[0]).xs
        yield Line(label, xs, [100 / number] * len(xs), dashed=True)


def tiles(run: Folder) -> list[tuple[str, str]]:
    """The figures at the top."""
    if not run.rounds:
        return [("rounds", f"0 of {run.setting('rounds')}")]
    last = run.rounds[-1]
    seconds, moved = (sum(sum(split(r).values()) for r in run.rounds) for split in (server_seconds, transfers))
    return [
        ("rounds", f"{last['server_round']} of {run.setting('rounds')}"),
        ("clients in the last", text(last.get("num_clients", ""))),
        ("loss, first to last", f"{number(run.rounds[0], 'loss'):.3g} → {number(last, 'loss'):.3g}"),
        ("time", clock(seconds)),
        ("sent", amount(moved, "bytes")),
    ]


def number(record: Record, name: str) -> float:
    """Number in a record; 0 if it is missing."""
    return float(record[name]) if is_number(record.get(name)) else 0.0


def text(value: object) -> str:
    """Whole numbers as they are, others with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def amount(value: float, kind: str) -> str:
    """Bytes with their unit, or seconds, from 600 on as a clock shows them."""
    if kind == "bytes":
        return show_bytes(value)
    return f"{value:.1f} s" if value < 600 else clock(value)
