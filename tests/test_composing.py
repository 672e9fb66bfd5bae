"""Configurations that tests compose from stored choices of files are those that Hydra composes for users."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra
import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedvssl import config
from tests import composing
from tests.federation import overrides

WORDS = [
    ("base", overrides(Path("some where"), "task.module.hidden_channels=8", "seed=3")),
    ("base", ["task=simclr", "experiment=fedsimclr_small", "rounds=3", "rounds=4", "strategy.rule={}"]),
    ("base", ["training.lr=0.5", "strategy=fedema", "exp_name='007'", "data.num_classes=null", "model=resnet18"]),
    ("finetune", ["experiment=small", "data=hmdb51", "crop_size=48", "pretrained=a b", "training.epochs=1"]),
    ("test", ["experiment=small", "test_sample.size=[8,8]", "checkpoint='x=y'"]),
    ("sweep", ["experiment=fedu_ablations", "seeds=[1,2]"]),
]


def both(name: str, words: list[str]) -> list[Any]:
    """The configuration by Hydra, then twice the one of the tests, the second from what the first left."""
    ways = (hydra.compose, composing.compose, composing.compose)
    with config.hydra_for(name, words) as (stem, chosen):
        return [way(config_name=stem, overrides=chosen) for way in ways]


@pytest.mark.parametrize(("name", "words"), WORDS)
def test_stored_choices_with_settings_equal_what_hydra_composes(name: str, words: list[str]) -> None:
    reference, *stored = both(name, words)
    for composed in stored:
        assert OmegaConf.to_container(composed) == OmegaConf.to_container(reference)
        assert [*composed] == [*reference] and OmegaConf.is_struct(composed) == OmegaConf.is_struct(reference)
        with pytest.raises(OmegaConfBaseException):
            composed.no_such_key = 1


def test_tests_compose_a_choice_once_and_every_configuration_is_its_own() -> None:
    assert config.hydra_compose is composing.compose
    first = config.compose("base", ["strategy=fedavg", "seed=1"])
    first["strategy"].clear()
    with patch.object(hydra, "compose", side_effect=AssertionError):
        second = config.compose("base", ["seed=2", "strategy=fedavg"])
    assert second["strategy"]["_target_"] and second["seed"] == 2


@pytest.mark.parametrize(
    "word", ["rounds=1,2", "no_key=1", "+no_key=1", "strategy=no_name", "~rounds", "rounds=[", "x"]
)
def test_words_that_are_not_plain_go_to_hydra(word: str) -> None:
    with config.hydra_for("base", []), patch.object(hydra, "compose", return_value={}) as by_hydra:
        composing.compose("base", ["rounds=1", word])
    assert by_hydra.call_args.kwargs["overrides"] == ["rounds=1", word]


def test_folders_of_ones_own_go_to_hydra(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("defaults: []\nrounds: 7\n")
    assert config.compose(str(tmp_path / "base.yaml"), ["rounds=8"]) == {"rounds": 8}
    (tmp_path / "base.yaml").write_text("defaults: []\nother: 7\n")
    assert config.compose(str(tmp_path / "base.yaml"), []) == {"other": 7}
