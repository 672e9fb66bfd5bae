"""A saved round of a federated run, with what its clients keep: for commands that ask a trained task something."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedvssl import building
from fedvssl.config import Config, compose
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.given import given_round
from fedvssl.files.settings import foreign_class
from fedvssl.server_run import initial_arrays


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A saved round.

    Args:
        folder: of its run.
        server_round: its number.
        config: of the run.
        initial: whole state of the task with random weights, also for a run that began from a file (init).
        of_clients: whole state after this round with the part that a client keeps, for each client whose part is
            there; where all arrays travel, one state alone.
    """

    folder: Path
    server_round: int
    config: Config
    initial: Arrays
    of_clients: list[Arrays]


def read_trained(checkpoint: Path, overrides: Sequence[str]) -> TrainedRun:
    """Read a saved round with the parts that its clients keep.

    Args:
        checkpoint: its file, in the folder of its run.
        overrides: of settings of the run, such as `data_dir`.

    Raises:
        ValueError: as `read_round`, or if no client's part is there.
    """
    run = read_round(checkpoint, overrides)
    shared, kept = run.of_clients[0], kept_files(run.folder, run.server_round)
    if not (kept or run.initial.keys() <= shared.keys()):
        raise ValueError(
            f"There is no {run.folder / 'clients' / 'client_1' / f'kept-round-{run.server_round}.npz'}: clients keep "
            "the heads of the last two rounds; name one of these."
        )
    parts = [load_arrays(path) for path in kept] or [{}]
    states = [{**{name: part[name] for name in run.initial if name in part}, **shared} for part in parts]
    return replace(run, of_clients=states)


def read_round(checkpoint: Path, overrides: Sequence[str]) -> TrainedRun:
    """Read what all clients share after a saved round, as the one state in `of_clients`.

    Args:
        checkpoint: its file, in the folder of its run.
        overrides: of settings of the run, such as `data_dir`.

    Raises:
        ValueError: if it is no round file in the folder of its run, or the run's configuration names classes that are
            not of this package (a folder from elsewhere must not choose what runs here).
    """
    folder, number = checkpoint.parent, given_round(checkpoint)
    config = compose(str(folder / "config.yaml"), overrides)
    if foreign := foreign_class([config["model"], config["task"]]):
        raise ValueError(f"{folder / 'config.yaml'} names {foreign}, which is no class of this package: not built.")
    initial = initial_arrays(lambda: building.build_task(config), seed=config["seed"], init=None)
    shared = load_arrays(checkpoint)
    return TrainedRun(folder=folder, server_round=number, config=config, initial=initial, of_clients=[shared])


def kept_files(folder: Path, server_round: int) -> list[Path]:
    """Files of what clients keep of a round, in the order of the clients."""
    found = (folder / "clients").glob(f"client_*/kept-round-{server_round}.npz")
    return sorted(found, key=lambda path: int(path.parent.name.removeprefix("client_")))
