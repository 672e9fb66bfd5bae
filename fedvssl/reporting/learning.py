"""Section that tells whether anything is learned: losses beside trivial ones, overlap, signs of life, boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np

from fedvssl.files.names import client_number
from fedvssl.files.run_log import Record
from fedvssl.reporting import page
from fedvssl.reporting.figures import COLOURS, Line, heat_map, is_number, line, line_chart
from fedvssl.reporting.folders import Folder
from fedvssl.training.watch import TRIVIAL, unbeaten

CLIENTS_WITH_NAMES = 7  # more lines cannot be told apart
BOXES = "ctp.png"  # of scripts/show_task.py
# Numbers of a round and its clients -> title of their chart, unit.
LIFE = {
    "active_share": ("Active units of the head's hidden layer", "share"),
    "backbone_grad_norm": ("Gradient norm of the backbone, after clipping", "L2 norm"),
    "divergence": ("Divergence: how far the backbone moved", "L2 norm, mean over layers"),
    "alignment": ("Agreement with the last global model, mean over layers", "cosine, at most 1"),
    "scaler": ("Scaler: lambda of FedEMA", "1 / L2 norm"),
    "own_share": ("Own share that a client will take at its next contact", "share"),
}


def loss(run: Folder) -> str:
    """Warnings, charts of the losses, of the overlap of boxes and of the gradients, and the picture of boxes."""
    html = "".join(map(page.paragraph, sentences(run.rounds[-1]))) + page.charts(*charts(run))
    if (run.path / BOXES).is_file():
        title = "True boxes (solid) and predicted ones (dashed), before and after training"
        html += page.figure(title, page.picture(run.path / BOXES, title))
    return html


def sentences(record: Record) -> list[str]:
    """Sentence about each trivial predictor that the loss of a round has not beaten by five percent."""
    numbers = {name: value for name, value in record.items() if is_number(value)}
    return [
        f"The loss of round {record['server_round']}, {record['loss']:.3g}, is not 5 % below "
        f"{record[TRIVIAL + name]:.3g}, that of '{name}', which looks at no sample: hardly anything is learned yet."
        for name in (unbeaten(numbers) if "loss" in numbers else [])
    ]


def trivial_names(records: Sequence[Record]) -> list[str]:
    """Names of the losses of trivial predictors in the last record."""
    return [name for name, value in records[-1].items() if name.startswith(TRIVIAL) and is_number(value)]


def charts(run: Folder) -> Iterator[tuple[str, str]]:
    """Title and chart of what the last round has."""
    rounds, last = run.rounds, run.rounds[-1]
    parts = [name for name in last if name.startswith("loss_") or name.endswith("_loss")]
    lines = [line(rounds, "loss", main=True)]
    # From the end of the colours, because the charts beside it have the first ones for the clients.
    coloured = zip(parts, cycle(COLOURS[::-1]), strict=False)
    lines += [replace(line(rounds, name), colour=colour) for name, colour in coloured]
    lines += [dashed(rounds, name, label=name.removeprefix(TRIVIAL)) for name in trivial_names(rounds)]
    yield "Global, with its parts", line_chart("Global loss with its parts", lines, x="round", y="loss")
    ids = client_ids(run)
    title = "Global and each client" if len(ids) <= CLIENTS_WITH_NAMES else f"Global and each of {len(ids)} clients"
    yield title, line_chart(f"Loss: {title}", of_all(run, "loss"), x="round", y="loss")
    if is_number(last.get("iou")):
        lines = [line(rounds, "iou", label="IoU", main=True), dashed(rounds, "iou_still", label="standing still")]
        title = "Overlap of the predicted boxes with the true ones"
        yield title, line_chart(title, lines, x="round", y="IoU", fraction=True)
    if is_number(last.get("grad_norm")):
        norms = [*of_all(run, "grad_norm"), dashed(rounds, "grad_norm_max", label="largest")]
        yield "Gradient norm before clipping", line_chart("Gradient norm", norms, x="round", y="L2 norm")
    for name, (title, unit) in LIFE.items():
        if is_number(last.get(name)):
            yield title, line_chart(title, of_all(run, name), x="round", y=unit, fraction=unit == "share")
    if is_number(last.get("own_share")):
        title = "Own share that each client took in a round: 1 its own (of FedU: its predictor), 0 what arrived"
        yield title, heat_map(title, taken(run), x="round", y="client", unit="own share")


def taken(run: Folder) -> np.ndarray:
    """Share of its own that each client took in each round, [clients, rounds]; NaN where its reply does not count.

    The record of a round has the share of the client's next contact. A first contact takes all that arrives.
    """
    shares = np.full((max(client_ids(run)) + 1, max(record["server_round"] for record in run.records)), np.nan)
    last: dict[int, Record] = {}
    for record in run.records:
        for client in record.get("lost_kept", []):  # it begins anew, see files/earlier_round.py
            last.pop(client, None)
        if (client := record.get("partition_id")) is not None:
            server_round, before = record["server_round"], last.get(client, {})
            anew = run.setting("strategy.rule.selective") and before.get("server_round") != server_round - 1
            shares[client, server_round - 1] = 0 if anew else before.get("own_share") or 0
            last[client] = record
    return shares


def dashed(records: Sequence[Record], name: str, *, label: str) -> Line:
    """Dashed line of a number to compare with."""
    return replace(line(records, name, label=label), dashed=True)


def client_ids(run: Folder) -> list[int]:
    """Partition ids of the clients that took part."""
    return sorted({record["partition_id"] for record in run.records if "partition_id" in record})


def of_all(run: Folder, name: str) -> list[Line]:
    """A line for each client and the main one for the round."""
    own = {n: [record for record in run.records if record.get("partition_id") == n] for n in client_ids(run)}
    named = len(own) <= CLIENTS_WITH_NAMES
    lines = [line(records, name, label=f"client {client_number(n)}" if named else None) for n, records in own.items()]
    return [*lines, line(run.rounds, name, label="global", main=True)]
