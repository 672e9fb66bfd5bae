"""Replies and introductions of clients, changed at random, through the real round of the server.

    python -m tests.reliability.fuzz                    20,000 rounds, which take some minutes on one core
    python -m tests.reliability.fuzz --only 4711        one of them again, with what was logged

A tiny federation trains one round; its replies are recorded and then sent again, with changes, without any training.
Every round has four clients, of which one, two or all are changed, and the server asks for two.
"""

import argparse
import json
import logging
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message

from fedvssl.client_app import answer, build_client_app
from fedvssl.files.arrays import Arrays
from fedvssl.files.names import client_number
from fedvssl.files.round_records import to_records
from fedvssl.server_rounds import Run
from fedvssl.server_run import build_run
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.wire.grid import GridWire
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.replies import FACTS, LONGEST_LINE, SERVERS_OWN, Report
from fedvssl.wire.wire import FederationError
from tests.federation import InProcess, LocalGrid, client_of, report_of, site_of, tiny_config, wire_over, write_clients
from tests.reliability.changes import CHANGES, NUM_CLIENTS, Draft, pick
from tests.reliability.table import Row, store

LEAST = 2  # clients of a round
SMALL = ("backbone.stem.conv.weight", "backbone.stem.bn.running_var", "backbone.stem.bn.num_batches_tracked")
WHOLE_MODEL_EVERY = 20  # rounds; the others send a few arrays
WEIGHTS = ("weight", "loss_weight", "video_weight")


@dataclass
class Recording:
    """A round of a tiny federation: the run as the server built it, and what each client replied and introduced."""

    run: Run
    drafts: list[Draft]

    @property
    def sent(self) -> Arrays:
        return self.run.shared

    @property
    def report(self) -> Report:
        return self.run.strategy.rounds.report

    def draft(self, partition_id: int, names: Iterable[str]) -> Draft:
        """A client's reply with some of its arrays, to be changed."""
        whole = self.drafts[partition_id]
        return Draft(
            {name: whole.arrays[name] for name in names},
            *(dict(whole.metrics), dict(whole.introduction)),
            expected={name: self.sent[name] for name in names},
        )

    @cached_property
    def names(self) -> set[str]:
        """Names that a line of metrics.jsonl may have."""
        known = {*self.report.names, *FACTS, *SERVERS_OWN, *WEIGHTS, "loss", "num-examples"}
        return {name.replace("-", "_") for name in known}


def record_round(folder: Path) -> Recording:
    """Train one round of four clients in this process; `folder` gets their videos and heads."""
    write_clients(folder, (2, 3, 4, 2))
    config, run_dir = tiny_config(folder, num_clients=NUM_CLIENTS), folder / "run"
    site = site_of(config, run_dir)
    run = build_run(config, run_dir=run_dir, report=report_of(config))
    drafts: dict[int, Draft] = {}

    def keep(partition_id: int, message: Message) -> Message:
        reply = answer(message, client=client_of(config, run_dir, partition_id))
        content: Any = reply.content
        introduction = {"partition-id": partition_id, "num-examples": content["metrics"]["num-examples"]}
        contents = dict(content["arrays"]), dict(content["metrics"]), introduction
        drafts[partition_id] = Draft(*contents, expected=run.shared)
        return reply

    grid = LocalGrid(build_client_app(site), NUM_CLIENTS, keep)
    run.strategy.round(wire_over(grid, run, config), 1, run.shared, run.order(1))
    return Recording(run, [drafts[number] for number in range(NUM_CLIENTS)])


class Replay(InProcess):
    """Nodes that send drafts; node ids are 100 + the client that they really are."""

    def __init__(self, drafts: list[Draft]) -> None:
        super().__init__()
        self.drafts = drafts
        self.asked: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return [100 + number for number in range(len(self.drafts))]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            number = message.metadata.__dict__["_message_id"] = f"m{len(self.asked)}"
            self.asked[number] = message
        return list(self.asked)[-len(self.drafts) :]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = [self.asked[number] for number in message_ids]
        return [self.drafts[message.metadata.dst_node_id - 100].reply(message) for message in asked]

    def asked_to_train(self, introductions: Introductions) -> dict[int, int]:
        """Partition ids of the nodes that got a training message, by node id."""
        nodes = {m.metadata.dst_node_id for m in self.asked.values() if m.metadata.message_type == "train"}
        return {client.node_id: who for who, client in introductions.clients.items() if client.node_id in nodes}


