"""Metrics of a run, as JSON lines and TensorBoard scalars, and a plot of the loss."""

import json
import math
from collections import defaultdict
from numbers import Real
from pathlib import Path
from typing import Any

import yaml

from fedvssl.files.atomic import atomic_path

Record = dict[str, Any]
METRICS_FILE = "metrics.jsonl"


class RunLog:
    """metrics.jsonl and TensorBoard scalars of one run.

    A record is one line with its position in the run, "server_round" or "epoch". Its numbers become scalars at this
    step. A record with "partition_id" is about one client and gets tags `client_<id>/<name>`.

    Args:
        folder: the run's folder.
        position: name of the position.
        done: rounds or epochs kept from an earlier start. Later records are dropped: the resumed run repeats them.
    """

    def __init__(self, folder: Path | str, *, position: str = "server_round", done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # reading records needs no torch

        self.path = Path(folder) / METRICS_FILE
        self.position = position
        kept = [record for record in read_records(self.path) if record[position] <= done]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(_line(record) for record in kept), encoding="utf-8")
        self._scalars = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=done + 1)

    def write(self, record: Record) -> None:
        """Append one record. Values: numbers, strings, None or lists of them.

        Raises:
            ValueError: if the record has no position.
        """
        if self.position not in record:
            raise ValueError(f"A record of {self.path} needs '{self.position}'.")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        prefix = f"client_{record['partition_id']}/" if "partition_id" in record else ""
        for name, value in record.items():
            if isinstance(value, Real) and name not in (self.position, "partition_id"):
                self._scalars.add_scalar(prefix + name, float(value), record[self.position])
        self._scalars.flush()

    def close(self) -> None:
        self._scalars.close()


def read_records(path: Path) -> list[Record]:
    """Read the records of a metrics.jsonl, up to a line that a crash cut off; [] if there is no file."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


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
                label = name if client is None else f"client {client}"
                lines[label, client is None].append((record[axis_label], float(value)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=axis_label.replace("_", " "), ylabel="loss")
    for (label, thick), points in sorted(lines.items()):
        style: dict[str, Any] = (
            {"linestyle": "--", "color": "grey"} if label.startswith("trivial_") else {"marker": "o", "markersize": 3}
        )
        axes.plot(*zip(*points, strict=True), **style, linewidth=2.5 if thick else 0.8, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if 0 < len(lines) <= 12:
        axes.legend()
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120)


def speed(record: Record) -> str:
    """ "13.4 clips/s (0.8 % waiting for data)", without what the record lacks."""
    words = [f"{record['clips_per_second']:.1f} clips/s"] if "clips_per_second" in record else []
    words += [f"({100 * record['data_share']:.1f} % waiting for data)"] if "data_share" in record else []
    return " ".join(words)


def _line(record: Record) -> str:
    """A record as a line of JSON, which has no NaN and no infinity: they become null."""
    return json.dumps({name: _finite(value) for name, value in record.items()}, default=float, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, Real) and not isinstance(value, int):
        return float(value) if math.isfinite(value) else None
    return value
