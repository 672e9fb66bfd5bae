"""Every YAML file composes, and the dotted names in it can be built."""

from pathlib import Path

import pytest

from fedvssl import config

EXPERIMENTS = sorted(path.stem for path in (config.conf_dir() / "experiment").glob("*.yaml"))
PRETRAINING = [name for name in EXPERIMENTS if not name.startswith("finetune")]
FINETUNING = [name for name in EXPERIMENTS if name.startswith("finetune")]


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_presets_build_task_and_sample(name: str) -> None:
    cfg = config.compose("base", [f"experiment={name}", "model.width=4", "pretext.task.hidden_channels=8"])
    config.build_sample(cfg)
    assert config.build_task(cfg).backbone.out_channels == 32


@pytest.mark.parametrize("name", FINETUNING)
@pytest.mark.parametrize("base", ["finetune", "test"])
def test_finetuning_presets_serve_training_and_test(base: str, name: str) -> None:
    cfg = config.compose(base, [f"experiment={name}"])
    sample = config.build(cfg["test_sample"])
    assert sample.crop_size <= min(sample.size)


@pytest.mark.parametrize("group", ["data", "model", "pretext", "strategy"])
def test_every_group_file_composes(group: str) -> None:
    for path in (config.conf_dir() / group).glob("*.yaml"):
        assert config.compose("base", [f"{group}={path.stem}"])[group]


def test_published_defaults() -> None:
    cfg = config.compose("base", [])
    strategy, training = cfg["strategy"], cfg["training"]
    assert (cfg["pool_size"], cfg["rounds"], strategy["mix_coeff"], strategy["swbeta"]) == (5, 20, 0.9, 1)
    assert (strategy["fedavg"], strategy["fraction_fit"], strategy["min_fit_clients"]) == (False, 1.0, 5)
    assert (training["lr"], training["momentum"], training["weight_decay"]) == (0.01, 0.9, 1e-4)
    assert training["steps"] == [100, 200] and training["batch_size"] == 4 and training["max_norm"] == 40


def test_a_file_of_the_users_own_may_build_on_ours(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("defaults:\n  - base\n  - _self_\nrounds: 3\n")
    assert config.compose(str(own), ["pool_size=2"])["rounds"] == 3


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("nowhere", [], "No configuration 'nowhere'"),
        ("base", ["no_such_key=1"], "no_such_key"),
        ("base", ["experiment=nothing"], "nothing"),
        ("base", ["rounds"], "rounds"),
    ],
)
def test_mistakes_get_a_sentence(name: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config.compose(name, overrides)


def test_published_flags_become_overrides() -> None:
    words = ["--work_dir=./finetune_results", "--data_dir=data", "--progress", "seed=3"]
    assert config.parse_overrides(words) == ["work_dir=./finetune_results", "data_dir=data", "progress=true", "seed=3"]
    with pytest.raises(ValueError, match="'word' is not an override"):
        config.parse_overrides(["word"])
