"""Contents of the folders of runs, read and checked for a report. Everything but the configuration may be missing.

A damaged file raises a ValueError that names it: a report without it would look complete.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json
from fedvssl.files.environment import ENVIRONMENT_FILE, Facts, read_environment
from fedvssl.files.run_log import METRICS_FILE, Record, read_config, read_records
from fedvssl.files.settings import sha256
from fedvssl.sweeping.comparison import ACCURACIES


@dataclass(frozen=True)
class Evaluation:
    """Result of one protocol: its JSON and, if drawn, its PNG."""

    result: dict[str, Any]
    picture: Path | None


@dataclass(frozen=True)
class Folder:
    """A pre-training run, or the work_dir of fine-tuning and test. `label` names it in the report."""

    path: Path
    label: str
    config: dict[str, Any]
    records: list[Record]
    environment: list[Facts]
    evaluations: list[Evaluation]
    test: dict[str, Any] | None

    @property
    def rounds(self) -> list[Record]:
        """Records of the rounds or epochs, without single clients and round 0."""
        return [record for record in self.evaluated if record.get("server_round") != 0]

    @property
    def evaluated(self) -> list[Record]:
        """Records as in `rounds`, with their evaluations, after the evaluation of round 0 (initial weights), if any."""
        merged: dict[int, Record] = {}
        for record in self.records:
            if "partition_id" not in record:
                position: int = record["server_round" if "server_round" in record else "epoch"]
                merged[position] = merged.get(position, {}) | record
        return list(merged.values())

    @property
    def medium(self) -> str:
        """ "picture" or "video", by the sample with which the server evaluates."""
        sample = self.setting("eval.sample", {})
        return "picture" if sample and "clip_len" not in sample else "video"

    def setting(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key."""
        return reduce(
            lambda node, name: node.get(name, default) if isinstance(node, dict) else default,
            key.split("."),
            self.config,
        )


def read_pretraining(path: Path) -> Folder:
    """Read a run of fedvssl.main.

    Raises:
        ValueError: if the folder is missing or of something else, or one of its files is damaged.
    """
    if not path.is_dir():
        raise ValueError(f"No folder {path}: name the one to which fedvssl.main wrote, with its config.yaml.")
    config = read_config(path / "config.yaml")
    if "from_scratch" in config:
        raise ValueError(f"{path} is of a fine-tuning: give it with --include, and its pre-training run as the folder.")
    if not {"rounds", "pool_size", "data", "strategy"} <= config.keys():
        raise ValueError(f"{path} is no run of fedvssl.main: its config.yaml is missing or of something else.")
    return _read(path, config, label="pre-training", position="server_round")


def read_included(paths: Sequence[Path]) -> list[Folder]:
    """Read work_dirs of fine-tuning, test or evaluation, labelled by their names, or by their paths if names repeat.

    Raises:
        ValueError: if one has nothing of the kind, or one of its files is damaged.
    """
    names = [path.name for path in paths]
    folders = []
    for path in paths:
        label = path.name if names.count(path.name) == 1 else str(path)
        folder = _read(path, read_config(path / "config.yaml"), label=label, position="epoch")
        if not (folder.records or folder.evaluations or folder.test):
            raise ValueError(
                f"--include {path}: no metrics.jsonl, test.json or evaluation/ of fedvssl is in this folder."
            )
        folders.append(folder)
    return folders


def _read(path: Path, config: dict[str, Any], *, label: str, position: str) -> Folder:
    return Folder(
        path=path,
        label=label,
        config=config,
        records=read_records(path / METRICS_FILE, position=position),
        environment=read_environment(path / ENVIRONMENT_FILE),
        evaluations=read_evaluations(path),
        test=read_result(path / "test.json", ("dataset", "split", "num_videos", *ACCURACIES)),
    )


def read_evaluations(folder: Path) -> list[Evaluation]:
    """Results of all protocols in `folder`/evaluation/*/, and in `folder` if it is the work_dir of an evaluation."""
    own = [path for path in sorted(folder.glob("*.json")) if '"protocol"' in path.read_text(encoding="utf-8")]
    paths = [*sorted(folder.glob("evaluation/*/*.json"), key=_by_numbers), *own]
    found = []
    for path in paths:
        result = read_result(path, ("protocol", "dataset", "split", "checkpoint", "rows"))
        assert result is not None, "it was there a moment ago"
        rows = result["rows"].values() if isinstance(result["rows"], dict) else [None]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError(_damaged(path))
        png = path.with_suffix(".png")
        found.append(Evaluation(result, png if png.is_file() else None))
    return found


def read_result(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """JSON object with at least these keys; None if there is no file."""
    if not path.is_file():
        return None
    result = read_json(path)
    if not isinstance(result, dict) or any(key not in result for key in keys):
        raise ValueError(_damaged(path))
    return result


def partition_changed(run: Folder) -> bool:
    """True if a client's list has changed since the run. False for old runs without its checksum."""
    settings = read_result(run.path / "settings.json", ()) or {}
    lists = Path(run.setting("partition_dir", "")).glob("client_dist*.json")
    sums = {f"contents of {path.name}": sha256(path) for path in lists}
    return any(settings[name] != sums[name] for name in settings.keys() & sums.keys())


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts round 8 before round 20."""
    return [
        (int(word) if word.isdecimal() else 0, word)
        for word in re.split(r"(?<=\d)(?=\D)|(?<=\D)(?=\d)", path.parent.name)
    ]


def _damaged(path: Path) -> str:
    return f"{path} is damaged or of something else: remove it, or run the command that writes it again."
