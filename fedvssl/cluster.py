"""Machines of a Ray cluster, on which engine=cluster trains the clients: what they have and what they must share.

    ray start --head --port 6379                    on one machine
    ray start --address <its name>:6379             on the others
    python -m fedvssl.main engine=cluster ray.address=<its name>:6379

Flower places as many clients on a machine as its cores and GPUs allow. A client may be on another machine in the next
round, so all must have the videos, the lists and what clients keep, at the same paths.
"""

import logging
import math
import re
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedvssl.files.environment import gpu_bytes, memory_bytes, versions

log = logging.getLogger(__name__)
ADDRESS = re.compile(r"auto|(?P<host>\[[^\]/]+\]|[^\[\]/:]+):(?P<port>\d{1,5})")
ANSWER_SECONDS = 300.0  # for a machine to start a process and to look at its folders


@dataclass(frozen=True)
class Machine:
    """What a machine has for clients.

    Args:
        name: for sentences.
        num_cpus, num_gpus: that clients may take.
        memory_bytes: that clients may take.
        gpu_bytes: of its smallest GPU, 0 without one.
        lacks: names of the folders that are not there.
    """

    name: str
    num_cpus: float
    num_gpus: float
    memory_bytes: int
    gpu_bytes: int = 0
    lacks: tuple[str, ...] = ()

    def clients_at_a_time(self, *, num_cpus: float, num_gpus: float) -> int:
        """Number of clients that Flower trains on it at a time."""
        fit = int(self.num_cpus / num_cpus)
        return min(fit, int(self.num_gpus / num_gpus)) if num_gpus else fit


def check_address(address: str) -> None:
    """Check an address, and that somebody listens there.

    Raises:
        ValueError: if it is none, or nobody does.
    """
    match = ADDRESS.fullmatch(address)
    if not match:
        raise ValueError(
            f"ray.address={address} is no address: give <host>:<port>, or auto on a machine of the cluster."
        )
    if match["host"]:
        try:
            socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=10).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise ValueError(
                f"Nobody answers at ray.address={address}: start the cluster with `ray start --head --port "
                f"{match['port']}` there, or name its machine as this one knows it."
            ) from error


def join(start: Any, address: str) -> None:
    """Join the cluster.

    Args:
        start: joins it, see `engines.start_ray`.
        address: of the cluster.

    Raises:
        ValueError: if that fails, as it does with other versions.
    """
    check_address(address)
    try:
        start()
    except (RuntimeError, OSError, ValueError) as error:  # RuntimeError: another Python or Ray
        log.debug("Ray: %s", error)
        own = versions()
        raise ValueError(
            f"The Ray cluster at ray.address={address} cannot be joined: start it on all machines with this "
            f"environment (Python {own['python']}, Ray {own['ray']})."
        ) from error


def machines_of(folders: Mapping[str, str], *, shared: str) -> list[Machine]:
    """Machines of the cluster that this process has joined, each asked for its folders by a process there.

    Args:
        folders: name of a setting -> folder that each machine must have.
        shared: one of the names, whose folder must be the same one on all machines.

    Raises:
        ValueError: if a machine does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    marker = Path(folders[shared]) / f".shared-{uuid.uuid4().hex}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    found = []
    try:
        for node in [node for node in ray.nodes() if node["Alive"]]:
            ask = ray.remote(num_cpus=0, max_retries=0)(look)
            answer = ask.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(
                {**folders, shared: str(marker)}
            )
            try:
                has = ray.get(answer, timeout=ANSWER_SECONDS)
            except Exception as error:  # of Ray, or of an import there
                log.debug("Ray: %s", error)
                raise ValueError(
                    f"The cluster's machine {name_of(node)} cannot run this package: have this environment at the same "
                    "path on all machines, and fedvssl in it."
                ) from error
            found.append(machine_of(node, **has))
    finally:
        with suppress(OSError):
            marker.unlink()
    return found


def look(paths: Mapping[str, str]) -> dict[str, Any]:
    """What only a process on a machine can tell: names of paths that are not there, and bytes of its GPUs."""
    return {"lacks": tuple(name for name, path in paths.items() if not Path(path).exists()), "gpu_bytes": gpu_bytes()}


def name_of(node: Mapping[str, Any]) -> str:
    """Name and address of a node of Ray."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def machine_of(node: Mapping[str, Any], *, lacks: tuple[str, ...], gpu_bytes: int) -> Machine:
    """A machine from a node of Ray and what a process there has told."""
    has = node["Resources"]
    resources = {
        "num_cpus": has.get("CPU", 0),
        "num_gpus": has.get("GPU", 0),
        "memory_bytes": int(has.get("memory", 0)),
    }
    return Machine(name_of(node), **resources, gpu_bytes=gpu_bytes, lacks=lacks)


