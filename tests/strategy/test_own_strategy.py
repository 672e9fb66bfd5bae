"""A strategy of somebody's own: one class, which stands here in this file, and one YAML file."""

import numpy as np
import pytest

from fedvssl.config import compose
from fedvssl.files.arrays import Arrays
from fedvssl.server_run import build_strategy
from fedvssl.strategy.fedavg import FedAvg
from tests.strategy.echo import EchoWire


class Median(FedAvg):
    """A strategy of somebody's own with a setting of its own."""

    def __init__(self, *, trim: float, **rounds) -> None:
        super().__init__(**rounds)
        self.trim = trim


class Momentum(FedAvg):
    """The server goes on in the direction of the rounds before (Hsu et al., arXiv 1909.06335), all clients alike."""

    def __init__(self, *, momentum: float, **rounds) -> None:
        super().__init__(**rounds)
        self.momentum = momentum
        self.velocity: Arrays = {}

    def averages(self) -> dict[str, float]:
        return {"client": 1.0}

    def log_weights(self, metrics) -> dict[str, float]:
        return {"client": 0.0}

    def aggregate(self, server_round, means, previous: Arrays) -> Arrays:
        mean = means["client"]
        for name, old in previous.items():
            if old.dtype.kind == "f":
                self.velocity[name] = self.momentum * self.velocity.get(name, 0) + mean[name] - old
                mean[name] = old + self.velocity[name]
        return mean


def test_momentum_goes_on_in_the_last_direction():
    rounds = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 2, "seed": 7}
    strategy = Momentum(momentum=0.5, **rounds)
    arrays = {"w": np.zeros(3, np.float32), "n": np.array(0)}
    for expected in (1.5, 1.5 + 0.5 * 1.5 + 1.5):  # the clients of this test add 1 and 2 to what they get
        arrays, report = strategy.round(EchoWire(2), 1, arrays, {})
        np.testing.assert_array_equal(arrays["w"], np.full(3, expected, np.float32))
    assert arrays["n"] == 4 and [client["weight"] for client in report.clients.values()] == [0.5, 0.5]


MEDIAN = f"_target_: {__name__}.Median\n"


@pytest.fixture
def own_strategy(tmp_path):
    """Composes with `strategy=own`, a YAML file outside conf/, of the given text."""

    def compose_with(text: str, *others: str) -> dict:
        (tmp_path / "strategy").mkdir(exist_ok=True)
        (tmp_path / "strategy/own.yaml").write_text(text)
        return compose("base", [f"hydra.searchpath=[file://{tmp_path}]", "strategy=own", *others])

    return compose_with


def test_a_strategy_is_one_class_and_one_yaml(own_strategy):
    strategy = build_strategy(own_strategy(MEDIAN + "trim: 0.2\n"))
    assert type(strategy) is Median and strategy.trim == 0.2
    assert (strategy.rounds.fraction_fit, strategy.rounds.min_fit_clients) == (1.0, 5), "those of conf/base.yaml"
    of_its_own = own_strategy(MEDIAN + "trim: 0.2\nfraction_fit: 0.5\nmin_fit_clients: 2\n")
    rounds = build_strategy(of_its_own).rounds
    assert (rounds.fraction_fit, rounds.min_fit_clients) == (0.5, 2)
    by_hand = own_strategy(MEDIAN + "trim: 0.2\n", "strategy.min_fit_clients=4", "strategy.trim=0.3")
    assert (build_strategy(by_hand).rounds.min_fit_clients, by_hand["strategy"]["trim"]) == (4, 0.3)


@pytest.mark.parametrize("preset", ["kinetics400", "small"])
def test_presets_do_not_give_another_strategy_the_settings_of_fedvssl(preset, own_strategy):
    assert type(build_strategy(own_strategy(MEDIAN + "trim: 0.2\n", f"experiment={preset}"))) is Median


def test_the_fedavg_switch_and_unknown_settings_of_another_strategy_are_refused(own_strategy):
    with pytest.raises(ValueError, match=r"fedavg=true takes the place of FedVSSL, but the strategy is .*Median"):
        build_strategy(own_strategy(MEDIAN + "trim: 0.2\n", "experiment=ucf101_fedavg"))
    with pytest.raises(ValueError, match=r"Median cannot be built: .*'trim'"):
        build_strategy(own_strategy(MEDIAN))
    with pytest.raises(ValueError, match=r"FedVSSL cannot be built: "):
        build_strategy(compose("base", ["strategy.mix_coeff=much"]))
