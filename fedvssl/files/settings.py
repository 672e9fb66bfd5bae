"""Check that an earlier checkpoint belongs to this run: the same settings, the same file contents.

A silent change of settings or data within one run would be worse than an error.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json

Settings = dict[str, Any]
# Raise this number when settings, class paths or files of a run are renamed: a run under the old names is rejected.
NAMES = {"names of settings": 7}
WEIGHTS = "model.safetensors"  # in a folder that model.weights names
OUR_CLASS = re.compile(r"fedvssl\.(models|tasks)\.\w+\.[A-Z]\w*")


def run_settings(config: Mapping[str, Any], *, free: Collection[str], files: Mapping[str, Path]) -> Settings:
    """Settings that decide the numbers of a run.

    Args:
        config: nested settings.
        free: dotted names of settings that may change between two starts, such as places and the machine.
        files: input files, by a name that does not depend on their place; their SHA-256 becomes a setting.

    Returns:
        {"names of settings": 7, "training.lr": 0.01, ..., "contents of <name>": "<sha256>"}
    """
    settings = {name: value for name, value in flat(config) if name not in free}
    return {**NAMES, **settings, **{f"contents of {name}": sha256(path) for name, path in files.items()}}


def weights_file(model: Mapping[str, Any]) -> Path | None:
    """File of the weights in the folder that model.weights names; None if it names no folder that has one."""
    path = Path(str(model.get("weights"))).expanduser() / WEIGHTS
    return path if path.is_file() else None


def check_base(run_dir: Path, trained: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Compare model.weights with that of a run, whose round files do not hold what was frozen.

    Args:
        run_dir: folder of the run; of its settings.json the digest of the weights is taken.
        trained: section "model" of the run; {} if it is not known.
        model: section "model" now, with "weights".

    Raises:
        ValueError: if they are others.
    """
    path, now = run_dir / "settings.json", weights_file(model)
    before = read_json(path, advice="restore it from a copy") if path.is_file() else {}
    digest = before.get("contents of model.weights") if isinstance(before, dict) else None
    same = trained.get("weights") == model["weights"] if digest is None or now is None else sha256(now) == digest
    if trained and not same:
        base = trained.get("weights", "random weights")
        raise ValueError(
            f"The run in {run_dir} was trained around {base}, and model.weights={model['weights']} holds other "
            "weights: name those of the run."
        )


def last_checkpoint(path: Path, settings: Settings) -> dict[str, Any] | None:
    """Load the checkpoint to continue from; None if there is none.

    Raises:
        ValueError: if it is no checkpoint of a run, or has other settings; names the first that differs.
    """
    from fedvssl.files.tensors import load_torch  # a report uses the rest of this file without torch

    if not path.is_file():
        return None
    last = load_torch(path)
    if not isinstance(last, dict) or "settings" not in last:
        raise ValueError(f"{path} is no checkpoint of a run that can be continued: give another work_dir.")
    if change := first_change(last["settings"], settings):
        raise ValueError(f"{path} is of another run, {change}: give another work_dir or remove this one.")
    return last


def first_change(before: Settings, settings: Settings) -> str | None:
    """Name the first setting that differs, as part of a sentence; None if all are the same."""
    if any(before.get(name) != settings.get(name) for name in NAMES):
        return "begun with another version of fedvssl, which this one cannot continue"
    for name in sorted({*before, *settings}):
        old, new = before.get(name), settings.get(name)
        if old != new:
            return f"{name} differ now" if name.startswith("contents of") else f"{name} was {old} and is {new} now"
    return None


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested settings."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def strategy_name(strategy: Mapping[str, Any]) -> str:
    """ "FedVSSL", "FedAvg with FedU on the clients", or "FedMedian" of Flower."""
    rule = class_name(strategy["rule"]) if "rule" in strategy else "Replace"
    name = class_name(strategy.get("strategy", strategy))
    return name if rule == "Replace" else f"{name} with {rule} on the clients"


def class_name(section: Mapping[str, Any]) -> str:
    """{"_target_": "fedvssl.tasks.ctp.CtP"} -> CtP"""
    return section["_target_"].rpartition(".")[2]


def foreign_class(settings: Any) -> str | None:
    """The first class in settings, at any depth, that is none of this package's models and tasks, if there is one.

    The configuration of a run may come from elsewhere, and must not choose what runs here.
    """
    if not isinstance(settings, Mapping | list):
        return None
    values = settings.values() if isinstance(settings, Mapping) else settings
    own = str(settings["_target_"]) if isinstance(settings, Mapping) and "_target_" in settings else None
    if own is not None and not OUR_CLASS.fullmatch(own):
        return own
    return next(filter(None, map(foreign_class, values)), None)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
