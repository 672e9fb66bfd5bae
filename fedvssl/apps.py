"""The two apps of Flower, for `flwr run` and for a federation of SuperLink and SuperNodes.

    fedvssl submit run-name=first experiment=small data_dir=/abs/data     see fedvssl.submit; docs/deployment.md

A submission carries two texts. `overrides` are settings as on the command line of fedvssl.main; the server alone reads
them, and sends each client what it needs. `run-name` is the folder of the run, in outputs/ where the SuperLink works;
the same name again continues the run. Clients take their places from their node's configuration (client/node.py), in
Flower's simulation from the settings, as in fedvssl.main.

A node answers each message in a new process: an introduction imports neither torch nor Hydra.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedvssl.client.client import Client
from fedvssl.client.node import check_data, read_node_config
from fedvssl.client.order import Site
from fedvssl.client_app import answer, client_at, failure, introduce
from fedvssl.wire.wire import STEP

log = logging.getLogger(__name__)
SIMULATION = "num-partitions"  # key that Flower's simulation alone gives its nodes

server_app = ServerApp()
client_app = ClientApp()


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Run the rounds of a submission; whatever ends it early is one sentence in the log, and the run has failed."""
    from fedvssl.served_run import serve_run  # loads torch
    from fedvssl.submission import read_run_config

    with shown_log():
        serve_run(grid, *read_run_config(context.run_config))


@client_app.query()
def query(message: Message, context: Context) -> Message:
    """Check the data and introduce the client."""
    with shown_log():
        try:
            client = client_of(context)
            log.info("%d samples, all there", check_data(client.site, client.partition_id))
        except Exception as error:
            log.error("error: %s", error)
            return failure(message, error)
    return introduce(message, client=client)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train for a round."""
    return answer(message, client=client_of(context))


@client_app.train(STEP.partition(".")[2])
def step(message: Message, context: Context) -> Message:
    """Answer one of the messages of a round of many steps."""
    return answer(message, client=client_of(context))


def client_of(context: Context) -> Client:
    """The client of a node.

    Raises:
        ValueError: for a mistake in its configuration.
    """
    if SIMULATION in context.node_config:
        from fedvssl.submission import read_run_config

        site = simulated_site(*read_run_config(context.run_config))
        return client_at(site, int(context.node_config["partition-id"]))
    partition_id, site = read_node_config(context.node_config)
    return client_at(site, partition_id)


def simulated_site(overrides: str, run_name: str) -> Site:
    """Site of all clients of Flower's simulation: the data of the settings, as in fedvssl.main."""
    from fedvssl.submission import folder_of, read_settings

    config = read_settings(overrides)
    return Site(
        media_dir=str(Path(config["data"]["media_dir"]).absolute()),
        partition_dir=str(Path(config["partition_dir"]).absolute()),
        state_dir=str(folder_of(run_name) / "clients"),
        num_workers=config["training"]["num_workers"],
    )


@contextmanager
def shown_log() -> Iterator[None]:
    """Show our log where Flower shows its own: in the log of the run, or of the node."""
    ours, handler = logging.getLogger("fedvssl"), logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
