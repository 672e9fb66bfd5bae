"""Round files of a federated run: their names, their number and their space on the disk."""

import re
from pathlib import Path

from fedvssl.files.environment import free_bytes
from fedvssl.files.run_log import METRICS_FILE, read_records


def round_path(run_dir: Path, server_round: int) -> Path:
    return run_dir / f"round-{server_round}-weights.npz"


def saved_rounds(run_dir: Path) -> list[int]:
    """Numbers of the saved rounds, ascending."""
    numbers = map(round_of, run_dir.glob("round-*-weights.npz"))
    return sorted(number for number in numbers if number is not None)


def round_of(path: Path) -> int | None:
    """Number of the round that a round file holds; None for any other file."""
    name = re.fullmatch(r"round-(\d+)-weights\.npz", path.name)
    return int(name[1]) if name else None


def last_round(run_dir: Path) -> int:
    """The last saved round, 0 if there is none."""
    return max(saved_rounds(run_dir), default=0)


def forget_rounds(run_dir: Path, *, keep_last: int | None) -> None:
    """Delete all but the last `keep_last` round files; None keeps all."""
    if keep_last is not None:
        for number in saved_rounds(run_dir)[:-keep_last]:
            round_path(run_dir, number).unlink()


def check_disk(run_dir: Path, *, needed: int) -> None:
    """Check that `needed` bytes, less those written by earlier starts, fit on the disk.

    Raises:
        ValueError: if they do not fit.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    written = [*run_dir.glob("round-*-weights.npz"), *run_dir.glob("clients/*/head-round-*.npz")]
    missing = needed - sum(path.stat().st_size for path in written)
    if missing > (free := free_bytes(run_dir)):
        raise ValueError(
            f"Round files and heads need {missing / 1e9:.1f} GB more in {run_dir}, {free / 1e9:.1f} GB are free: "
            "lower keep_last (null keeps all rounds), or set hydra.run.dir to a folder on another disk."
        )


def accepted_rounds(run_dir: Path, *, done: int) -> dict[int, int]:
    """Last round up to `done` in which a client's reply counted, by partition id.

    Raises:
        ValueError: if the run's records end before round `done`.
    """
    records = [record for record in read_records(run_dir / METRICS_FILE) if record["server_round"] <= done]
    if done and (not records or records[-1]["server_round"] < done):
        raise ValueError(
            f"{run_dir / METRICS_FILE} does not reach round {done}, so which heads the clients go on with is lost: "
            "choose a new hydra.run.dir."
        )
    accepted: dict[int, int] = {}
    for record in records:
        if "partition_id" in record:
            accepted[record["partition_id"]] = record["server_round"]
        for partition_id in record.get("lost_heads", []):  # see files/earlier_round.py
            accepted.pop(partition_id, None)
    return accepted


def update_sizes(run_dir: Path, *, server_round: int) -> list[float]:
    """Sizes of the updates that counted in a round; see strategy/bounds.py."""
    records = read_records(run_dir / METRICS_FILE)
    of_clients = [r for r in records if r["server_round"] == server_round and "partition_id" in r]
    return [record["update_norm"] for record in of_clients if "update_norm" in record]