def here(*, num_cpus: float, num_gpus: float) -> Machine:
    """This machine."""
    return Machine("this machine", num_cpus, num_gpus, memory_bytes(), gpu_bytes())


def check_machines(
    machines: Sequence[Machine], folders: Mapping[str, str], *, num_cpus: float, num_gpus: float
) -> None:
    """Check that a client fits on a machine, and that each machine on which one does has the folders.

    Raises:
        ValueError: with the first reason why not.
    """
    check_gpu_shares(machines, num_gpus=num_gpus)
    able = [machine for machine in machines if machine.clients_at_a_time(num_cpus=num_cpus, num_gpus=num_gpus)]
    if not able:
        all_of = "; ".join(f"{machine.name}: {machine.num_cpus:g} and {machine.num_gpus:g}" for machine in machines)
        raise ValueError(
            f"No machine of the cluster has the {num_cpus:g} cores and {num_gpus:g} GPUs of a client ({all_of}): lower "
            "client_resources.num_cpus or client_resources.num_gpus."
        )
    for machine in able:
        for name in machine.lacks:
            raise ValueError(
                f"{machine.name} does not see {folders[name]} ({name}): put it on a file system that all machines of "
                "the cluster share, at this path."
            )


def check_gpu_shares(machines: Sequence[Machine], *, num_gpus: float) -> None:
    """Check that as many clients as Flower counts find room on the GPUs.

    Flower divides all GPUs of a machine by the share of a client; Ray places each client on one GPU, and would leave
    those that are too many waiting for ever.

    Raises:
        ValueError: if they do not, with a share that fits.
    """
    if num_gpus > 1 and num_gpus != int(num_gpus):
        raise ValueError(f"client_resources.num_gpus={num_gpus:g}: above 1 it must be a whole number.")
    for machine in machines if 0 < num_gpus < 1 else ():
        on_one, counted = int(1 / num_gpus), int(machine.num_gpus / num_gpus)
        if counted > on_one * int(machine.num_gpus):
            raise ValueError(
                f"client_resources.num_gpus={num_gpus:g}: {on_one} clients fit on each of the {machine.num_gpus:g} "
                f"GPUs of {machine.name}, and Flower would start {counted}, the last of which would wait for ever: "
                f"set 1/{on_one}, which is {math.floor(1000 / on_one) / 1000:g}."
            )


def memory_sentence(
    machines: Sequence[Machine], *, client_bytes: Mapping[str, int], num_cpus: float, num_gpus: float
) -> tuple[str, bool]:
    """Compare what clients need at a time with what the fullest machine has.

    Args:
        machines: with a client on one of them at least.
        client_bytes: "memory" of a client on its machine, and "gpu" of it, estimated.
        num_cpus, num_gpus: of a client.

    Returns:
        the sentence, and whether all fit.
    """
    rows = []
    for machine in machines:
        number = machine.clients_at_a_time(num_cpus=num_cpus, num_gpus=num_gpus)
        rows.append((number, client_bytes["memory"], machine.memory_bytes, machine.name))
        if num_gpus and machine.gpu_bytes:
            on_one = min(number, int(1 / num_gpus)) if num_gpus < 1 else 1
            rows.append((on_one, client_bytes["gpu"], machine.gpu_bytes, f"a GPU of {machine.name}"))
    known = [row for row in rows if row[0] and row[2]]
    if not known:
        return "No machine tells how much memory clients may take.", True
    number, each, there, where = max(known, key=lambda row: row[0] * row[1] / row[2])
    fits = number * each <= there
    advice = "" if fits else ": lower training.batch_size, or raise client_resources"
    return (
        f"A client needs about {each / 1e9:.1f} GB, by an estimate; {number} at a time need {number * each / 1e9:.1f} "
        f"of the {there / 1e9:.1f} GB of {where}{advice}.",
        fits,
    )
