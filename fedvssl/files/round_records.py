"""Records of one round, made of what its clients report."""

from dataclasses import dataclass

import numpy as np

from fedvssl.files.run_log import Record

RATES = ("clips_per_second", "data_share")
SUMS = ("num_clips", "num_examples", "bytes_up", "bytes_down")  # over the clients of a round


@dataclass(frozen=True)
class RoundReport:
    """Facts of a round.

    Args:
        clients: metrics of each client whose reply counts, with its weights; by partition id, ascending.
        failures: reasons for missing replies, by partition id, ascending.
        typical: norm, least and most steps of the typical update, see strategy/bounds.py; [] if there is none.
        seconds: "seconds" of the whole round, "seconds_clients" of waiting for clients, "seconds_aggregate" of the work
            on their replies.
    """

    clients: dict[int, dict[str, float]]
    failures: dict[int, str]
    typical: list[float]
    seconds: dict[str, float]


def to_records(report: RoundReport, *, server_round: int, lr: float) -> list[Record]:
    """Record of the round, then one for each client.

    The round has sums of clips, videos and bytes, maxima of "..._max", plain means of seconds and rates, and means
    weighted by videos of all else, each over the clients that report it. The record of a client lacks what it does not.
    """
    clients: list[Record] = []
    for partition_id, metrics in report.clients.items():
        named = {name.replace("-", "_"): value for name, value in metrics.items()}
        clients.append({"server_round": server_round, "partition_id": partition_id, **named})
    total: Record = {
        "server_round": server_round,
        "lr": lr,
        "num_clients": len(clients),
        "failed_partition_ids": list(report.failures),
        "typical_update": report.typical,
    }
    for name in dict.fromkeys(name for client in clients for name in client):
        if name in ("server_round", "partition_id") or name.endswith("weight"):
            continue
        values, num_examples = zip(*((c[name], c["num_examples"]) for c in clients if name in c), strict=True)
        if name in SUMS or name.endswith("_max"):
            total[name] = float(np.sum(values) if name in SUMS else np.max(values))
        else:
            by_videos = None if name.startswith("seconds") or name in RATES else num_examples
            total[name] = float(np.average(values, weights=by_videos))
    if "num_clips" in total:
        total["clips_per_second"] = total["num_clips"] / report.seconds["seconds_clients"]
    return [total | report.seconds, *clients]
