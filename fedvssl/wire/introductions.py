"""Who is who: which node answers for which client, and how many videos the client has.

A client is known by its partition id. The id of its node is random at each start of a simulation and stays in a
deployment, where it decides if two nodes claim to be one client. So a start may give a known client to a new node, and
no other one takes its place until the next start, also where it is away for some rounds. The list is that of the first
introduction, by its number of videos, which decides the client's weight, and by its SHA-256. No later word of the
client changes it, but with `allow_changes=true`; then the file has the lists of before, each with its first round.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.names import client_number
from fedvssl.wire.replies import Introduction, read_introduction, reason
from fedvssl.wire.wire import Facts

log = logging.getLogger(__name__)
CLIENTS_FILE = "clients.json"


@dataclass(frozen=True)
class Client:
    """A client as the run knows it.

    Args:
        node_id: the node that answered for it last.
        num_examples, digest: of its list; "" if an earlier version, or the client, did not tell the digest.
        owner: name of whom it belongs to.
        since: first round of this list in the run.
        earlier: lists of before, as {"since": round, "num_examples": number, "list": digest}.
    """

    node_id: int
    num_examples: int
    digest: str = ""
    owner: str = ""
    since: int = 1
    earlier: tuple[Mapping[str, Any], ...] = ()

    def now(self, said: Introduction, *, node_id: int, server_round: int) -> "Client":
        """The same client by its next introduction."""
        texts = {"owner": said.owner, "digest": said.digest}
        if not self.differs(said):
            return replace(self, node_id=node_id, **texts)
        before = {"since": self.since, "num_examples": self.num_examples, "list": self.digest}
        lists = {"since": server_round, "num_examples": said.num_examples, "earlier": (*self.earlier, before)}
        return replace(self, node_id=node_id, **texts, **lists)

    def differs(self, said: Introduction) -> bool:
        """True if this is another list, or may be: whoever knows no digest of a list does not have it."""
        is_other = bool(self.digest) and self.digest != said.digest
        return is_other or self.num_examples != said.num_examples


class Introductions:
    """Nodes that have introduced themselves, and the clients that the run knows.

    Args:
        num_clients: partition ids lie below it.
        allow_changes: False leaves out a client whose list is another one than that of its first introduction.
        allow_joining: False leaves out a client that introduces itself for the first time after round 1.

    Attributes:
        server_round: the round that is about to be trained.
        precision: that of the run; a client that is known not to compute in it is left out. "": not settled yet.
        clients: clients by partition id, those of earlier starts of the run included.
        left_out: reasons by node id, of the nodes that this round leaves out.
    """

    def __init__(self, num_clients: int, *, allow_changes: bool = False, allow_joining: bool = True) -> None:
        self.server_round, self.precision = 1, ""
        self.clients: dict[int, Client] = {}
        self.left_out: dict[int, str] = {}
        self._num_clients = num_clients
        self._path: Path | None = None
        self._allow_changes, self._allow_joining = allow_changes, allow_joining
        self._claims: dict[int, Introduction] = {}  # by node id
        self._taken: set[int] = set()  # partition ids that a node has answered for in this start
        self._disputed: set[int] = set()  # partition ids that several unknown nodes have claimed
        self._told: dict[int, str] = {}

    def keep_in(self, path: Path, *, server_round: int = 1) -> None:
        """Read the clients of a run's earlier starts, and keep those to come in the same file.

        Args:
            path: of the file.
            server_round: the next round.

        Raises:
            ValueError: if the file is damaged.
        """
        self._path, self.server_round = path, server_round
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
                claimants[self._claims[node_id].partition_id].append(node_id)
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

    def describe(self, partition_id: int) -> str:
        """Line about a known client."""
        client = self.clients[partition_id]
        digest = f", list {client.digest[:12]}" if client.digest else ""
        return f"{client_name(partition_id, client.owner)}: {client.num_examples} samples{digest}"

    def precisions(self) -> list[tuple[str, ...]]:
        """What the nodes that have introduced themselves in this start compute in; empty for one that does not know."""
        return [said.precisions for said in self._claims.values()]

    def _is_consistent(self, node_id: int, *, before: int | None) -> bool:
        """True if a node says what the run knows of it and of its client; it is left out otherwise."""
        said = self._claims[node_id]
        client, number = self.clients.get(said.partition_id), client_number(said.partition_id)
        who = client_name(said.partition_id, said.owner)
        if before is not None and before != said.partition_id:
            self.left_out[node_id] = (
                f"it is client {client_number(before)} of this run and says that it is client {number}"
            )
        elif client is not None and client.differs(said) and not self._allow_changes:
            self.left_out[node_id] = _changed(who, client, said)
        elif client is None and self.clients and self.server_round > 1 and not self._allow_joining:
            self.left_out[node_id] = (
                f"{who} joins in round {self.server_round}, and was not there when this run began: begin another run, "
                "or set allow_changes=true"
            )
        elif self.precision and said.precisions and self.precision not in said.precisions:
            self.left_out[node_id] = (
                f"{who} computes in {' or '.join(said.precisions)}, and this run in {self.precision}: begin another "
                f"run with training.precision={said.precisions[0]}"
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
        clients = {who: self._told_again(who, node_id) for node_id, who in accepted.items()}
        if not clients.items() <= self.clients.items():
            self.clients = dict(sorted({**self.clients, **clients}.items()))
            if self._path is not None:
                write_clients(self._path, self.clients)

    def _told_again(self, partition_id: int, node_id: int) -> Client:
        """The client of an accepted node; a change is logged."""
        said, before = self._claims[node_id], self.clients.get(partition_id)
        who, server_round = client_name(partition_id, said.owner), self.server_round
        if before is None:
            if self.clients and server_round > 1:
                log.warning("%s joins in round %d with %d samples", who, server_round, said.num_examples)
            return Client(node_id, said.num_examples, said.digest, said.owner, since=server_round)
        if before.differs(said):
            change = (who, before.num_examples, said.num_examples, server_round)
            log.warning("%s has another list now, %d samples before and %d from round %d on", *change)
        return before.now(said, node_id=node_id, server_round=server_round)


def client_name(partition_id: int, owner: str) -> str:
    """ "client 2", or "client 2 (its owner)" """
    return f"client {client_number(partition_id)}" + (f" ({owner})" if owner else "")


def _changed(who: str, client: Client, said: Introduction) -> str:
    """Reason for leaving out a client whose list is another one."""
    lists = f"{said.num_examples} samples, and {client.num_examples} when this run began"
    if said.num_examples == client.num_examples:
        lists = f"{said.num_examples} samples as when this run began, but in another list"
    name = f"client_dist{client_number(said.partition_id)}.json"
    return f"{who} introduces {lists}: restore {name}, begin another run, or set allow_changes=true"


def read_clients(path: Path) -> dict[int, Client]:
    """Clients by partition id.

    Raises:
        ValueError: if the file is damaged.
    """
    advice = "name another hydra.run.dir, or remove the file to take each client's next introduction as its first"
    content = read_json(path, advice=advice)
    try:
        return {int(key): _client(kept) for key, kept in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({reason(error)}): {advice}.") from error


def _client(kept: Mapping[str, Any]) -> Client:
    """A client from the file, which earlier versions wrote with two of the entries."""
    lists = {"since": int(kept.get("since", 1)), "earlier": tuple(map(dict, kept.get("earlier", ())))}
    texts = {"digest": str(kept.get("list", "")), "owner": str(kept.get("owner", ""))}
    return Client(int(kept["node_id"]), int(kept["num_examples"]), **texts, **lists)


def write_clients(path: Path, clients: Mapping[int, Client]) -> None:
    """Write the clients, whole or not at all. Node ids are text: many readers of JSON round numbers of 64 bits."""
    kept = {
        str(partition_id): {
            "node_id": str(client.node_id),
            "num_examples": client.num_examples,
            "list": client.digest,
            "owner": client.owner,
            "since": client.since,
            "earlier": list(client.earlier),
        }
        for partition_id, client in clients.items()
    }
    write_json(path, kept)
