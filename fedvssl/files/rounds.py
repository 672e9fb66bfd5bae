"""Round files of a federated run: their names, their number and their space on the disk."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from fedvssl.files.environment import free_bytes
from fedvssl.files.names import client_number
from fedvssl.files.run_log import METRICS_FILE, read_records


def round_path(run_dir: Path, server_round: int) -> Path:
    return run_dir / f"round-{server_round}-weights.npz"


def state_path(run_dir: Path, server_round: int) -> Path:
    """File of what the strategy keeps after a round, where it keeps something."""
    return run_dir / f"round-{server_round}-strategy.npz"


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
    """Delete all but the last `keep_last` round files, and the strategy's state with them; None keeps all."""
    if keep_last is not None:
        for number in saved_rounds(run_dir)[:-keep_last]:
            round_path(run_dir, number).unlink()
            state_path(run_dir, number).unlink(missing_ok=True)


def check_disk(run_dir: Path, *, needed: int) -> None:
    """Check that `needed` bytes, less those written by earlier starts, fit on the disk.

    Raises:
        ValueError: if they do not fit.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    written = [*run_dir.glob("round-*.npz"), *run_dir.glob("clients/*/kept-round-*.npz")]
    missing = needed - sum(path.stat().st_size for path in written)
    if missing > (free := free_bytes(run_dir)):
        raise ValueError(
            f"Round files and clients need {missing / 1e9:.1f} GB more in {run_dir}, {free / 1e9:.1f} GB are free: "
            "lower keep_last (null keeps all rounds), or set hydra.run.dir to a folder on another disk."
        )


def accepted_rounds(run_dir: Path, *, done: int) -> dict[int, int]:
    """Last round up to `done` in which a client's reply counted, by partition id.

    Where the line of a client is damaged, the line of its round decides: a client that has kept arrays of this
    round was asked, and its reply counted unless it is named as failed.

    Raises:
        ValueError: if the run's records end before round `done`, or too many lines are damaged to decide this.
    """
    path = run_dir / METRICS_FILE
    records = [record for record in read_records(path, position="server_round") if record["server_round"] <= done]
    if done and (not records or records[-1]["server_round"] < done):
        raise ValueError(
            f"{path} does not reach round {done}, so what the clients go on with is lost: choose a new hydra.run.dir."
        )
    rounds = {record["server_round"]: record for record in records if "num_clients" in record}
    accepted = {record["partition_id"]: record["server_round"] for record in records if "partition_id" in record}
    told = Counter(record["server_round"] for record in records if "partition_id" in record)
    for server_round, clients in sorted(_kept_beyond(run_dir, accepted, done=done).items()):
        line = rounds.get(server_round)
        lost = line["num_clients"] - told[server_round] if line else None
        asked = [client for client in clients if not line or client not in line.get("failed_partition_ids", ())]
        if asked and (lost is None or 0 < lost < len(asked)):
            named = ", ".join(str(client_number(who)) for who in asked)
            raise ValueError(
                f"The lines of round {server_round} in {path} are damaged, so whether what clients {named} kept of "
                f"this round counts is lost: restore the file, go back with from_round={server_round - 1}, or choose "
                "a new hydra.run.dir."
            )
        if lost:
            accepted.update(dict.fromkeys(asked, server_round))
    for record in records:
        for partition_id in record.get("lost_kept", []):  # see files/earlier_round.py
            if accepted.get(partition_id, 0) <= record["server_round"]:
                accepted.pop(partition_id, None)
    return accepted


def typical_update(run_dir: Path, *, server_round: int) -> list[float]:
    """Norm, least and most steps of a round's typical update, see strategy/bounds.py; [] without a record of it."""
    records = read_records(run_dir / METRICS_FILE)
    told = (r.get("typical_update") for r in records if r["server_round"] == server_round)
    return next((typical for typical in told if typical), [])


def _kept_beyond(run_dir: Path, accepted: dict[int, int], *, done: int) -> dict[int, list[int]]:
    """Clients that kept arrays of a round up to `done` after the last one in which their reply counted, by round."""
    found: dict[int, list[int]] = defaultdict(list)
    for path in sorted(run_dir.glob("clients/client_*/kept-round-*.npz")):
        name = re.fullmatch(r"client_(\d+)/kept-round-(\d+)\.npz", f"{path.parent.name}/{path.name}")
        client, number = (int(name[1]) - client_number(0), int(name[2])) if name else (0, 0)
        if accepted.get(client, 0) < number <= done:
            found[number].append(client)
    return found
