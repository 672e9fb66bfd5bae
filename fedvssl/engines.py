"""Engines: what runs the clients of a federated run, and the server beside them.

simulation   Flower's engine on Ray: as many clients at a time as fit on the machine, each in a process
cluster      the same on the machines of a Ray cluster that already runs
local        this process: one client after the other, by direct calls
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedvssl.files.ending import Terminated, end_descendants, ending_descendants, failed, one_line, take_sigterm
from fedvssl.files.lock import release_all

if TYPE_CHECKING:  # torch, flwr and ray are imported when a run starts, so that --help answers at once
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from fedvssl.client.order import Site
    from fedvssl.cluster import Machine
    from fedvssl.server_app import Outcome
    from fedvssl.server_rounds import Run

log = logging.getLogger(__name__)
FLOWER_LOG, ERROR_LOG = "flower.log", "error.log"
GRACE_SECONDS = 60.0  # for Flower's engine to end its actors


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an engine.

    Args:
        num_clients: clients of the run.
        num_cpus, num_gpus: of each client that trains.
        timeout: seconds that a round waits for its clients.
        start_timeout: seconds that the first round waits for them to start; None: as `timeout`.
        verbose: True shows the messages of Flower and Ray in the terminal too.
        address: of a Ray cluster; None for a Ray of this machine alone.
        client_bytes: "memory" and "gpu" that a client needs, by an estimate.
    """

    num_clients: int
    num_cpus: float
    num_gpus: float
    timeout: float
    start_timeout: float | None = None
    verbose: bool = False
    address: str | None = None
    client_bytes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], *, client_bytes: Mapping[str, int]) -> "Limits":
        """Those of a run's configuration."""
        waits = {"timeout": config["round_timeout"], "start_timeout": config["start_timeout"]}
        own = {"num_clients": config["pool_size"], "verbose": config["verbose"], "address": config["ray"]["address"]}
        return cls(**own, **config["client_resources"], **waits, client_bytes=client_bytes)


def device_of(engine: str, *, num_gpus: float) -> str:
    """Device of the clients; "auto" on a cluster, where each decides by what it sees."""
    if not num_gpus:
        return "cpu"
    return "auto" if engine == "cluster" else "cuda"


def train_here(run: "Run", site: "Site", limits: Limits) -> None:
    """Train the clients in this process, one after the other, each with the threads that the simulation gives it.

    Raises:
        RuntimeError: if the server ends the run or breaks down.
    """
    import torch

    from fedvssl.building import build_stepping, build_training
    from fedvssl.client.client import Client
    from fedvssl.server_rounds import run_rounds
    from fedvssl.wire.local import LocalWire
    from fedvssl.wire.wire import FederationError

    _send_flower_log_to(run.run_dir / FLOWER_LOG, terminal=limits.verbose)  # a strategy of Flower's has its messages
    if "OMP_NUM_THREADS" not in os.environ:  # as Ray does it
        torch.set_num_threads(int(limits.num_cpus))
    clients = {number: Client(number, site, build_training, build_stepping) for number in range(limits.num_clients)}
    try:
        run_rounds(LocalWire(clients, run.introductions), run)
    except (FederationError, OSError):
        raise
    except Exception as error:
        path = run.run_dir / ERROR_LOG
        with path.open("a") as log_file:
            traceback.print_exception(error, file=log_file)
        raise RuntimeError(f"The server broke down ({one_line(error)}); see {path}.") from error


def train_on_cluster(run: "Run", site: "Site", limits: Limits) -> None:
    """Train the clients in Flower's simulation engine on the machines of a Ray cluster.

    Raises:
        ValueError: if the cluster cannot be joined, has no machine for a client, or one does not see the folders.
    """
    import ray

    from fedvssl import cluster

    assert limits.address is not None, "main.check_engine has seen one"
    _send_flower_log_to(run.run_dir / FLOWER_LOG, terminal=limits.verbose)
    folders = {"data.media_dir": site.media_dir, "partition_dir": site.partition_dir, "hydra.run.dir": site.state_dir}
    try:
        cluster.join(lambda: start_ray(address=limits.address, verbose=limits.verbose), limits.address)
        machines = cluster.machines_of(folders, shared="hydra.run.dir")
        cluster.check_machines(machines, folders, num_cpus=limits.num_cpus, num_gpus=limits.num_gpus)
        log.info("The Ray cluster at %s has %s.", limits.address, ", ".join(machine.name for machine in machines))
        tell_memory(machines, limits, tell_all=True)
        simulate(run, site, limits)
    finally:
        ray.shutdown()


def tell_memory(machines: "Sequence[Machine]", limits: Limits, *, tell_all: bool) -> None:
    """Log what clients need and machines have; `tell_all` also if it is enough."""
    from fedvssl.cluster import memory_sentence

    own = {"num_cpus": limits.num_cpus, "num_gpus": limits.num_gpus}
    sentence, fits = memory_sentence(machines, client_bytes=limits.client_bytes, **own)
    if tell_all or not fits:
        log.log(logging.INFO if fits else logging.WARNING, "%s", sentence)


def simulate(run: "Run", site: "Site", limits: Limits) -> None:
    """Train the clients in Flower's simulation engine, as many at a time as fit on the machine.

    Raises:
        ValueError: if the clients' shares do not fit on the GPUs.
    """
    from fedvssl.client_app import build_client_app
    from fedvssl.cluster import check_gpu_shares, here
    from fedvssl.files.environment import num_cores
    from fedvssl.preflight import gpus_here
    from fedvssl.server_app import Outcome, build_server_app

    if limits.address is None:
        machines = [here(num_cpus=num_cores(), num_gpus=gpus_here())]
        check_gpu_shares(machines, num_gpus=limits.num_gpus)
        tell_memory(machines, limits, tell_all=False)
    outcome = Outcome()
    limited = {"num_clients": limits.num_clients, "timeout": limits.timeout, "start_timeout": limits.start_timeout}
    server_app = build_server_app(run, **limited, outcome=outcome)
    start_engine(server_app, build_client_app(site), limits=limits, run_dir=run.run_dir, outcome=outcome)


