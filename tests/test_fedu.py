"""The presets of FedU and FedEMA: the published values, and that each trains, evaluates and is known to its sweeps."""

import math
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from data_tools import partition
from fedvssl import building, preflight, sweep
from fedvssl.config import compose
from fedvssl.data.annotations import write_annotations
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from fedvssl.server_run import build_run
from fedvssl.strategy.fedbyol import FedBYOL
from fedvssl.strategy.fedu import FedU
from fedvssl.strategy.rule import When
from fedvssl.sweeping.plan import PRETRAIN, Step
from tests.federation import strategy_of
from tests.tasks.test_views import write_pictures

PUBLISHED = {"fedu_cifar10": 2, "fedema_cifar10": 2, "fedu_cifar100": 20, "fedema_cifar100": 20}  # classes of a client
PRESETS = (*PUBLISHED, "fedu_small", "fedema_small")
SWEEPS = ("fedu_small", "fedu_ablations")
PAGE = (Path(__file__).parents[1] / "docs/systems/fedu.md").read_text(encoding="utf-8")
CHOICES = re.findall(r"`((?:strategy|task)=[^`]+)`", PAGE.split("## The whole matrix")[1].split("\n## ")[0])
TINY = (
    *("model.width=4", "task.sample.max_side=16", "task.module.projector.hidden_channels=16"),
    *("task.module.projector.out_channels=8", "client_resources={num_gpus: 0, num_cpus: 1}", "training.num_workers=0"),
)
ROWS = {
    **{"fedu_small": "centralised alone fedbyol fedu fedema ldawa fedsimclr fedsimsiam fedmoco"},
    "fedu_ablations": "fedbyol fedu fedema online_target online_both target_online target_target target_both mu_0 mu_02"
    " mu_03 mu_05 fedu_classes_4 fedu_classes_10 fedema_classes_4 fedema_classes_10",
}


def pretraining(name: str, *words: str) -> dict:
    return compose("base", [f"experiment={name}", *words])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_presets(name: str) -> None:
    config = pretraining(name)
    training, module, model = config["training"], config["task"]["module"], config["model"]
    assert (model["depth"], model["width"], model["stem"]) == (18, 64, "cifar")
    assert module["_target_"] == "fedvssl.tasks.byol.BYOL" and module["momentum"] == 0.99
    for head in ("projector", "predictor"):
        assert (module[head]["hidden_channels"], module[head]["out_channels"]) == (4096, 2048)
    assert training["optimizer"]["_target_"] == "torch.optim.SGD" and not training["keep_optimizer"]
    assert (training["lr"], training["momentum"], training["weight_decay"]) == (0.032, 0.9, 5e-4)
    assert (training["batch_size"], training["drop_last"], training["local_epochs"]) == (128, True, 5)
    assert (config["rounds"], config["pool_size"], config["strategy"]["fraction_fit"]) == (100, 5, 1.0)
    assert config["strategy"]["min_fit_clients"] == 5
    draw = config["task"]["sample"]["draw"]
    assert (draw["crop_scale"], draw["jitter"], draw["blur_prob"]) == ([0.08, 1.0], [0.8, 0.8, 0.8, 0.2], 0)
    method, data = name.split("_")
    assert config["data"]["name"] == data and config["data"]["num_classes"] == int(data.removeprefix("cifar"))
    assert config["partition_dir"] == f"data/{data}/annotations/classes{PUBLISHED[name]}"
    rule = config["strategy"]["rule"]
    assert rule["threshold"] == 0.4 if method == "fedu" else (rule["tau"], rule["scaler"]) == (0.7, None)


def test_the_published_learning_rate_and_weight_decay() -> None:
    training = pretraining("fedu_cifar10")["training"]
    factor = building.build(training["schedule"])
    for done in (0, 30, 99):
        assert training["lr"] * factor(done) == pytest.approx(0.5 * 0.032 * (1 + math.cos(math.pi * done / 100)))
    task = building.build_task(pretraining("fedu_cifar10", *TINY))
    groups = building.build_optimizer(training, task, on_gpu=False).param_groups
    decayed = {id(own) for group in groups if group["weight_decay"] == 5e-4 for own in group["params"]}
    trained = {name: id(own) for name, own in task.named_parameters() if own.requires_grad}
    assert decayed >= {*trained.values()}
    assert {"backbone.bn1.weight", "predictor.hidden.bias"} <= {*trained}, "normalisation and biases too"


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("fedema")])
def test_the_siblings_differ_in_what_their_names_say(name: str) -> None:
    fedu, own = pretraining(name.replace("fedema", "fedu")), pretraining(name)
    assert own["strategy"] == compose("base", ["strategy=fedema", "task=byol"])["strategy"] != fedu["strategy"]
    assert {**own, "strategy": fedu["strategy"], "exp_name": fedu["exp_name"]} == fedu


