"""Metrics of a run, as JSON lines and TensorBoard scalars, and a plot of the loss."""

import json
import logging
import math
import os
from collections import defaultdict
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import yaml

from fedvssl.files.atomic import atomic_path, naming
from fedvssl.files.names import client_number
from fedvssl.files.scalars import Scalars

log = logging.getLogger(__name__)
Record = dict[str, Any]
METRICS_FILE = "metrics.jsonl"


class RunLog:
    """metrics.jsonl and TensorBoard scalars of one run.

    A record is one line with its position in the run, "server_round" or "epoch". Its numbers become scalars at this
    step. A record with "partition_id" is about one client and gets tags `client_<number>/<name>`.

    Args:
        folder: the run's folder.
        position: name of the position.
        done: rounds or epochs kept from an earlier start. Later records are dropped: the resumed run repeats them.
            Scalars of the last one are written again, because a kill may have come between record and scalars.

    Raises:
        ValueError: if the folder holds the records of another kind of run.
    """

    def __init__(self, folder: Path | str, *, position: str = "server_round", done: int = 0) -> None:
        self.path = Path(folder) / METRICS_FILE
        self.position = position
        kept = [record for record in read_records(self.path, position=position) if record[position] <= done]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._scalars = Scalars(self.path.parent / "tensorboard", from_step=done)
        for record in kept:
            if record[position] == done:
                self._add_scalars(record)

    def write(self, record: Record) -> None:
        """Append one record. Values: numbers, strings, None or lists of them; what is not finite becomes None.

        Raises:
            ValueError: if the record has no position.
        """
        if self.position not in record:
            raise ValueError(f"A record of {self.path} needs '{self.position}'.")
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could take the record and leave its checkpoint
        self._add_scalars(record)

    def _add_scalars(self, record: Record) -> None:
        prefix = f"client_{client_number(record['partition_id'])}/" if "partition_id" in record else ""
        values = {name: value for name, value in record.items() if name not in (self.position, "partition_id")}
        self._scalars.add(values, step=record[self.position], prefix=prefix)

    def close(self) -> None:
        self._scalars.close()


def read_records(path: Path, *, position: str | None = None) -> list[Record]:
    """Read the records of a metrics.jsonl in the order of their positions; [] if there is no file.

    A damaged line is left out with a warning, the half line of a killed writer at the end without a word.

    Raises:
        ValueError: if `position` is given and a record lacks it.
    """
    if not path.is_file():
        return []
    *lines, rest = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is None:
            _warn(path, number)
        else:
            records.append(record)
    if (record := _record(rest)) is not None:  # only its end of line is missing
        records.append(record)
    if position and any(position not in record for record in records):
        raise ValueError(f"{path} has records without '{position}', of another kind of run: name its own folder.")
    return sorted(records, key=_position)  # a missed evaluation is recorded after later rounds


def _record(line: bytes) -> Record | None:
    """Record of a line; None if it is damaged."""
    try:
        record = json.loads(line, parse_constant=lambda _: None)  # NaN of an earlier version
        return record if type(_position(record)) is int else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _position(record: Record) -> int:
    return record.get("server_round", record.get("epoch"))  # pyright: ignore[reportReturnType]


@cache  # once in a process, however often the file is read
def _warn(path: Path, number: int) -> None:
    log.warning("%s: line %d is damaged and left out.", path, number)


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.yaml of a run; {} if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: restore it, or start its command again, which writes it.") from error
    if not isinstance(config, dict):
        return {}
    if "pretext" in config:  # of a run before the task had its name
        config["task"] = {**config["pretext"], "module": config["pretext"]["task"]}
    return config


def plot_losses(metrics_jsonl: Path, png: Path) -> None:
    """Draw "loss" and its parts over the position: thick lines for the run, a thin one for each client.

    The losses of trivial predictors, "trivial_<name>", are dashed.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display
    from matplotlib.ticker import MaxNLocator

    lines: dict[tuple[str, bool], list[tuple[int, float]]] = defaultdict(list)
    axis_label = "server_round"
    for record in read_records(metrics_jsonl):
        axis_label = "epoch" if "epoch" in record else "server_round"
        client = record.get("partition_id")
        for name, value in record.items():
            is_part = client is None and (name.startswith(("loss_", "trivial_")) or name.endswith("_loss"))
            if (name == "loss" or is_part) and isinstance(value, Real):
                label = name if client is None else f"client {client_number(client)}"
                lines[label, client is None].append((record[axis_label], float(value)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=axis_label.replace("_", " "), ylabel="loss")
    for (label, thick), points in sorted(lines.items()):
        style: dict[str, Any] = (
            {"linestyle": "--", "color": "grey"} if label.startswith("trivial_") else {"marker": "o", "markersize": 3}
        )
        style |= {"color": "black"} if label == "loss" else {}
        axes.plot(*zip(*points, strict=True), **style, linewidth=2.5 if thick else 0.8, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_title("Loss" if all(thick for _, thick in lines) else "Loss of the run (thick) and of its clients (thin)")
    if 0 < len(lines) <= 12:
        figure.legend(loc="outside right upper")  # not on the curves
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120)


def speed(record: Record) -> str:
    """ "13.4 samples/s (0.8 % waiting for data)", without what the record lacks."""
    words = [f"{record['clips_per_second']:.1f} samples/s"] if "clips_per_second" in record else []
    words += [f"({100 * record['data_share']:.1f} % waiting for data)"] if "data_share" in record else []
    return " ".join(words)


def _line(record: Record) -> str:
    return json.dumps(_finite(record), default=lambda value: _finite(float(value)), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with None for all that JSON has no word for: NaN and infinities."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
