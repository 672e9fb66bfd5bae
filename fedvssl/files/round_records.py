"""Records of one round, made of what its clients report."""

import math

import numpy as np

from fedvssl.files.run_log import Record

RATES = ("clips_per_second", "data_share")
SUMS = ("num_clips", "num_examples", "bytes_up", "bytes_down")  # over the clients of a round


def to_records(columns: dict, *, server_round: int, lr: float, seconds: dict[str, float]) -> list[Record]:
    """Record of the round, then one for each client.

    The round has sums of clips, videos and bytes, maxima of "..._max", plain means of seconds and rates, and means
    weighted by videos of all else, each over the clients that report it. The record of a client lacks what it does not.
    """
    failed, typical = list(columns.pop("failed-partition-ids")), list(columns.pop("typical-update", []))
    columns = {name.replace("-", "_"): list(values) for name, values in columns.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    clients = [{"server_round": server_round} | {n: v for n, v in row.items() if not math.isnan(v)} for row in rows]
    total: Record = {
        "server_round": server_round,
        "lr": lr,
        "num_clients": len(clients),
        "failed_partition_ids": failed,
        "typical_update": typical,
    }
    for name in columns:
        if name == "partition_id" or name.endswith("weight"):
            continue
        values, num_examples = zip(*((c[name], c["num_examples"]) for c in clients if name in c), strict=True)
        if name in SUMS or name.endswith("_max"):
            total[name] = float(np.sum(values) if name in SUMS else np.max(values))
        else:
            by_videos = None if name.startswith("seconds") or name in RATES else num_examples
            total[name] = float(np.average(values, weights=by_videos))
    if "num_clips" in total:
        total["clips_per_second"] = total["num_clips"] / seconds["seconds_clients"]
    return [total | seconds, *clients]
