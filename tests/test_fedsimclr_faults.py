"""The faults of the published FedSimCLR: each check passes here and fails when its fault is put back.

Others have their tests elsewhere: the mean of the loss over epochs in tests/client/test_training.py; the target network
and the queue of BYOL and MoCo in tests/tasks/test_two_views.py and test_two_views_federation.py.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl import server_run
from fedvssl.building import build_task
from fedvssl.client import training
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.evaluation.features import extract, load
from fedvssl.evaluation.linear_probe import LinearProbe
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.tasks import picture_recognition
from fedvssl.training.loop import build_fabric
from fedvssl.wire.wire import TRAIN
from tests.federation import client_of, initial_arrays, order_of, strategy_of
from tests.tasks.test_views import write_pictures
from tests.test_published_faults import fails

SIZES = (6, 12)  # pictures of both clients
WORDS = (
    *("experiment=fedsimclr_small", "model.width=4", "task.sample.max_side=16", "training.batch_size=4"),
    *("task.module.projector.hidden_channels=16", "task.module.projector.out_channels=8"),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("pictures")
    annotations = write_pictures(folder / "pictures", sum(SIZES), side=16)
    parts = (annotations[: SIZES[0]], annotations[SIZES[0] :])
    for client, own in enumerate(parts, start=1):
        write_annotations(folder / f"lists/client_dist{client}.json", own)
    return compose("base", [*WORDS, f"data.media_dir={folder / 'pictures'}", f"partition_dir={folder / 'lists'}"])


def answer(config: dict, run_dir: Path, partition_id: int) -> tuple[dict, dict]:
    """Arrays and facts of a client after its first round."""
    client = client_of(config, run_dir, partition_id)
    arrays, facts = client.answer(TRAIN, initial_arrays(config), order_of(config))
    return {name: np.array(array) for name, array in arrays.items()}, facts


# Pictures come in the order of their list, which is sorted by class, in every round.
def check_pictures_are_shuffled(config: dict, run_dir: Path) -> None:
    orders: list[list[int]] = []
    real = training.train_epoch

    def look(fabric, task, optimizer, loader, **options):
        orders.append([int(index) for batch in loader for index in batch["index"]])
        return real(fabric, task, optimizer, loader, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_epoch", look)
        for server_round in (1, 2):
            client = client_of(config, run_dir, 1)
            client.answer(TRAIN, initial_arrays(config), order_of(config, server_round))
    assert all(sorted(order) == list(range(SIZES[1])) for order in orders)
    assert orders[0] != orders[1] and list(range(SIZES[1])) not in orders


def in_order(dataset: SampleDataset, *, batch_size: int, **_: object) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(dataset, batch_size=batch_size, collate_fn=stack)


def test_pictures_are_shuffled(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_pictures_are_shuffled(config, tmp_path / "sound")
    monkeypatch.setattr(training, "train_loader", in_order)
    assert fails(check_pictures_are_shuffled, config, tmp_path / "faulty")


# Clients report their number of batches, by which the server weighs them.
def check_clients_weigh_by_pictures(config: dict, run_dir: Path) -> None:
    facts = [answer(config, run_dir, partition_id)[1] for partition_id in (0, 1)]
    assert [own["num-examples"] for own in facts] == list(SIZES)
    weights = [math.exp(strategy_of(config).log_weights(own)["video"]) for own in facts]
    assert weights[1] / weights[0] == pytest.approx(SIZES[1] / SIZES[0])


def by_batches(self: FedAvg, metrics: dict) -> dict[str, float]:
    return {"video": math.log(math.ceil(metrics["num-examples"] / 4))}


def test_clients_weigh_by_pictures(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_clients_weigh_by_pictures(config, tmp_path / "sound")
    monkeypatch.setattr(FedAvg, "log_weights", by_batches)
    assert fails(check_clients_weigh_by_pictures, config, tmp_path / "faulty")


# The encoder is in train mode in the linear probe, so that its BatchNorm drifts with the labelled pictures.
def check_the_probed_encoder_does_not_move(config: dict, folder: Path) -> None:
    torch.manual_seed(0)
    backbone = build_task(config).backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    annotations = read_annotations(Path(config["partition_dir"]) / "client_dist2.json")
    sample = picture_recognition.TestPicture(short_side=16, crop_size=16)
    dataset = SampleDataset(Path(config["data"]["media_dir"]), annotations, sample)
    fabric = build_fabric(device="cpu", precision="32-true")
    extract(fabric, backbone, dataset, folder=folder, batch_size=4, num_workers=0)
    features = load(folder, dataset)
    recipe = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "steps": [], "gamma": 0.1, "seed": 7}
    LinearProbe(num_classes=2, epochs=1, batch_size=4, **recipe)(features, features)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_the_probed_encoder_does_not_move(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_the_probed_encoder_does_not_move(config, tmp_path / "sound")
    monkeypatch.setattr(nn.Module, "eval", nn.Module.train)
    assert fails(check_the_probed_encoder_does_not_move, config, tmp_path / "faulty")


# Nothing has a seed.
def check_a_seed_decides_a_round(config: dict, run_dir: Path) -> None:
    torch.manual_seed(1)
    first, _ = answer(config, run_dir / "first", 1)
    torch.manual_seed(2)
    again, _ = answer(config, run_dir / "again", 1)
    other, _ = answer({**config, "seed": config["seed"] + 1}, run_dir / "other", 1)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_a_seed_decides_a_round(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_a_seed_decides_a_round(config, tmp_path / "sound")
    monkeypatch.setattr(server_run, "seed_torch", lambda key: None)
    assert fails(check_a_seed_decides_a_round, config, tmp_path / "faulty")