class Lines(logging.Handler):
    """Keeps what the package warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass
class Trial:
    """One round with changes.

    Args:
        changed: kind of change by partition id.
        fate: "dropped", "accepted", or "not asked" of each of them, where too few had introduced themselves to go on.
        ended: the sentence of a run that cannot go on; "" if it goes on.
        faults: promises that were not kept.
        lines: what was logged.
    """

    changed: dict[int, str]
    fate: dict[int, str]
    ended: str
    faults: list[str]
    lines: list[str]


def run_trial(recording: Recording, *, number: int, seed: int) -> Trial:
    """Draw, change, and run one round; `number` and `seed` decide everything."""
    rng = np.random.default_rng([seed, number])
    names = list(recording.sent) if number % WHOLE_MODEL_EVERY == 0 else SMALL
    drafts = [recording.draft(partition_id, names) for partition_id in range(NUM_CLIENTS)]
    how_many = pick(rng, (1, 2, NUM_CLIENTS))
    changed, may_stay = {}, set()
    for partition_id in sorted(rng.permutation(NUM_CLIENTS)[:how_many].tolist()):
        changed[partition_id] = pick(rng, CHANGES)
        if CHANGES[changed[partition_id]](drafts[partition_id], rng):
            may_stay.add(partition_id)
    sent, grid, introductions = {n: recording.sent[n] for n in names}, Replay(drafts), Introductions(NUM_CLIENTS)
    wire = GridWire(grid, introductions, num_clients=NUM_CLIENTS, timeout=5.0, stop=threading.Event())
    strategy = _strategy(recording, mix=bool(number % 2))
    handler, logger = Lines(), logging.getLogger("fedvssl")
    logger.addHandler(handler)
    trial = Trial(changed, {}, "", [], handler.lines)
    accepted: set[int] = set()
    try:
        arrays, report = strategy.round(wire, 2, sent, recording.run.order(2))
        lines = to_records(report, server_round=2, lr=recording.run.lr)
        accepted = {line["partition_id"] for line in lines[1:]}
        trial.faults += check_lines(lines, recording.names) + check_arrays(arrays, sent)
    except FederationError as error:
        trial.ended = str(error)
    except Exception as error:
        trial.faults.append(f"{type(error).__name__}: {error}"[:LONGEST_LINE])
    finally:
        logger.removeHandler(handler)
    if not trial.faults:
        _judge(trial, accepted, grid.asked_to_train(introductions), drafts, may_stay)
    return trial


def _strategy(recording: Recording, *, mix: bool) -> FedAvg:
    rounds = {
        "fraction_fit": 1.0,
        "min_fit_clients": LEAST,
        "num_clients": NUM_CLIENTS,
        "seed": 7,
        "share": ["backbone.*"],
        "report": recording.report,
    }
    return FedVSSL(mix_coeff=0.9, swbeta=1, **rounds) if mix else FedAvg(**rounds)


def _judge(trial: Trial, accepted: set[int], asked: dict[int, int], drafts: list[Draft], may_stay: set[int]) -> None:
    """Compare who is accepted with who was changed; `asked` are the partition ids of the nodes that trained."""
    robbed = set().union(*(draft.claims for draft in drafts))  # whose partition another node claims too
    unharmed = set(range(NUM_CLIENTS)) - trial.changed.keys() - robbed
    if trial.ended and len(unharmed) >= LEAST:
        trial.faults.append("the run ended although enough clients are left")
    if not trial.ended and not unharmed <= accepted:
        trial.faults.append(f"sound clients {sorted(unharmed - accepted)} were dropped")
    told = [*trial.lines, *([trial.ended] if trial.ended else [])]
    if any(not line.isprintable() or len(line) > 2 * LONGEST_LINE for line in told):
        trial.faults.append("a line is long or not printable")
    if len(trial.lines) > len(trial.changed) + len(robbed):
        trial.faults.append("more than one line for a client")
    for number in trial.changed:
        node, role = 100 + number, asked.get(100 + number)
        names = [f"node {node} ", *([] if role is None else [f"client {client_number(role)} ("])]
        is_named = any(name in line for name in names for line in trial.lines)
        if role in accepted or (trial.ended and role is not None and not is_named):
            trial.fate[number] = "accepted"
        else:
            trial.fate[number] = "dropped" if is_named else "not asked"
        if trial.fate[number] == "accepted" and number not in may_stay:
            trial.faults.append(f"client {number} was accepted")
        if trial.fate[number] == "not asked" and not trial.ended:
            trial.faults.append(f"client {number} was dropped without a line")


def check_lines(lines: list[dict[str, Any]], names: set[str]) -> list[str]:
    """Faults of the records of a round."""
    faults = []
    for line in lines:
        try:
            json.dumps(line, allow_nan=False)
        except (ValueError, TypeError) as error:
            faults.append(f"no JSON: {error}")
        if unknown := line.keys() - names:
            faults.append(f"unknown names {sorted(unknown)}")
    if [line.get("partition_id") for line in lines[1:]] != sorted({line["partition_id"] for line in lines[1:]}):
        faults.append("the clients are not told apart")
    return faults


def check_arrays(arrays: Arrays, sent: Arrays) -> list[str]:
    """Faults of the averaged arrays."""
    faults = [f"{name} is another array" for name in sent if arrays[name].dtype != sent[name].dtype]
    faults += [f"{name} is not finite" for name, array in arrays.items() if not np.isfinite(array).all()]
    faults += [f"{name} < 0" for name, array in arrays.items() if name.endswith("running_var") and array.min() < 0]
    counters = [name for name in sent if name.endswith("num_batches_tracked")]
    return faults + [f"{name} went back" for name in counters if not 0 <= arrays[name] - sent[name] <= 2**31]


def rows_of(trials: list[Trial]) -> list[Row]:
    """A row for each kind of change, and one for the rounds in which all clients are changed."""
    fates = Counter((kind, trial.fate[who]) for trial in trials for who, kind in trial.changed.items())
    rows = []
    for kind in CHANGES:
        dropped, accepted, others = (fates[kind, fate] for fate in ("dropped", "accepted", "not asked"))
        seen = f"{dropped:,} dropped, {accepted:,} harmless and taken" + f", {others:,} not asked" * bool(others)
        rows.append(Row(f"a client changes {kind}", PROVOKED, PROMISED, seen, dropped + accepted + others))
    everyone = [trial for trial in trials if len(trial.changed) == NUM_CLIENTS]
    ended = sum(bool(trial.ended) for trial in everyone)
    seen = f"{ended:,} ended in one sentence, {len(everyone) - ended:,} had enough harmless replies"
    return [*rows, Row("all four change something", PROVOKED, "the run ends in one sentence", seen, len(everyone))]


PROVOKED = "recorded replies of one, two or all of four clients, changed at random"
PROMISED = "that client is dropped in one line, no other is; names, JSON and averages stay sound"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the only round to run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = record_round(Path(folder))
    started = time.process_time()
    trials, num_faulty = [], 0
    for number in range(args.count) if args.only is None else [args.only]:
        trial = run_trial(recording, number=number, seed=args.seed)
        trials.append(trial)
        if trial.faults or args.only is not None:
            num_faulty += bool(trial.faults)
            print(f"--seed {args.seed} --only {number}: {trial.faults} {trial.changed} {trial.ended} {trial.lines}")
    print(
        f"{len(trials):,} rounds in {time.process_time() - started:.0f} s of one core, {num_faulty} of them with faults"
    )
    if args.only is None and not num_faulty:
        store("fuzz", rows_of(trials))
    return int(bool(num_faulty))


if __name__ == "__main__":
    sys.exit(main())
