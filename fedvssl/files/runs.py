"""Runs on the disk: what is in their folders, how far they got, and which of them a name means.

    choose("last", BACKBONE)               -> outputs/2026-01-31/12-00-00/fedvssl_results/round-20-weights.npz
    choose("12-00-00", PRETRAINING)        -> outputs/2026-01-31/12-00-00/fedvssl_results

A run is a folder with a config.yaml of fedvssl.main or fedvssl.finetune, below outputs/ or directly in this folder.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedvssl.files.lock import living_owner
from fedvssl.files.rounds import last_round, round_path
from fedvssl.files.run_log import METRICS_FILE, read_config, read_records
from fedvssl.files.settings import class_name, strategy_name

LAST = "last"  # the newest run
OUTPUTS = "outputs"
CONFIG, FINE_TUNED, BEST = "config.yaml", "last.pth", "best.pth"
MOST_NAMED = 5  # candidates in a sentence


def newest_round(folder: Path) -> Path | None:
    """File of the last saved round of a run, if there is one."""
    number = last_round(folder)
    return round_path(folder, number) if number else None


def fine_tuned(folder: Path) -> Path | None:
    """The last epoch of a fine-tuning, if there is one."""
    path = folder / FINE_TUNED
    return path if path.is_file() else None


def pretraining(folder: Path) -> Path | None:
    """The folder itself if a federated run has begun there."""
    return folder if (folder / "settings.json").is_file() or newest_round(folder) else None


@dataclass(frozen=True)
class Asked:
    """What a command asks of a run.

    Args:
        what: it, with its article.
        find: the file or folder in the folder of a run; None if it is not there.
        else_find: in place of `find`, for a run that is named; `last` takes none of these.
    """

    what: str
    find: Callable[[Path], Path | None]
    else_find: Callable[[Path], Path | None] = lambda _: None


ROUND = Asked("a round of pre-training", newest_round)
BACKBONE = Asked("a round of pre-training", newest_round, fine_tuned)
RECOGNIZER = Asked("a fine-tuned model (last.pth)", fine_tuned)
ANY = Asked("the config.yaml of a run", lambda folder: folder if (folder / CONFIG).is_file() else None)
PRETRAINING = Asked("a federated pre-training", pretraining)


def choose(name: str, asked: Asked) -> Path:
    """File or folder of the run that a name means.

    Args:
        name: `last`, a folder, or parts of a path one after another, such as its exp_name, or its time.
        asked: what the run must have.

    Raises:
        ValueError: if there is none, or several could be meant; names the candidates.
    """
    if name == LAST:
        found = _having(all_runs(), asked.find)
        if not found:
            raise ValueError(f"run={LAST}: no run in {OUTPUTS} or this folder has {asked.what}.")
        return next(iter(found.values()))
    folder, found = Path(name).expanduser(), {}
    is_folder = bool(name) and folder.is_dir()
    for find in (asked.find, asked.else_find):
        if is_folder and (own := find(folder)):
            return own
        found |= _having(run_folders(folder) if is_folder else all_runs(), find)
    meant = [place for place in found if is_folder or _means(name, place)]
    if len(meant) == 1:
        return found[meant[0]]
    if meant:
        raise ValueError(f"run={name} may be {_listed(meant)}: write more of the path.")
    others = f"; others are {_listed([*found])}" if found else ""
    where = folder if is_folder else f"{OUTPUTS} or this folder"
    raise ValueError(f"run={name}: no run of this name in {where} has {asked.what}{others}.")


def _having(places: Iterable[Path], find: Callable[[Path], Path | None]) -> dict[Path, Path]:
    """Runs that have what is asked for -> it, the newest run first."""
    found = {place: own for place in places if (own := find(place))}
    return {place: found[place] for place in sorted(found, key=changed, reverse=True)}


def _means(name: str, place: Path) -> bool:
    """True if the name is the end of the run's path, a part of it, or its exp_name."""
    parts, wanted = place.parts, Path(name).parts
    starts = range(len(parts) - len(wanted) + 1)
    if wanted and any(parts[start : start + len(wanted)] == wanted for start in starts):
        return True
    try:
        return read_config(place / CONFIG).get("exp_name") == name
    except (ValueError, OSError):
        return False


def _listed(places: Sequence[Path]) -> str:
    more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
    return ", ".join(map(str, places[:MOST_NAMED])) + more


def run_folders(root: Path) -> Iterator[Path]:
    """Folders of runs at any depth; nothing inside a run is one."""
    for place, folders, files in os.walk(root):
        if CONFIG in files or any(name.startswith("round-") and name.endswith("-weights.npz") for name in files):
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def all_runs() -> list[Path]:
    """Folders of runs below outputs/, and of those directly in this folder."""
    return [*run_folders(Path(OUTPUTS)), *run_folders_in(Path())]


def run_folders_in(folder: Path) -> Iterator[Path]:
    """Folders of runs that lie directly in a folder, as the work_dir of a fine-tuning."""
    own = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
    yield from (path for path in own if (path / CONFIG).is_file())


def changed(folder: Path) -> float:
    """Time of a run's last record, in seconds since 1970; reports and evaluations in its folder do not count."""
    places = (folder / METRICS_FILE, folder / CONFIG, folder)
    return next(path for path in places if path.exists()).stat().st_mtime


@dataclass(frozen=True)
class RunFacts:
    """Line of a run in `fedvssl runs`.

    Args:
        folder: of the run.
        name: its exp_name, or that of its folder.
        kind: "pre-training" or "fine-tuning".
        method: the strategy, or the checkpoint that fine-tuning started from.
        task, data: class of the task; name of the data set.
        done, asked: rounds or epochs.
        loss: of the last of them.
        state: "finished", "running" or "interrupted".
        changed: seconds since 1970 of its last record.
    """

    folder: str
    name: str
    kind: str
    method: str
    task: str
    data: str
    done: int
    asked: int
    loss: float | None
    state: str
    changed: float


def run_facts(folder: Path) -> RunFacts:
    """Read what a run's folder tells.

    Raises:
        ValueError: if it is damaged or of something else.
    """
    config = read_config(folder / CONFIG)
    records = [record for record in read_records(folder / METRICS_FILE) if "partition_id" not in record]
    losses = [record["loss"] for record in records if isinstance(record.get("loss"), int | float)]
    tuned = "from_scratch" in config
    try:
        if tuned:
            method = "from scratch" if config["from_scratch"] else f"from {Path(str(config['pretrained'])).name}"
            done, asked = max((record["epoch"] for record in records), default=0), int(config["training"]["epochs"])
        else:
            method, asked, done = strategy_name(config["strategy"]), int(config["rounds"]), last_round(folder)
        task, data = class_name(config["task"]["module"]), str(config["data"]["name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG} is not the one of a run, or damaged.") from error
    state = "finished" if done >= asked else "running" if living_owner(folder) else "interrupted"
    return RunFacts(
        folder=str(folder),
        name=str(config.get("exp_name", folder.name)),
        kind="fine-tuning" if tuned else "pre-training",
        method=method,
        task=task,
        data=data,
        done=done,
        asked=asked,
        loss=losses[-1] if losses else None,
        state=state,
        changed=changed(folder),
    )