@pytest.mark.parametrize("name", ["fedu_cifar10", "fedema_small"])
def test_a_preset_makes_two_rounds(name: str, tmp_path: Path) -> None:
    annotations = write_pictures(tmp_path / "pictures", 20, side=16)
    for client in range(5):
        write_annotations(tmp_path / f"lists/client_dist{client + 1}.json", annotations[4 * client : 4 * client + 4])
    words = ("engine=local", "rounds=2", "training.batch_size=2", "training.local_epochs=1")
    words += ("training.precision=32-true", f"data.media_dir={tmp_path}/pictures", f"partition_dir={tmp_path}/lists")
    (tmp_path / "run").mkdir()
    run(pretraining(name, *TINY, *words), run_dir=tmp_path / "run")
    records = [one for one in read_records(tmp_path / "run/metrics.jsonl") if "num_clients" in one]
    assert len(records) == 2 and all(record["num_clips"] == 20 and 0 < record["loss"] < 8 for record in records)
    assert all(record["divergence"] > 0 and 0 <= record["own_share"] <= 1 for record in records)
    if name.startswith("fedema"):
        assert records[0]["own_share"] == pytest.approx(0.7)


@pytest.mark.parametrize("name", PRESETS)
def test_encoder_and_predictor_travel_and_the_target_stays(name: str) -> None:
    config = pretraining(name, *TINY)
    strategy = strategy_of(config)
    strategy.withhold(config["task"]["private"])
    names = building.build_task(config).state_dict()
    parts = {part: {strategy.is_shared(one) for one in names if one.split(".")[0] == part} for part in names_of(names)}
    assert parts == {"backbone": {True}, "projector": {True}, "predictor": {True}, "target": {False}}


