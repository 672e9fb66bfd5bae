"""A strategy of somebody's own: one class, which stands here in this file, and one YAML file."""

import numpy as np
import pytest

from fedvssl.config import compose
from fedvssl.files.arrays import Arrays
from fedvssl.strategy.fedavg import FedAvg
from tests.federation import strategy_of
from tests.strategy.echo import EchoWire


class Median(FedAvg):
    """A strategy of somebody's own with a setting of its own."""

    def __init__(self, *, trim: float, **rounds) -> None:
        super().__init__(**rounds)
        self.trim = trim


class Momentum(FedAvg):
    """The server goes on in the direction of the rounds before (Hsu et al., arXiv 1909.06335), all clients alike."""

    def __init__(self, *, momentum: float, **settings) -> None:
        super().__init__(**settings)
        self.momentum = momentum

    def averages(self) -> dict[str, float]:
        return {"client": 1.0}

    def log_weights(self, metrics) -> dict[str, float]:
        return {"client": 0.0}

    def aggregate(self, server_round: int, means, previous: Arrays) -> Arrays:
        mean = means["client"]
        for name, velocity in self.velocity.items():
            velocity *= self.momentum
            velocity += mean[name] - previous[name]
            mean[name] = previous[name] + velocity
        return mean

    def state(self) -> Arrays:
        return self.velocity

    def restore(self, state: Arrays, shared: Arrays) -> None:
        self.velocity = state or {n: np.zeros_like(a) for n, a in shared.items() if a.dtype.kind == "f"}


SETTINGS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 2, "seed": 7, "share": ["*"]}


@pytest.mark.parametrize("is_resumed", [False, True])
def test_momentum_goes_on_in_the_last_direction(is_resumed):
    """Also in a run that is continued after its first round."""
    strategy = Momentum(momentum=0.5, **SETTINGS)
    arrays = {"w": np.zeros(3, np.float32), "n": np.array(0)}
    strategy.restore({}, arrays)
    for expected in (1.5, 1.5 + 0.5 * 1.5 + 1.5):  # the clients of this test add 1 and 2 to what they get
        arrays, report = strategy.round(EchoWire(2), 1, arrays, {})
        np.testing.assert_array_equal(arrays["w"], np.full(3, expected, np.float32))
        if is_resumed:
            state, strategy = strategy.state(), Momentum(momentum=0.5, **SETTINGS)
            strategy.restore(state, arrays)
    assert arrays["n"] == 4 and [client["weight"] for client in report.clients.values()] == [0.5, 0.5]


MEDIAN = f"_target_: {__name__}.Median\nshare: ['*']\n"


@pytest.fixture
def own_strategy(tmp_path):
    """Composes with `strategy=own`, a YAML file outside conf/, of the given text."""

    def compose_with(text: str, *others: str) -> dict:
        (tmp_path / "strategy").mkdir(exist_ok=True)
        (tmp_path / "strategy/own.yaml").write_text(text)
        return compose("base", [f"hydra.searchpath=[file://{tmp_path}]", "strategy=own", *others])

    return compose_with


def test_a_strategy_is_one_class_and_one_yaml(own_strategy):
    strategy = strategy_of(own_strategy(MEDIAN + "trim: 0.2\n"))
    assert type(strategy) is Median and strategy.trim == 0.2
    assert (strategy.rounds.fraction_fit, strategy.rounds.min_fit_clients) == (1.0, 5), "those of conf/base.yaml"
    of_its_own = own_strategy(MEDIAN + "trim: 0.2\nfraction_fit: 0.5\nmin_fit_clients: 2\n")
    rounds = strategy_of(of_its_own).rounds
    assert (rounds.fraction_fit, rounds.min_fit_clients) == (0.5, 2)
    by_hand = own_strategy(MEDIAN + "trim: 0.2\n", "strategy.min_fit_clients=4", "strategy.trim=0.3")
    assert (strategy_of(by_hand).rounds.min_fit_clients, by_hand["strategy"]["trim"]) == (4, 0.3)


@pytest.mark.parametrize("preset", ["kinetics400", "small"])
def test_presets_do_not_give_another_strategy_the_settings_of_fedvssl(preset, own_strategy):
    assert type(strategy_of(own_strategy(MEDIAN + "trim: 0.2\n", f"experiment={preset}"))) is Median


def test_the_fedavg_switch_and_unknown_settings_of_another_strategy_are_refused(own_strategy):
    with pytest.raises(ValueError, match=r"fedavg=true takes the place of FedVSSL, but the strategy is .*Median"):
        strategy_of(own_strategy(MEDIAN + "trim: 0.2\n", "experiment=ucf101_fedavg"))
    with pytest.raises(ValueError, match=r"Median cannot be built: Median needs trim"):
        strategy_of(own_strategy(MEDIAN))
    with pytest.raises(ValueError, match=r"mix_coeff=much must be a number from 0 to 1"):
        strategy_of(compose("base", ["strategy.mix_coeff=much"]))
