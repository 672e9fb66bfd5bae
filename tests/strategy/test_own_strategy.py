"""A strategy of somebody's own: one class, which stands here in this file, and one YAML file."""

import pytest

from fedvssl.config import compose
from fedvssl.server_app import build_strategy
from fedvssl.strategy.fedavg import FedAvg


class Median(FedAvg):
    """A strategy of somebody's own with a setting of its own."""

    def __init__(self, *, trim: float, **rounds) -> None:
        super().__init__(**rounds)
        self.trim = trim


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
    assert (strategy.fraction_fit, strategy.min_fit_clients) == (1.0, 5), "those of conf/base.yaml"
    of_its_own = own_strategy(MEDIAN + "trim: 0.2\nfraction_fit: 0.5\nmin_fit_clients: 2\n")
    assert build_strategy(of_its_own).fraction_fit == 0.5 and build_strategy(of_its_own).min_fit_clients == 2
    by_hand = own_strategy(MEDIAN + "trim: 0.2\n", "strategy.min_fit_clients=4", "strategy.trim=0.3")
    assert (build_strategy(by_hand).min_fit_clients, by_hand["strategy"]["trim"]) == (4, 0.3)


@pytest.mark.parametrize("preset", ["ucf101", "kinetics400", "quickstart"])
def test_presets_do_not_give_another_strategy_the_settings_of_fedvssl(preset, own_strategy):
    assert type(build_strategy(own_strategy(MEDIAN + "trim: 0.2\n", f"experiment={preset}"))) is Median


def test_the_fedavg_switch_and_unknown_settings_of_another_strategy_are_refused(own_strategy):
    with pytest.raises(ValueError, match=r"fedavg=true takes the place of FedVSSL, but the strategy is .*Median"):
        build_strategy(own_strategy(MEDIAN + "trim: 0.2\n", "experiment=ucf101_fedavg"))
    with pytest.raises(ValueError, match=r"Median cannot be built: .*'trim'"):
        build_strategy(own_strategy(MEDIAN))
    with pytest.raises(ValueError, match=r"FedVSSL cannot be built: "):
        build_strategy(compose("base", ["strategy.mix_coeff=much"]))
