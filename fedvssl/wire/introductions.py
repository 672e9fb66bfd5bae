"""Who is who: which node answers for which client, and how many videos the client has.

A client is known by its partition id. The id of its node is random at each start of a simulation and stays in a
deployment, where it decides if two nodes claim to be one client. So a start may give a known client to a new node, and
no other one takes its place until the next start, also where it is away for some rounds. The number of videos is that
of the client's first introduction: it decides the client's weight, so no later word of the client changes it.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.names import client_number
from fedvssl.wire.replies import read_introduction, reason
from fedvssl.wire.wire import Facts

log = logging.getLogger(__name__)
CLIENTS_FILE = "clients.json"


@dataclass(frozen=True)
class Client:
    """A client as the run knows it: the node that answered for it last, and its number of videos."""

    node_id: int
    num_examples: int


class Introductions:
    """Nodes that have introduced themselves, and the clients that the run knows.

    Args:
        num_clients: partition ids lie below it.

    Attributes:
        clients: clients by partition id, those of earlier starts of the run included.
        left_out: reasons by node id, of the nodes that this round leaves out.
    """

    def __init__(self, num_clients: int) -> None:
        self.clients: dict[int, Client] = {}
        self.left_out: dict[int, str] = {}
        self._num_clients = num_clients
        self._path: Path | None = None
        self._claims: dict[int, tuple[int, int]] = {}  # node id -> its partition id and number of videos
        self._taken: set[int] = set()  # partition ids that a node has answered for in this start
        self._disputed: set[int] = set()  # partition ids that several unknown nodes have claimed
        self._told: dict[int, str] = {}

    def keep_in(self, path: Path) -> None:
        """Read the clients of a run's earlier starts, and keep those to come in the same file.

        Raises:
            ValueError: if the file is damaged.
        """
        self._path = path
        if path.is_file():
            self.clients = read_clients(path)

    def begin(self, nodes: Iterable[int]) -> list[int]:
        """Begin a round; return the nodes to ask for an introduction, which are all that do not take part already."""
        self.left_out = {}
        return [node_id for node_id in nodes if node_id not in self._claims]

    def hear(self, node_id: int, introduce: Callable[[], Facts]) -> None:
        """Take the introduction of a node that was asked; whatever is wrong with it leaves this node out.

        Args:
            introduce: gives what the node says, or raises.
        """
        try:
            self._claims[node_id] = read_introduction(introduce(), num_clients=self._num_clients)
        except Exception as error:
            self.left_out[node_id] = reason(error)

    def settle(self, nodes: Iterable[int]) -> dict[int, int]:
        """Decide which of these nodes take part; each other one is logged once, and asked again in the next round.

        Returns:
            Partition ids by node id.
        """
        claimants: dict[int, list[int]] = defaultdict(list)
        known = {client.node_id: partition_id for partition_id, client in self.clients.items()}
        for node_id in nodes:
            if node_id not in self._claims:
                self.left_out.setdefault(node_id, "it does not introduce itself in time")
            elif self._is_consistent(node_id, before=known.get(node_id)):
                claimants[self._claims[node_id][0]].append(node_id)
        accepted = {}
        for partition_id, rivals in sorted(claimants.items()):
            if (node_id := self._choose(partition_id, rivals)) is not None:
                accepted[node_id] = partition_id
        self._remember(accepted)
        for node_id, why in self.left_out.items():
            self._claims.pop(node_id, None)
            if self._told.get(node_id) != why:
                log.warning("node %d cannot take part: %s", node_id, why)
        self._told |= self.left_out
        return accepted

    def _is_consistent(self, node_id: int, *, before: int | None) -> bool:
        """True if a node says what the run knows of it and of its client; it is left out otherwise."""
        partition_id, num_examples = self._claims[node_id]
        client, number = self.clients.get(partition_id), client_number(partition_id)
        if before is not None and before != partition_id:
            self.left_out[node_id] = (
                f"it is client {client_number(before)} of this run and says that it is client {number}"
            )
        elif client is not None and client.num_examples != num_examples:
            self.left_out[node_id] = (
                f"client {number} introduces {num_examples} samples, and {client.num_examples} when this run "
                f"began: restore client_dist{number}.json, or begin another run"
            )
        return node_id not in self.left_out

    def _choose(self, partition_id: int, rivals: list[int]) -> int | None:
        """The node that keeps a partition, None if that is in doubt; its rivals are left out."""
        client, number = self.clients.get(partition_id), client_number(partition_id)
        if client is not None and client.node_id in rivals:
            chosen, why = client.node_id, f"client {number} is node {client.node_id}, which is known"
        elif client is not None and partition_id in self._taken:
            chosen, why = None, f"client {number} is node {client.node_id}, which keeps it until the next start"
        elif len(rivals) == 1 and partition_id not in self._disputed:
            return rivals[0]
        else:
            self._disputed.add(partition_id)
            chosen, why = None, f"several nodes say that they are client {number}, and none of them is known"
        self.left_out |= {node_id: why for node_id in rivals if node_id != chosen}
        return chosen

    def _remember(self, accepted: Mapping[int, int]) -> None:
        self._taken |= {*accepted.values()}
        clients = {partition_id: Client(node, self._claims[node][1]) for node, partition_id in accepted.items()}
        if not clients.items() <= self.clients.items():
            self.clients = dict(sorted({**self.clients, **clients}.items()))
            if self._path is not None:
                write_clients(self._path, self.clients)


def read_clients(path: Path) -> dict[int, Client]:
    """Clients by partition id.

    Raises:
        ValueError: if the file is damaged.
    """
    advice = "name another hydra.run.dir, or remove the file to take each client's next introduction as its first"
    content = read_json(path, advice=advice)
    try:
        return {int(key): Client(int(kept["node_id"]), int(kept["num_examples"])) for key, kept in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({reason(error)}): {advice}.") from error


def write_clients(path: Path, clients: Mapping[int, Client]) -> None:
    """Write the clients, whole or not at all. Node ids are text: many readers of JSON round numbers of 64 bits."""
    kept = {
        str(partition_id): {"node_id": str(client.node_id), "num_examples": client.num_examples}
        for partition_id, client in clients.items()
    }
    write_json(path, kept)