def names_of(state: dict) -> set[str]:
    return {name.split(".")[0] for name in state}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of each of ten classes, and the partitions of the sweeps, made by the commands of the page."""
    folder = tmp_path_factory.mktemp("data")
    lists, pictures = folder / "cifar10_5000/annotations", folder / "cifar10_5000/pictures"
    for part in ("train", "test"):
        written = write_pictures(pictures / part, 100, side=16)
        named = [type(one)(f"{part}/{one.name}.png", number % 10) for number, one in enumerate(written)]
        write_annotations(lists / f"{part}_split_1.json", named)
    for classes in (2, 4, 10):
        words = ["--method", "class", "--num_clients", "5", "--classes_per_client", str(classes)]
        partition.main([*words, "--json_path", str(lists), "--output_path", str(lists / f"classes{classes}")])
    return folder


def pretrain_steps(experiment: str, data_dir: Path, lists_dir: Path) -> dict[str, Step]:
    """The steps of pre-training by their rows, with seed 7."""
    words = [f"experiment={experiment}", f"data_dir={data_dir}", f"work_dir={lists_dir}", "seeds=[7]"]
    words += [f"measures.{measure}=null" for measure in ("knn", "retrieval", "linear_probe", "finetune")]
    _, steps = sweep.planned(sweep.read(compose("sweep", words)), words, lists_dir=lists_dir)
    return {step.cell.row: step for step in steps if step.kind == PRETRAIN}


@pytest.fixture(scope="module")
def steps(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Step]]:
    return {name: pretrain_steps(name, data_dir, tmp_path_factory.mktemp(name)) for name in SWEEPS}


@pytest.mark.parametrize("experiment", SWEEPS)
def test_the_rows_that_are_pretrained(experiment: str, steps: dict[str, dict[str, Step]]) -> None:
    assert [*steps[experiment]] == ROWS[experiment].split()


@pytest.mark.parametrize(("experiment", "row"), [(name, row) for name in SWEEPS for row in ROWS[name].split()])
def test_the_command_of_each_row_passes_the_checks_before_a_run(
    experiment: str, row: str, steps: dict[str, dict[str, Step]], tmp_path: Path
) -> None:
    (command,) = steps[experiment][row].commands
    assert command[:2] == ["-m", "fedvssl.main"]
    config = preflight.settle(compose("base", [*command[2:], *TINY]))
    report = preflight.expected_report(preflight.try_out(config))
    assert "embedding_std" in report.names
    built = build_run(config, run_dir=tmp_path, report=report)
    assert {"backbone", "projector"} <= names_of(built.shared) <= {"backbone", "projector", "predictor"}
    assert config["pool_size"] == (1 if row in ("centralised", "alone") else 5)
    assert config["training"]["batch_size"] == 64, "so the queue of MoCo was compared with whole batches"


def test_the_ablations_have_the_whole_matrix_all_thresholds_and_all_partitions(
    steps: dict[str, dict[str, Step]],
) -> None:
    rows, keys = (
        steps["fedu_ablations"],
        ("_target_", "sends", "own_encoder", "own_predictor", "own_follower", "threshold"),
    )
    rules = {row: {key: step.settings.get(f"strategy.rule.{key}") for key in keys} for row, step in rows.items()}
    replaced = {(0, 1): "online", (1, 0): "target", (0, 0): "both"}  # (own_encoder, own_follower)
    matrix = [
        (rule["sends"], replaced[rule["own_encoder"], rule["own_follower"]])
        for rule in rules.values()
        if rule["_target_"].endswith("FedBYOL") and rule["own_predictor"] == 0
    ]
    assert sorted(matrix) == [*product(("encoder", "follower"), ("both", "online", "target"))]
    thresholds = [rule["threshold"] for row, rule in rules.items() if row == "fedu" or row.startswith("mu_")]
    assert sorted(thresholds) == [0, 0.2, 0.3, 0.4, 0.5]
    for method in ("fedu", "fedema"):
        own = (method, f"{method}_classes_4", f"{method}_classes_10")
        configs = [compose("base", rows[row].commands[0][2:]) for row in own]
        assert [Path(config["partition_dir"]).name for config in configs] == ["classes2", "classes4", "classes10"]


def test_rows_of_both_sweeps_have_the_same_settings(steps: dict[str, dict[str, Step]]) -> None:
    """So their cells of one seed may be copied from the results of the first into those of the second."""
    small, ablations = (steps[name] for name in SWEEPS)
    for row in ("fedbyol", "fedu", "fedema"):
        assert small[row].settings == ablations[row].settings
    assert small["fedu"].settings != ablations["mu_05"].settings


def test_fedu_without_a_threshold_is_fedbyol() -> None:
    """The table of the ablations has one row for both."""
    rng = np.random.default_rng(0)
    names = ("backbone.weight", "predictor.weight", "target.backbone.weight", "target.rounds")
    initial = {name: rng.normal(size=(3, 3, 3, 3)).astype(np.float32) for name in names}
    trained = {name: array + 1 for name, array in initial.items()}
    shared = {name: array for name, array in initial.items() if not name.startswith("target.")}
    own = {name: array for name, array in initial.items() if name not in shared}
    shares = {"own_encoder": 0, "own_predictor": 0, "own_follower": 1}
    fedbyol = FedBYOL(**shares, sends="encoder", follower="target.", personal=["predictor.*"])
    never_own, always_own = (
        FedU(threshold=threshold, personal=["predictor.*"], layers=["backbone.*"]) for threshold in (math.inf, 0)
    )
    first, second = When(1, 0), When(2, 1)
    states = []
    for rule in (fedbyol, never_own, always_own):
        kept = rule.keep({}, rule.receive(shared, {}, own, first), trained, shared.keys())
        states.append(rule.receive(shared, kept, own, second))
    for name in names:
        np.testing.assert_array_equal(states[0][name], states[1][name])
    assert (states[2]["predictor.weight"] == trained["predictor.weight"]).all()
    assert (states[0]["predictor.weight"] == initial["predictor.weight"]).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_of_the_page_begins_a_run(choice: str, tmp_path: Path) -> None:
    words = ["task=byol", "model=resnet18", *choice.split(), *TINY, f"partition_dir={tmp_path}"]
    assert build_run(compose("base", words), run_dir=tmp_path).shared


def test_the_page_has_the_whole_matrix() -> None:
    rules = [compose("base", ["task=byol", *choice.split()])["strategy"]["rule"] for choice in CHOICES[:6]]
    shares = {(rule["sends"], rule["own_encoder"], rule["own_follower"]) for rule in rules}
    assert shares == {*((sends, *own) for sends in ("encoder", "follower") for own in ((0, 1), (1, 0), (0, 0)))}


@pytest.mark.parametrize("link", [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link])
def test_links_of_the_page_lead_to_files(link: str) -> None:
    assert (Path(__file__).parents[1] / "docs/systems" / link.partition("#")[0]).exists()
