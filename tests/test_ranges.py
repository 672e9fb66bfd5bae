"""Types and ranges of all settings: the table is whole, and wrong values are named."""

import math

import pytest

from fedvssl import config
from fedvssl.files.settings import flat
from fedvssl.ranges import check_ranges, kind_of

COMMANDS = ("base", "finetune", "test", "retrieval", "knn", "linear_probe", "motion_probe", "semi", "export", "sweep")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["", "experiment=fedu_small"])
def test_each_setting_has_a_kind(command: str, word: str) -> None:
    cfg = config.compose(command, [word] if word and command != "test" else [])
    names = [name for name, _ in flat(cfg) if name.partition(".")[0] not in ("rows", "measures", "overrides")]
    assert [name for name in names if kind_of(name.split(".")) is None] == []


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("rounds=0", "rounds=0 must be a whole number, at least 1"),
        ("rounds=1e10", "rounds=10000000000.0 must be a whole number"),
        ("pool_size=true", "pool_size=True must be a whole number"),
        ("training.lr=nan", "training.lr=nan must be null or a number above 0"),
        ("training.lr=1e12", "training.lr=1000000000000.0 must be .* at most 1000"),
        ("training.max_norm=1e400", "training.max_norm=inf must be a number above 0"),
        ("training.max_norm=0", "training.max_norm=0 must be a number above 0"),
        ("training.steps=[60.5,null]", "must be null or a list, each entry a whole number"),
        ("training.precision=bf16-true", "training.precision=bf16-true must be auto, 32-true, bf16-mixed or 16-mixed"),
        ("training.num_workers=-1", "training.num_workers=-1 must be auto or a whole number, at least 0"),
        ("strategy.fedavg=-1", "strategy.fedavg=-1 must be true or false"),
        ("strategy.swbeta=true", "strategy.swbeta=True must be 0 or 1"),
        ("eval.sample.size=3", "eval.sample.size=3 must be a list of 2"),
        ("eval.sample.crop_size=2", "eval.sample.crop_size=2 must be a whole number, at least 8"),
        ("client_resources=null", "client_resources=None must be a section of settings"),
        ("task.sample.patches.scales=abc", "scales=abc must be a list"),
        ("data_dir=null", "data_dir=None must be a text"),
        ("exp_name=7", "exp_name=7 must be a text"),
        ("seed=99999999999999999999", "seed=99999999999999999999 must be a whole number, at least 0"),
    ],
)
def test_a_value_out_of_range_is_named(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config.compose("base", [word])


def test_a_class_of_ones_own_decides_itself_what_it_takes() -> None:
    check_ranges({"task": {"module": {"_target_": "mine.Task", "lr": "fast", "momentum": math.inf}}})
    with pytest.raises(ValueError, match="momentum=inf must be"):
        check_ranges({"task": {"module": {"_target_": "fedvssl.tasks.byol.BYOL", "momentum": math.inf}}})


def test_a_value_is_told_in_a_short_sentence() -> None:
    with pytest.raises(ValueError, match=r"^exp_name=.{84} must be a text \(.*\)\.$"):
        check_ranges({"exp_name": list(range(1000))})


def test_any_setting_of_a_task_may_be_measured() -> None:
    check_ranges({"task": {"module": {"_target_": "fedvssl.tasks.ctp.CtP", "roi_size": "auto"}}})
