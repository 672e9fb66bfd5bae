"""Going back to an earlier round of a federated run, as after a training that diverged.

Nothing is deleted: later round files, heads and the records go to `before-<n>/` in the run's folder. The work can be
interrupted anywhere and started again, because the latest round file moves first: what is left is a run that ended
earlier.
"""

import os
import re
import shutil
from pathlib import Path

from fedvssl.files.rounds import accepted_rounds, round_path, saved_rounds
from fedvssl.files.run_log import METRICS_FILE, RunLog

HEADS = "clients/*/head-round-*.npz"


def go_back(run_dir: Path, server_round: int) -> str:
    """Make `server_round` the last round of a run; 0 is its start.

    Once done for a round it is not repeated, so that the same command can be given again to continue.

    Returns:
        A sentence on what was done.

    Raises:
        ValueError: if there is no file of this round.
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
    staging.mkdir(exist_ok=True)
    if (metrics := run_dir / METRICS_FILE).is_file() and not (staging / METRICS_FILE).exists():
        shutil.copy2(metrics, staging / f"{METRICS_FILE}.part")
        os.replace(staging / f"{METRICS_FILE}.part", staging / METRICS_FILE)
    for number in reversed(later):
        os.replace(round_path(run_dir, number), round_path(staging, number))
    set_heads_aside(run_dir, staging, server_round=server_round)
    lost = lost_heads(run_dir, staging, done=server_round)
    records = RunLog(run_dir, done=server_round)  # drops the later ones
    if lost:
        records.write({"server_round": server_round, "lost_heads": lost})
    records.close()
    os.replace(staging, folder)
    without = f"; {len(lost)} clients go on with the initial head, as theirs of that time is gone" if lost else ""
    return f"Back to round {server_round}: {len(later)} later round files and their records are in {folder}{without}."


def set_heads_aside(run_dir: Path, staging: Path, *, server_round: int) -> None:
    """Move the heads of later rounds than `server_round`."""
    for path in run_dir.glob(HEADS):
        number = re.fullmatch(r"head-round-(\d+)", path.stem)
        if number and int(number[1]) > server_round:
            target = staging / path.relative_to(run_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def lost_heads(run_dir: Path, staging: Path, *, done: int) -> list[int]:
    """Partition ids of the clients whose head after round `done` is gone; a client keeps its last two."""
    if not (any(run_dir.glob(HEADS)) or any(staging.glob(HEADS))):
        return []  # all is shared, or the clients keep their heads elsewhere
    accepted = accepted_rounds(run_dir, done=done).items()
    folders = {partition_id: run_dir / "clients" / f"client_{partition_id}" for partition_id, _ in accepted}
    return [who for who, number in accepted if not (folders[who] / f"head-round-{number}.npz").is_file()]
