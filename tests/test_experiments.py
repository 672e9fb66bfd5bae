"""The presets of the published tables."""

import pytest

from fedvssl.config import compose
from tests.federation import strategy_of


def test_the_presets_of_pretraining() -> None:
    ucf101 = compose("base", [])
    fedavg, kinetics = (compose("base", [f"experiment={name}"]) for name in ("ucf101_fedavg", "kinetics400"))
    assert strategy_of(ucf101).share == ["backbone.*"] and strategy_of(fedavg).share == ["*"]
    assert {**fedavg, "strategy": ucf101["strategy"], "exp_name": ucf101["exp_name"]} == ucf101
    assert (kinetics["pool_size"], kinetics["rounds"], kinetics["training"]["steps"]) == (100, 540, [])
    strategy = strategy_of(kinetics)
    assert strategy.rounds.sample_size == 5
    assert strategy.rounds.min_fit_clients == 3, "one lost client does not end 540 rounds"
    assert kinetics["keep_last"] == 5, "540 files would be 72 GB"
    assert kinetics["data"]["name"] == "kinetics400"
    assert compose("base", ["experiment=kinetics400", "rounds=3"])["rounds"] == 3, "the command line wins"


def test_the_recommended_preset_differs_in_its_optimizer_and_head_alone() -> None:
    published, own = compose("base", []), compose("base", ["experiment=ucf101_adamw"])
    changed = {name for name in {*published, *own} if published.get(name) != own.get(name)}
    assert changed == {"exp_name", "training", "task"}
    head = {**published["task"]["module"], "head_init": "kaiming"}
    assert own["task"] == {**published["task"], "module": head}
    assert own["training"]["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert own["training"]["schedule"]["length"] == 20, "the cosine ends with the run"


@pytest.mark.parametrize("name", ["small", "small_clips"])
def test_the_small_presets_have_no_average_over_rounds_unless_it_is_asked_for(name: str) -> None:
    def chosen(*words: str) -> dict:
        return compose("base", [f"experiment={name}", *words])["strategy"]

    published = compose("base", [])["strategy"]
    assert chosen()["swbeta"] == 0 and published["swbeta"] == 1
    assert chosen() == {**published, "swbeta": 0, "min_fit_clients": 3}, "nothing else differs"
    assert chosen("strategy=fedvssl") == chosen("strategy.swbeta=1")
    for other in ("fedavg", "fedu", "fedadam"):
        assert chosen(f"strategy={other}") == {
            **compose("base", [f"strategy={other}"])["strategy"],
            "min_fit_clients": 3,
        }
