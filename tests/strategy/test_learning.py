"""Each strategy learns on a convex problem, through the rounds of a federation, with the settings of its YAML file.

The clients do not agree, so the loss does not reach 0: the best line for all of them leaves 0.023 of the start.
"""

import numpy as np
import pytest
import torch

from fedvssl.strategy.rule import When
from tests.strategy.convex import LINE, Client, federation, train

ROUNDS = 10


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's records are freed after each round, which takes longer here than all the rest."""
    monkeypatch.setattr("fedvssl.strategy.flower.gc.collect", lambda: 0)


@pytest.mark.parametrize(
    ("words", "rounds", "most"),
    [
        ("strategy=fedavg", 5, 0.03),
        ("strategy=fedbn", 5, 0.03),
        ("strategy=fedmedian", 5, 0.03),
        ("optimizer=fedprox strategy=fedavg", 5, 0.03),
        ("strategy=fedavgm training.lr=0.05 strategy.momentum=0.5", 9, 0.03),
        ("strategy=fedadam strategy.server_lr=0.1", 14, 0.1),
        ("strategy=fedyogi strategy.server_lr=0.1", 14, 0.1),
    ],
)
def test_the_loss_falls(words: str, rounds: int, most: float) -> None:
    """To below this share of its start, which no round exceeds."""
    losses, _ = train(federation(*words.split()), rounds=rounds)
    assert losses[-1] < most * losses[0] and max(losses) == losses[0], losses


def test_a_median_withstands_a_client_that_leads_away_and_a_mean_does_not() -> None:
    """The bound on updates, which would reject the client too, is off."""
    ends = {}
    for name in ("fedmedian", "fedavg"):
        clients = federation(f"strategy={name}", "strategy.max_update_factor=null", num_clients=5)
        clients[2].enlarges = -20
        losses, _ = train(clients, rounds=4)
        ends[name] = losses[-1] / losses[0]
    assert ends["fedmedian"] < 0.06 and ends["fedavg"] > 10, ends


def test_own_statistics_of_each_client_fit_its_data_and_shared_ones_do_not() -> None:
    """FedBN beside FedAvg, on clients whose inputs have other means and spreads; BatchNorm as in an evaluation."""
    ends = {}
    for name in ("fedbn", "fedavg"):
        clients = federation(f"strategy={name}")
        losses, shared = train(clients, rounds=ROUNDS)
        ends[name] = np.mean([evaluated(client, shared) for client in clients]) / losses[0]
    assert ends["fedbn"] < 0.1 and ends["fedavg"] > 3 * ends["fedbn"], ends


def evaluated(client: Client, shared: dict[str, np.ndarray]) -> float:
    client.receive(shared, When(server_round=ROUNDS + 1, last_round=ROUNDS))
    with torch.no_grad():
        return float(client.task.eval().loss(*client.data))


def test_the_proximal_term_keeps_clients_nearer_to_where_they_started() -> None:
    """After one round of many steps, which brings each client to a line of its own; all start from 0."""
    way = {}
    for mu in (0, 1):
        clients = federation("optimizer=fedprox", f"training.optimizer.mu={mu}", "strategy=fedavg", steps=30)
        train(clients, rounds=1)
        lines = [client.task.backbone[LINE].weight.detach().numpy() for client in clients]
        way[mu] = np.mean([np.linalg.norm(line) for line in lines])
    assert 0.5 * way[0] < way[1] < 0.8 * way[0], way