def start_engine(
    server_app: "ServerApp", client_app: "ClientApp", *, limits: Limits, run_dir: Path, outcome: "Outcome"
) -> None:
    """Run both apps in Flower's simulation engine, one actor for each client that trains at a time.

    Only this function uses `run_simulation`, which Flower has deprecated in favour of its own command line.

    Raises:
        RuntimeError: if the server ends the run or the engine breaks down.
    """
    from flwr.simulation import run_simulation

    from fedvssl.wire.wire import FederationError

    _send_flower_log_to(run_dir / FLOWER_LOG, terminal=limits.verbose)
    with (
        ending_descendants() as before,  # Ray leaves a stopped client behind
        run_dir.joinpath(FLOWER_LOG).open("a") as ray_log,
        redirect_stdout(sys.stdout if limits.verbose else ray_log),
    ):
        returned = _watch(outcome, run_dir, before)
        log.info("Starting Flower's simulation engine; in the first round each client's process loads PyTorch ...")
        try:
            start_ray(address=limits.address, verbose=limits.verbose)
            run_simulation(server_app, client_app, limits.num_clients, backend_config=backend(limits))
        except FederationError:
            raise
        except Exception as error:
            traceback.print_exception(error, file=ray_log)
            who = "The server" if error is outcome.error else "Flower's simulation"
            raise RuntimeError(f"{who} broke down ({one_line(root(error))}); see {run_dir / FLOWER_LOG}.") from error
        finally:
            returned.set()
            outcome.stop.set()  # the server's thread must not wait for clients that are gone


def root(error: BaseException) -> BaseException:
    """The first error of a chain, which says what has happened."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


def start_ray(*, address: str | None = None, verbose: bool) -> None:
    """Start Ray before Flower does, and take SIGTERM back from it: Ray's own handler prints a stack and aborts.

    Args:
        address: of a cluster to join, once; None starts a Ray of this machine alone.
        verbose: True shows Ray's messages in the terminal.

    Raises:
        Terminated: if SIGTERM comes meanwhile.
    """
    import ray

    from fedvssl.files.environment import num_cores
    from fedvssl.preflight import gpus_here

    if address and ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning of every actor without a GPU
    path = os.pathsep.join([*sys.path, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONPATH"] = path  # as Flower does it: the clients' processes import what this one can
    # "local" is not a Ray head that already runs on this machine.
    local = {"address": "local", "num_cpus": num_cores(), "num_gpus": gpus_here(), "include_dashboard": False}
    own: Any = {"address": address} if address else local
    try:
        ray.init(
            **own,
            logging_level=logging.INFO if verbose else logging.ERROR,
            log_to_driver=verbose,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except SystemExit as error:
        raise Terminated from error
    take_sigterm()


def backend(limits: Limits) -> Any:
    """Options of Flower's engine: one actor for each client that trains at a time."""
    resources = {
        "num_cpus": limits.num_cpus,
        "num_gpus": limits.num_gpus,
        # A killed actor would go back into Flower's pool and fail in every later round. A restarted one repeats its
        # training call, which gives the same numbers: it starts from files and a seed.
        "max_restarts": -1,
        "max_task_retries": 1,
    }
    return {"client_resources": resources}


def _watch(outcome: "Outcome", run_dir: Path, before: set[int]) -> threading.Event:
    """End the process if the engine does not return soon after the run's end; the caller sets the event when it does.

    The engine waits for every client that still trains, even after the round's timeout. Processes that were there
    before it stay.
    """
    returned = threading.Event()

    def watch() -> None:
        outcome.stop.wait()
        if not returned.wait(GRACE_SECONDS):
            log.warning("Flower's engine has not ended within %g s of the run; it is ended now.", GRACE_SECONDS)
            code = failed(end_of_run(outcome.error, run_dir), code=1) if outcome.error else 0
            end_descendants(but=before)
            release_all()
            os._exit(code)

    threading.Thread(target=watch, daemon=True).start()
    return returned


def _send_flower_log_to(path: Path, *, terminal: bool) -> None:
    """Write Flower's log to a file, made for its first line, and to the terminal only if asked for."""
    flower = logging.getLogger("flwr")
    flower.propagate = False  # Hydra's root handler would print every line a second time
    for earlier in [handler for handler in flower.handlers if isinstance(handler, logging.FileHandler)]:
        flower.removeHandler(earlier)  # of another run in this process
        earlier.close()
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    flower.handlers = [handler, *(flower.handlers if terminal else [])]


def end_of_run(error: object, run_dir: Path) -> str:
    """Sentence on the end of a run, and on how to go on; a run that diverged would only fail again."""
    reason = one_line(error).removesuffix(".")
    if "diverged" in reason or "not saved" in reason:
        return (
            f"{reason}. To go back to a round before that, run again with hydra.run.dir={run_dir} and "
            "from_round=<number> (0: the start). A run with another learning rate needs another folder, and may start "
            "from a round with init=<round file>."
        )
    if "have failed" in reason or "broke down" in reason:
        return f"{reason}. Mend that, then run again with hydra.run.dir={run_dir} to continue."
    return f"{reason}. Run again with hydra.run.dir={run_dir} to continue."


ENGINES = {"simulation": simulate, "local": train_here, "cluster": train_on_cluster}
