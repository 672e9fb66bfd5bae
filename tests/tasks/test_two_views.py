"""The tasks of two views: losses against slow references, state that stays with the client, signs of life."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet
from fedvssl.tasks.byol import BYOL, byol_loss
from fedvssl.tasks.follower import Follower
from fedvssl.tasks.heads import Head, embedding_std, squared_distance
from fedvssl.tasks.moco import MoCo, Queue, info_nce
from fedvssl.tasks.simclr import SimCLR, nt_xent
from fedvssl.tasks.simsiam import SimSiam, simsiam_loss
from fedvssl.training.loop import build_fabric, metric_names, set_up, train_epoch
from fedvssl.training.precision import LEAST_COSINE, agreement

TASKS = ("simclr", "byol", "simsiam", "moco")


def head(in_channels: int) -> Head:
    return Head(in_channels, hidden_channels=12, out_channels=8)


def same(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def build(name: str, backbone: nn.Module | None = None, **settings) -> nn.Module:
    torch.manual_seed(0)
    backbone = ResNet(18, width=4) if backbone is None else backbone
    both = {"views": same, "projector": head}
    if name == "simclr":
        return SimCLR(backbone, **both, **{"temperature": 0.5, **settings})
    if name == "byol":
        return BYOL(backbone, **both, **{"predictor": head, "momentum": 0.99, **settings})
    if name == "simsiam":
        return SimSiam(backbone, **both, **{"predictor": head, **settings})
    numbers = {"temperature": 0.2, "queue_length": 16, "momentum": 0.99, "symmetric": True, "reset_keys": True}
    return MoCo(backbone, **both, **{**numbers, **settings})


def draw_batch(size: int, *, shape: tuple[int, ...] = (3, 16, 16), seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    views = {f"view{v}": torch.randn(size, *shape, generator=generator) for v in (1, 2)}
    return {**views, "index": torch.arange(size)}


def train(task: nn.Module, batches: list[dict[str, Tensor]], *, lr: float = 0.05) -> dict[str, float]:
    fabric = build_fabric(device="cpu", precision="32-true")
    wrapped, optimizer = set_up(fabric, task, torch.optim.SGD(task.parameters(), lr=lr, momentum=0.9))
    return train_epoch(fabric, wrapped, optimizer, batches, max_norm=40).metrics  # pyright: ignore[reportArgumentType]


def rows(size: int, channels: int = 6, *, seed: int = 0) -> Tensor:
    return 3 * torch.randn(size, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cos(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_nt_xent_is_its_definition_row_by_row(size: int) -> None:
    z1, z2 = rows(size, seed=1), rows(size, seed=2)
    views, total, hits = [*z1, *z2], 0.0, 0
    for number, view in enumerate(views):
        partner = (number + size) % (2 * size)
        scores = {other: cos(view, views[other]) / 0.3 for other in range(2 * size) if other != number}
        total += math.log(sum(map(math.exp, scores.values()))) - scores[partner]
        hits += max(scores, key=scores.__getitem__) == partner
    found = nt_xent(z1, z2, temperature=0.3)
    assert found["loss"].item() == pytest.approx(total / (2 * size), rel=1e-12, abs=1e-12)
    assert found["top1_acc"].item() == pytest.approx(hits / (2 * size))


def test_info_nce_is_its_definition_row_by_row() -> None:
    queries, keys, queue = rows(4, seed=1), rows(4, seed=2), rows(7, seed=3)
    total, hits = 0.0, 0
    for query, key in zip(queries, keys, strict=True):
        scores = [cos(query, other) / 0.1 for other in (key, *queue)]
        total += math.log(sum(map(math.exp, scores))) - scores[0]
        hits += scores[0] == max(scores)
    found = info_nce(queries, keys, nn.functional.normalize(queue, dim=1), temperature=0.1)
    assert found["loss"].item() == pytest.approx(total / 4, rel=1e-12)
    assert found["top1_acc"].item() == pytest.approx(hits / 4)


def test_byol_and_simsiam_are_cosines_of_opposite_views() -> None:
    p1, p2, z1, z2 = (rows(5, seed=seed) for seed in range(4))
    first, second = cosine_similarity(p1, z2), cosine_similarity(p2, z1)
    assert byol_loss((p1, p2), (z1, z2)).item() == pytest.approx((4 - 2 * first - 2 * second).mean().item())
    assert simsiam_loss((p1, p2), (z1, z2)).item() == pytest.approx(-(first + second).mean().item() / 2)


def test_a_row_of_zeros_has_a_cosine_of_0() -> None:
    z, zeros = rows(3), torch.zeros(3, 6, dtype=torch.float64)
    for a, b in ((z, zeros), (zeros, z), (zeros, zeros)):
        torch.testing.assert_close(squared_distance(a, b), 2 - 2 * cosine_similarity(a, b))
    torch.testing.assert_close(squared_distance(z, rows(3, seed=1)), 2 - 2 * cosine_similarity(z, rows(3, seed=1)))


def test_no_rounding_takes_a_loss_below_the_least_one() -> None:
    """A server refuses a loss below it."""
    z = rows(257, 33).float()
    assert byol_loss((z, z), (7 * z, z / 3)) >= 0
    assert simsiam_loss((z, z), (7 * z, z / 3)) >= SimSiam.least_loss


def test_a_queue_replaces_its_oldest_keys_and_wraps_around() -> None:
    queue, ring = Queue(7, 3), []
    ring, place = list(queue.keys.clone()), 0
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(7))
    for step in range(5):
        keys = rows(3, 3, seed=step).float()
        queue.push(keys)
        for key in keys:
            ring[place], place = key / key.norm(), (place + 1) % 7
        torch.testing.assert_close(queue.keys, torch.stack(ring))
        assert queue.place == place
    with pytest.raises(ValueError, match="queue_length=7 is shorter than the 8 keys of a batch"):
        queue.push(torch.ones(8, 3))


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 32, 32)], ids=["pictures", "clips"])
@pytest.mark.parametrize("name", TASKS)
def test_a_batch_of_two_and_one_of_one_train(name: str, shape: tuple[int, ...]) -> None:
    """Before a run the core tries two samples. One alone has nothing to be compared with, and yet does no harm."""
    task = build(name, R3D(10, width=4) if len(shape) == 4 else None)
    names = metric_names(task, draw_batch(2, shape=shape))
    metrics = train(task, [draw_batch(size, shape=shape, seed=size) for size in (4, 2, 1)])
    assert {"loss", "embedding_std", "active_share"} < set(names) == set(metrics)
    assert math.isfinite(metrics["loss"]) and 0.2 < metrics["active_share"] < 0.8


@pytest.mark.parametrize("name", TASKS)
def test_two_rows_pass_a_gradient_that_bfloat16_agrees_with(name: str) -> None:
    """BatchNorm makes +1 and -1 of two rows. The core compares both precisions on two samples before a run."""
    weight, cosine = agreement(build(name), draw_batch(2), device="cpu")
    assert cosine > LEAST_COSINE, weight


@pytest.mark.parametrize(
    ("name", "trivial", "expected"),
    [
        ("simclr", "chance", math.log(2 * 6 - 1)),
        ("byol", "orthogonal", 4.0),
        ("simsiam", "orthogonal", 0.0),
        ("moco", "chance", 2 * math.log(17)),
    ],
)
def test_the_trivial_loss_is_that_of_embeddings_without_information(name: str, trivial: str, expected: float) -> None:
    task, batch = build(name), draw_batch(6)
    assert task.trivial(batch)[trivial].item() == pytest.approx(expected)


def test_embeddings_that_are_all_the_same_have_the_trivial_loss() -> None:
    rows_alike = torch.ones(6, 8)
    loss = nt_xent(rows_alike, rows_alike, temperature=0.5)["loss"].item()
    assert loss == pytest.approx(build("simclr").trivial(draw_batch(6))["chance"].item())
    queue = nn.functional.normalize(torch.ones(16, 8), dim=1)
    loss = info_nce(rows_alike, rows_alike, queue, temperature=0.5)["loss"].item()
    assert loss == pytest.approx(build("moco", symmetric=False).trivial(draw_batch(6))["chance"].item())


@pytest.mark.parametrize(("name", "distance"), [("simclr", 0.3), ("byol", 1.2), ("simsiam", 0.3)])
def test_an_untrained_task_starts_near_its_trivial_loss(name: str, distance: float) -> None:
    """MoCo starts below: untrained embeddings lie closer to each other than to the random keys of its queue."""
    task, batch = build(name).train(), draw_batch(32)
    loss, trivial = task(batch)["loss"].item(), next(iter(task.trivial(batch).values())).item()
    assert abs(loss - trivial) < distance


def test_the_spread_of_embeddings_is_1_at_random_and_0_when_collapsed() -> None:
    assert embedding_std(rows(4096, 32)) == pytest.approx(1, abs=0.02)
    assert embedding_std(torch.ones(64, 32)) == pytest.approx(0, abs=1e-6)


def test_a_dead_hidden_layer_shows() -> None:
    task = build("simclr").train()
    nn.init.constant_(task.projector.bn.bias, -100.0)
    task(draw_batch(4))
    assert task.health()["active_share"] == 0


def test_a_head_of_one_layer_has_no_hidden_units_to_count() -> None:
    one = Head(6, hidden_channels=None, out_channels=3)
    assert [name for name, _ in one.named_parameters()] == ["out.weight", "out.bias"]
    assert one(torch.ones(2, 6)).shape == (2, 3) and one.active_share is None
    assert Head(6, hidden_channels="input", out_channels=3).hidden.out_features == 6


@pytest.mark.parametrize(
    "settings", [{"hidden_channels": 0, "out_channels": 2}, {"hidden_channels": 2, "out_channels": 0.5}]
)
def test_a_head_without_channels_is_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="of a head must be a whole number, at least 1"):
        Head(4, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("simclr", {"temperature": 0}, "task.module.temperature=0 must be a number above 0"),
        ("moco", {"temperature": "x"}, "task.module.temperature=x must be a number above 0"),
        ("moco", {"queue_length": 0}, "task.module.queue_length=0 must be a whole number, at least 1"),
        ("byol", {"momentum": 1.5}, "task.module.momentum=1.5 must be a number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(name, **settings)


def test_a_backbone_that_hides_its_features_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential needs the whole number out_channels"):
        build("simclr", nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_the_target_network_gets_no_gradient_and_follows_slowly() -> None:
    task = build("byol", momentum=0.9)
    before = copy.deepcopy(task.state_dict())
    assert not any(weight.requires_grad for weight in task.target.parameters())
    train(task, [draw_batch(4)], lr=1.0)
    after = task.state_dict()
    for name, weight in task.target.named_parameters():
        expected = 0.9 * before[f"target.{name}"] + 0.1 * after[name]
        torch.testing.assert_close(weight.data, expected)
    assert not torch.equal(after["target.backbone.conv1.weight"], before["target.backbone.conv1.weight"])
    assert after["target.backbone.bn1.num_batches_tracked"] == 2, "a forward pass for each view"


def test_a_first_contact_copies_what_arrived_and_a_later_one_keeps_the_clients_own() -> None:
    task = build("byol").train()
    arrived = build("byol").train()
    nn.init.constant_(arrived.backbone.bn1.running_mean, 5.0)
    nn.init.constant_(arrived.projector.out.bias, 3.0)
    task.backbone.load_state_dict(arrived.backbone.state_dict())
    task.projector.load_state_dict(arrived.projector.state_dict())
    task.start_round()
    assert (task.target.projector.out.bias == 3).all() and (task.target.backbone.bn1.running_mean == 5).all()
    nn.init.constant_(task.projector.out.bias, 4.0)
    task.start_round()
    assert (task.target.projector.out.bias == 3).all() and task.target.rounds == 2


@pytest.mark.parametrize("reset", [True, False])
def test_the_key_encoder_starts_a_round_at_the_query_encoder_if_asked_but_keeps_its_statistics(reset: bool) -> None:
    task = build("moco", reset_keys=reset).train()
    task.start_round()
    nn.init.constant_(task.projector.out.bias, 4.0)
    nn.init.constant_(task.backbone.bn1.running_mean, 5.0)
    task.start_round()
    assert bool((task.key_encoder.projector.out.bias == 4).all()) is reset
    assert (task.key_encoder.backbone.bn1.running_mean == 0).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_keys_enter_the_queue_after_the_step_and_from_the_key_encoder(symmetric: bool) -> None:
    task, batch = build("moco", symmetric=symmetric).train(), draw_batch(3)
    twin = copy.deepcopy(task)
    before, views = task.queue.keys.clone(), ("view1", "view2") if symmetric else ("view2",)
    keys = nn.functional.normalize(torch.cat([twin.key_encoder(batch[view]) for view in views]), dim=1)
    loss = task(batch)["loss"]
    assert torch.equal(task.queue.keys, before), "both directions use the queue as it was before the step"
    loss.backward()
    task.after_step()
    torch.testing.assert_close(task.queue.keys[: len(keys)], keys)
    assert torch.equal(task.queue.keys[len(keys) :], before[len(keys) :]) and task.queue.place == len(keys)


def test_the_order_of_a_batch_changes_no_key() -> None:
    """So shuffling the keys' batch, as published for several GPUs, would have no effect on one device."""
    follower = Follower(ResNet(18, width=4), head(32), momentum=0.99).train()
    twin, view, order = copy.deepcopy(follower), draw_batch(6)["view1"], torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(follower(view)[order], twin(view[order]), rtol=1e-4, atol=1e-5)


def test_what_must_not_travel_has_names_of_its_own() -> None:
    shared = ("backbone.", "projector.", "predictor.")
    own = {
        name: {entry.split(".")[0] for entry in build(name).state_dict() if not entry.startswith(shared)}
        for name in TASKS
    }
    assert own == {"simclr": set(), "byol": {"target"}, "simsiam": set(), "moco": {"key_encoder", "queue"}}


@pytest.mark.parametrize("name", TASKS)
def test_bfloat16_keeps_the_digits_of_the_loss(name: str) -> None:
    task, batch = build(name).train(), draw_batch(8)
    exact = copy.deepcopy(task)(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task(batch)["loss"]
    assert rounded.dtype == torch.float32 and abs(rounded.item() - exact.item()) < 0.03 * max(1, exact.item())
