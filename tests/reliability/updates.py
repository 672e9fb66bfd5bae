"""Enlarged updates, and honest ones of clients of very different size, against `strategy.max_update_factor`.

    python -m tests.reliability.updates

Trains federations in this process: honest clients with 4, 40 and 400 videos, through a tenfold decay of the learning
rate, and enlarged updates of one of three clients with 40 videos each, or of all.
"""

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message

from fedvssl.client_app import answer
from fedvssl.files.rounds import saved_rounds
from fedvssl.files.run_log import Record, read_records
from fedvssl.strategy.bounds import STATISTICS
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.wire import FederationError
from tests.federation import client_of, tiny_config, train, write_clients
from tests.reliability.table import Row, store

NUM_VIDEOS, EQUAL = (4, 40, 400), (40, 40, 40)
ROUNDS, ROUNDS_OF_THE_BAD = 6, 2
DECAY = "training.steps=[2,4]"
PROMISED = "the update is rejected, the round goes on"


def enlarged(message: Message, *, times: float, config: dict[str, Any], run_dir: Path, partition_id: int) -> Message:
    """Reply of a client that has trained, with the change of its weights enlarged, running statistics left alone."""
    sent = unpack(message.content["arrays"])  # pyright: ignore[reportArgumentType]
    reply = answer(message, client=client_of(config, run_dir, partition_id))
    trained = unpack(reply.content["arrays"])  # pyright: ignore[reportArgumentType]
    reply.content["arrays"] = pack(
        {n: a if n.endswith(STATISTICS) else _further(a, sent[n], times) for n, a in trained.items()}
    )
    return reply


def _further(array: np.ndarray, start: np.ndarray, times: float) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    return np.clip(start + times * (array.astype(np.float64) - start), -3e38, 3e38).astype(array.dtype)


def run(data_dir: Path, run_dir: Path, *overrides: str, bad: dict[int, float] | None = None) -> list[Record]:
    """Records of a federation; `bad` has the factor by which a client enlarges its updates."""
    least = f"strategy.min_fit_clients={len(NUM_VIDEOS) - 1}"
    config = tiny_config(data_dir, f"rounds={ROUNDS}", DECAY, *overrides, least)

    def hook(partition_id: int, message: Message) -> Message | None:
        times = (bad or {}).get(partition_id)
        made: dict[str, Any] = {"config": config, "run_dir": run_dir, "partition_id": partition_id}
        return None if times is None else enlarged(message, times=times, **made)

    train(config, run_dir, on_train=hook)
    return read_records(run_dir / "metrics.jsonl")


def failures(records: list[Record]) -> list[int]:
    """Partition ids of all failed clients, over the rounds."""
    return [who for record in records for who in record.get("failed_partition_ids", [])]


def largest_ratio(records: list[Record]) -> float:
    """Largest size of an update relative to the typical one of the round before, of the first round to its own."""
    typical = {r["server_round"]: r["typical_update"] for r in records if "typical_update" in r}
    sizes = {number: norm / math.sqrt(steps) for number, (norm, _, steps) in typical.items()}
    of_clients = [record for record in records if "partition_id" in record]
    return max(r["update_norm"] / sizes[max(r["server_round"] - 1, 1)] for r in of_clients)


def honest(data_dir: Path, folder: Callable[[], Path]) -> Row:
    found = [run(data_dir, folder(), f"optimizer={name}") for name in ("sgd", "adamw")]
    rejected = sum(len(failures(records)) for records in found)
    ratios = ", ".join(f"{largest_ratio(records):.1f}" for records in found)
    return Row(
        "honest clients of very different size",
        f"{NUM_VIDEOS} videos, {ROUNDS} rounds with a tenfold decay of the rate after 2 and 4, SGD and AdamW",
        "none is rejected",
        f"{rejected} rejected; the largest was {ratios} times the typical one",
        2 * ROUNDS * len(NUM_VIDEOS),
    )


def one_bad(data_dir: Path, folder: Callable[[], Path], *, times: float) -> Row:
    records = run(data_dir, folder(), f"rounds={ROUNDS_OF_THE_BAD}", bad={1: times})
    failed = failures(records)
    return Row(
        f"weights move {times:g} times as far",
        f"one of three clients of {EQUAL[1]} videos, in each of {ROUNDS_OF_THE_BAD} rounds",
        PROMISED,
        f"{failed.count(1)} rejected, of other clients {len(failed) - failed.count(1)}",
        ROUNDS_OF_THE_BAD,
    )


def all_bad(data_dir: Path, folder: Callable[[], Path], *, times: float) -> Row:
    run_dir = folder()
    try:
        run(data_dir, run_dir, bad=dict.fromkeys(range(len(EQUAL)), times))
        seen = "the run went on"
    except FederationError as error:
        seen = f"{type(error).__name__}: {str(error).split(':')[0]}; {len(saved_rounds(run_dir))} rounds saved"
    return Row(
        f"the weights of all move {times:g} times as far",
        "all clients, in round 1",
        "one sentence, nothing is saved",
        seen,
        1,
    )


def main() -> None:
    """Run all and store their rows."""
    with tempfile.TemporaryDirectory() as scratch:
        different, equal, numbers = Path(scratch) / "different", Path(scratch) / "equal", iter(range(100))
        write_clients(different, NUM_VIDEOS)
        write_clients(equal, EQUAL)

        def folder() -> Path:
            path = Path(scratch) / f"run-{next(numbers)}"
            path.mkdir()
            return path

        rows = [honest(different, folder)]
        rows += [one_bad(equal, folder, times=times) for times in (30, 1e3, 1e30)]
        rows += [all_bad(equal, folder, times=1e30)]
    store("updates", rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    sys.exit(main())
