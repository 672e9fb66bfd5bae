"""State of a client between two rounds: one file of arrays for each round."""

from pathlib import Path

from fedvssl.client.order import Order, Site
from fedvssl.files.arrays import Arrays, load_arrays, save_arrays
from fedvssl.files.names import client_number


def client_folder(site: Site, partition_id: int) -> Path:
    return Path(site.state_dir) / f"client_{client_number(partition_id)}"


def kept_path(folder: Path, server_round: int) -> Path:
    return folder / f"kept-round-{server_round}.npz"


def load_kept(folder: Path, server_round: int) -> Arrays:
    """Load what the client kept of a round.

    Raises:
        ValueError: if its file is missing or damaged, with what to do.
    """
    try:
        return load_arrays(kept_path(folder, server_round))
    except ValueError as error:
        raise ValueError(
            f"{str(error).removesuffix('.')}: restore it, or have the server go back with "
            f"from_round={server_round - 1}; then this client goes on with its file of that time, or begins anew."
        ) from error


def save_kept(folder: Path, arrays: Arrays, order: Order) -> None:
    """Save what the client keeps of this round; delete earlier files but the one that it started from.

    That one is needed once more if the run is killed before the reply counts: the round is then repeated.
    """
    save_arrays(kept_path(folder, order.server_round), arrays)
    for server_round in range(1, order.server_round):
        if server_round != order.kept_round:
            kept_path(folder, server_round).unlink(missing_ok=True)
