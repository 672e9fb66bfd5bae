"""Going back to an earlier round of a federated run, as after a training that diverged.

Nothing is deleted: later round files, what clients kept, and the records go to `before-<n>/` in the run's folder. The
work can be interrupted anywhere and started again, because the latest round file moves first: what is left is a run
that ended earlier.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fedvssl.files.names import client_number
from fedvssl.files.rounds import accepted_rounds, round_path, saved_rounds
from fedvssl.files.run_log import METRICS_FILE, RunLog, read_records

# Copied, because they belong to the rounds that are set aside too: what these saw, and how they were trained.
COPIED = (METRICS_FILE, "seen_videos.npz", "config.yaml")
KEPT = "clients/*/kept-round-*.npz"


def go_back(run_dir: Path, server_round: int) -> str:
    """Make `server_round` the last round of a run; 0 is its start.

    Once done for a round it is not repeated, so that the same command can be given again to continue.

    Returns:
        A sentence on what was done.

    Raises:
        ValueError: if there is no file of this round, or nothing came after it. The same command given again could not
            tell then whether it has gone back before.
    """
    folder = run_dir / f"before-{server_round}"
    if folder.exists():
        return (
            f"from_round={server_round} was followed before: what came after it is in {folder}. "
            "Rename that folder to go back once more."
        )
    saved = saved_rounds(run_dir)
    if server_round != 0 and server_round not in saved:
        there = f"there are {', '.join(map(str, saved))}" if saved else "there is none"
        raise ValueError(f"from_round={server_round}: {run_dir} has no file of this round, {there}.")
    later = [number for number in saved if number > server_round]
    staging = run_dir / f".before-{server_round}"  # becomes the folder when everything is in it
    if not (later or staging.exists() or has_later(run_dir, server_round=server_round)):
        raise ValueError(
            f"from_round={server_round}: nothing in {run_dir} came after round {server_round}, so there is nothing to "
            "go back from: leave from_round out to continue."
        )
    staging.mkdir(exist_ok=True)
    copy_records(run_dir, staging)
    for number in reversed(later):
        os.replace(round_path(run_dir, number), round_path(staging, number))
    set_aside(run_dir, staging, server_round=server_round)
    lost = lost_kept(run_dir, staging, done=server_round)
    records = RunLog(run_dir, done=server_round)  # drops the later ones
    if lost:
        records.write({"server_round": server_round, "lost_kept": lost})
    records.close()
    os.replace(staging, folder)
    without = f"; {len(lost)} clients begin anew with their own part, as that of the time is gone" if lost else ""
    return f"Back to round {server_round}: {len(later)} later round files and their records are in {folder}{without}."


def has_later(run_dir: Path, *, server_round: int) -> bool:
    """True if the run has arrays of clients, or records, of later rounds than `server_round`."""
    records = read_records(run_dir / METRICS_FILE)
    later = any(record.get("server_round", 0) > server_round for record in records)
    return later or bool(later_kept(run_dir, server_round=server_round))


def later_kept(run_dir: Path, *, server_round: int) -> list[Path]:
    """What the clients kept of later rounds than `server_round`."""
    return _later(run_dir.glob(KEPT), server_round)


def _later(paths: Iterable[Path], server_round: int) -> list[Path]:
    numbers = {path: re.fullmatch(r"(?:kept-)?round-(\d+)(?:-strategy)?", path.stem) for path in sorted(paths)}
    return [path for path, number in numbers.items() if number and int(number[1]) > server_round]


def copy_records(run_dir: Path, staging: Path) -> None:
    """Copy what was recorded up to now, once: a repeated start may have shortened it already."""
    for name in COPIED:
        if (run_dir / name).is_file() and not (staging / name).exists():
            shutil.copy2(run_dir / name, staging / f"{name}.part")
            os.replace(staging / f"{name}.part", staging / name)


def set_aside(run_dir: Path, staging: Path, *, server_round: int) -> None:
    """Move what clients kept and the strategy's state of later rounds than `server_round`."""
    states = _later(run_dir.glob("round-*-strategy.npz"), server_round)
    for path in [*later_kept(run_dir, server_round=server_round), *states]:
        target = staging / path.relative_to(run_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def lost_kept(run_dir: Path, staging: Path, *, done: int) -> list[int]:
    """Partition ids of the clients whose own arrays after round `done` are gone; a client keeps its last two files."""
    if not (any(run_dir.glob(KEPT)) or any(staging.glob(KEPT))):
        return []  # all is shared, or the clients keep their own elsewhere
    accepted = accepted_rounds(run_dir, done=done).items()
    folders = {who: run_dir / "clients" / f"client_{client_number(who)}" for who, _ in accepted}
    return [who for who, number in accepted if not (folders[who] / f"kept-round-{number}.npz").is_file()]
