"""What a strategy keeps from round to round, on disk beside the round file."""

from pathlib import Path

import numpy as np

from fedvssl.files.arrays import Arrays, load_arrays, save_arrays
from fedvssl.files.rounds import state_path

NUMBER = "file/server_round"  # entry of a state file beside the strategy's own


def save_state(run_dir: Path, server_round: int, state: Arrays) -> None:
    """Write what the strategy keeps after a round, with the number of this round; {} leaves no file."""
    assert NUMBER not in state, f"an array of the strategy cannot be called '{NUMBER}'"
    path = state_path(run_dir, server_round)
    if state:
        save_arrays(path, {**state, NUMBER: np.array(server_round)})
    elif path.exists():
        path.unlink()  # of an earlier start, which was killed before its round file


def load_state(run_dir: Path, server_round: int) -> Arrays:
    """Read what the strategy kept after a round. Files of earlier versions do not tell their round.

    Raises:
        ValueError: if the file is missing, damaged or of another round.
    """
    path = state_path(run_dir, server_round)
    state = load_arrays(path)
    number = state.pop(NUMBER, np.array(server_round))
    if not np.array_equal(number, server_round):
        raise ValueError(f"{path} holds the state of round {number}.")
    return state
