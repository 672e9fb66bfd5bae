"""The presets of FedSimCLR: the published values, and that each trains, evaluates and is known to a sweep."""

from pathlib import Path

import pytest

from fedvssl import building
from fedvssl.config import compose, conf_dir
from fedvssl.data.annotations import write_annotations
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from tests.federation import strategy_of
from tests.tasks.test_views import write_pictures
from tests.test_configs import CLIPS_OF_FEDU, SMALL
from tests.test_fedu import PRESETS as OF_FEDU
from tests.test_fedu import SWEEPS as SWEEPS_OF_FEDU

PRESETS = ("fedsimclr_cifar10", "fedsimclr_recommended", "fedsimclr_small")
TINY = (
    *("engine=local", "rounds=1", "model.width=4", "task.sample.max_side=16", "training.batch_size=4"),
    *("task.module.projector.hidden_channels=16", "task.module.projector.out_channels=8"),
    *("training.local_epochs=1", "training.precision=32-true", "client_resources={num_gpus: 0, num_cpus: 1}"),
)


def test_every_experiment_that_is_a_folder_is_known_to_the_tests() -> None:
    folders = {path.name for path in (conf_dir() / "experiment").iterdir() if path.is_dir()}
    of_others = {"fedsam", "fedsam_small", "mocosfl_small", "mocosfl_cifar10", "tasks_small"}
    assert folders == {*SMALL, *PRESETS, *OF_FEDU, *SWEEPS_OF_FEDU, CLIPS_OF_FEDU, *of_others}


def pretraining(name: str) -> dict:
    return compose("base", [f"experiment={name}"])


def test_the_published_preset() -> None:
    """Flower's pull request 4062: ResNet-50 with the ImageNet stem, Adam 3e-4 new in each round, batch 512, T 0.5."""
    config = pretraining("fedsimclr_cifar10")
    training, module = config["training"], config["task"]["module"]
    assert {name: config["model"][name] for name in ("depth", "width", "stem")} == {
        "depth": 50,
        "width": 64,
        "stem": "imagenet",
    }
    assert training["optimizer"]["_target_"] == "torch.optim.Adam" and training["optimizer"]["weight_decay"] == 0
    assert (training["lr"], training["batch_size"], training["local_epochs"]) == (3e-4, 512, 1)
    assert training["steps"] == [] and not training["keep_optimizer"] and not training["drop_last"]
    assert (config["rounds"], config["pool_size"], config["strategy"]["fraction_fit"]) == (1000, 2, 1.0)
    assert module["temperature"] == 0.5
    assert (module["projector"]["hidden_channels"], module["projector"]["out_channels"]) == (4096, 2048)
    draw = config["task"]["sample"]["draw"]
    assert (draw["crop_scale"], draw["jitter"], draw["blur_prob"]) == ([0.08, 1.0], [0.8, 0.8, 0.8, 0.2], 0)


def test_the_recommended_preset_has_as_many_epochs_as_the_published_one() -> None:
    config, published = pretraining("fedsimclr_recommended"), pretraining("fedsimclr_cifar10")
    training = config["training"]
    assert (config["model"]["depth"], config["model"]["stem"]) == (18, "cifar")
    assert training["optimizer"]["_target_"] == "torch.optim.SGD" and 0.03 <= training["lr"] <= 0.06
    assert (training["momentum"], training["weight_decay"]) == (0.9, 5e-4)
    assert training["schedule"]["length"] == config["rounds"], "the cosine ends with the run"
    assert config["rounds"] * training["local_epochs"] == published["rounds"]
    assert config["task"] == published["task"]


@pytest.mark.parametrize("name", PRESETS)
def test_backbone_and_projector_travel_and_nothing_stays(name: str) -> None:
    config = compose("base", [f"experiment={name}", *TINY])
    names = list(building.build_task(config).state_dict())
    assert {entry.split(".")[0] for entry in names} == {"backbone", "projector"}
    assert all(map(strategy_of(config).is_shared, names))


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_makes_a_round(name: str, tmp_path: Path) -> None:
    annotations = write_pictures(tmp_path / "pictures", 16, side=16)
    for client in range(2):
        write_annotations(tmp_path / f"lists/client_dist{client + 1}.json", annotations[8 * client : 8 * client + 8])
    places = (f"data.media_dir={tmp_path / 'pictures'}", f"partition_dir={tmp_path / 'lists'}")
    (tmp_path / "run").mkdir()
    run(compose("base", [f"experiment={name}", *TINY, *places]), run_dir=tmp_path / "run")
    (record,) = (one for one in read_records(tmp_path / "run/metrics.jsonl") if "num_clients" in one)
    assert record["num_clips"] == 16 and 0 < record["loss"] < 4


@pytest.mark.parametrize("name", [*PRESETS, *OF_FEDU])
def test_every_command_gets_the_same_model_data_and_pictures(name: str) -> None:
    main, words = pretraining(name), [f"experiment={name}"]
    side = main["task"]["sample"]["max_side"]
    for command in ("finetune", "test", "retrieval", "knn", "linear_probe"):
        config = compose(command, words)
        assert config["model"] == main["model"] and config["data"] == main["data"]
        assert config["test_sample"]["crop_size"] == side
        assert config["test_sample"]["_target_"] == main["eval"]["sample"]["_target_"]
    export = compose("export", words)
    assert export["model"] == main["model"] and export["crop_size"] == side


def test_what_the_sweep_passes_on_is_known_to_the_commands() -> None:
    config = compose("sweep", ["experiment=fedsimclr_small", "data_dir=/d"])
    words = config["overrides"]
    folders = {}
    for name, row in config["rows"].items():
        if row and not row.get("start"):
            main = compose("base", [*words["all"], *words["main"], *row["overrides"], "data_dir=/d"])
            folders[name] = (main["pool_size"], main["partition_dir"].rpartition("/")[2])
            assert main["strategy"]["min_fit_clients"] == main["pool_size"]
    assert folders == {
        **dict.fromkeys(("centralised", "alone", "clients_2"), (2, "clients2")),
        **{f"clients_{number}": (number, f"clients{number}") for number in (4, 6, 8, 10)},
    }
    for name, measure in config["measures"].items():
        if measure:
            compose(name, [*words["all"], *words["recognition"], *(measure.get("overrides") or [])])
