"""Steps of split learning against slow ones of the whole network, and the faults of the published code."""

from functools import partial

import pytest
import torch
from torch import Tensor

from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet
from fedvssl.split.client import Clients
from fedvssl.split.cut import Front, keep_rest
from fedvssl.split.server import Server
from fedvssl.tasks.heads import Head
from fedvssl.tasks.moco import MoCo
from fedvssl.tasks.split_moco import SplitMoCo
from tests.split_steps import halves_of, one_step, resnet, sgd, task_of

STEPS = 5
Views = dict[int, tuple[Tensor, Tensor]]


def pictures(step: int, *, clients: int = 2, each: int = 2, side: int = 8) -> Views:
    rng = torch.Generator().manual_seed(step)
    return {c: tuple(torch.randn(2, each, 3, side, side, generator=rng).double()) for c in range(clients)}


def small(**settings):
    """A task whose initial weights are the same in every call."""
    torch.manual_seed(0)
    return task_of(resnet("C4S2", width=4), queue_length=12, **settings)


def clips_task(kind: type, **settings) -> MoCo:
    torch.manual_seed(0)
    head = partial(Head, hidden_channels=8, out_channels=8)
    own = {"queue_length": 12, "temperature": 0.1, "momentum": 0.99, "symmetric": False, "reset_keys": False}
    task = kind(R3D(10, width=4), views=lambda b: b, projector=head, **{**own, **settings}).double()
    task.start_round()
    return task.train()


def ctp():
    return build_task(compose("base", ["model.width=4"]))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_one_client_with_clips_is_moco_that_nobody_cut() -> None:
    """R3D with BatchNorm: the forward pass is repeated for each gradient, and the statistics move once a step."""
    whole = clips_task(MoCo)
    optimizer = sgd(0.05)(whole)
    clients = Clients(Front(clips_task(SplitMoCo), "layer1"), sgd(0.05), momentum=0.99)
    server = Server(clips_task(SplitMoCo), "layer1", sgd(0.05))
    member = clients.add(0)
    rng = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        view1, view2 = torch.randn(2, 4, 3, 2, 16, 16, generator=rng).double()
        loss = whole({"view1": view1, "view2": view2})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        whole.queue.push(whole._new_keys)
        ((query, key),) = clients.forward({0: (view1, view2)}).values()
        clients._open = []  # as a client that has answered and forgotten
        gradient, scalars = server.step(query, key, lr_factor=1.0)
        clients.repeat_forward(0, view1)
        clients.backward({0: gradient}, lr_factor=1.0)
        close(scalars["loss"], loss.detach())
        parts = member.front.state_dict() | server.task.state_dict()
        for name, expected in whole.state_dict().items():
            if "num_batches" not in name:
                close(parts[name], expected)
            elif name.startswith("backbone."):
                assert int(parts[name]) == int(expected) > 0
        whole.key_encoder.follow(whole.backbone, whole.projector)


def test_both_directions_are_those_of_one_graph_in_which_the_second_view_is_detached_at_the_cut() -> None:
    task = small()
    front = Front(task, "narrow")
    keep_rest(task, "narrow")
    trained, follower = front.backbone, front.key_encoder.backbone
    optimizer = sgd(0.05)(torch.nn.ModuleList([trained, task]))
    clients, server = halves_of(small, "narrow", lr=0.05, num_clients=1)
    for step in range(STEPS):
        views = pictures(step, clients=1, each=4)
        task.start_step()
        for own, theirs in zip(follower.parameters(), trained.parameters(), strict=True):
            own.data = 0.99 * own + 0.01 * theirs.detach()
        loss = task.on_latents(trained(views[0][0]), follower(views[0][1]).detach())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step()
        scalars, *_ = one_step(clients, server, views)
        close(scalars["loss"], loss.detach())
    parts = clients.members[0].front.state_dict() | server.task.state_dict()
    for name, expected in (front.state_dict() | task.state_dict()).items():
        close(parts[name], expected)


def test_a_latent_of_the_second_view_gets_no_gradient_but_trains_the_server() -> None:
    _, server = halves_of(small, "narrow", lr=0.05)
    query, key = (torch.rand(3, 4, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    server.step(query, key, lr_factor=1.0)
    assert key.grad is None and query.grad is None


def test_clients_side_by_side_are_clients_one_after_the_other() -> None:
    together, one = (halves_of(small, "narrow", lr=0.05, num_clients=3)[0] for _ in range(2))
    for step in range(3):
        views = pictures(step, clients=3)
        latents = together.forward(views)
        gradients = {who: torch.cos(query) for who, (query, _) in latents.items()}
        together.backward(gradients, lr_factor=0.5)
        for who in views:
            ((query, key),) = one.forward({who: views[who]}).values()
            close(query, latents[who][0])
            close(key, latents[who][1])
            one.backward({who: gradients[who]}, lr_factor=0.5)
    for who, member in together.members.items():
        for own, other in zip(member.arrays().values(), one.members[who].arrays().values(), strict=True):
            close(torch.as_tensor(own), torch.as_tensor(other))


def test_a_client_without_a_gradient_stays_as_it_is() -> None:
    clients, _ = halves_of(small, "narrow", lr=0.05)
    latents = clients.forward(pictures(0))
    before = {name: array.copy() for name, array in clients.members[1].arrays().items()}
    clients.backward({0: torch.ones_like(latents[0][0])}, lr_factor=1.0)
    for name, array in clients.members[1].arrays().items():
        assert (array == before[name]).all(), name
    assert clients.members[0].steps == 1 and clients.members[1].steps == 0


def test_frozen_clients_of_any_batches_give_the_latents_of_their_common_weights() -> None:
    frozen, _ = halves_of(small, "narrow", lr=0.05, frozen=True)
    trained, _ = halves_of(small, "narrow", lr=0.05)
    views = pictures(0) | {1: tuple(own[:1] for own in pictures(1)[1])}
    for who, pair in trained.forward(views).items():
        for own, other in zip(frozen.forward(views)[who], pair, strict=True):
            close(own, other)


def test_private_queues_have_the_keys_of_their_client_in_both_directions() -> None:
    """The reference sliced rows by client id, began with keys of any length, and pushed half of the keys."""
    _, server = halves_of(partial(small, private_queues=3), "narrow", lr=0.05)
    queues = server.task.queues
    for queue in queues:
        torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(12).double(), rtol=0, atol=1e-6)
    before = [queue.keys.clone() for queue in queues]
    query, key = (torch.rand(4, 4, 4, 4, dtype=torch.float64) for _ in range(2))
    rows = [(2, slice(0, 2)), (0, slice(2, 4))]  # clients 3 and 1, in the order of the pool
    server.step(query, key, rows, lr_factor=1.0)
    moved = [int((queue.keys != old).any(1).sum()) for queue, old in zip(queues, before, strict=True)]
    assert moved == [4, 0, 4] and [int(queue.place) for queue in queues] == [4, 0, 4]


def test_each_client_is_compared_with_its_own_queue() -> None:
    losses = []
    for number in (1, 2):
        _, server = halves_of(partial(small, private_queues=3), "narrow", lr=0.05)
        server.task.queues[1].keys.zero_()
        query, key = torch.linspace(0, 1, 256).reshape(2, 2, 4, 4, 4).cos().double()
        _, scalars = server.step(query, key, [(0, slice(0, 1)), (number, slice(1, 2))], lr_factor=1.0)
        losses.append(float(scalars["loss"]))
    assert losses[0] != losses[1]


def test_the_state_of_both_parts_returns_whole() -> None:
    (clients, server), (others, other_server) = (halves_of(small, "narrow", lr=0.05) for _ in range(2))
    names = [*server.arrays()]
    one_step(clients, server, pictures(0))
    other_server.load(server.arrays())
    for who, member in clients.members.items():
        others.members[who].load({name: array.copy() for name, array in member.arrays().items()})
    assert [*server.arrays()] == names, "the optimizer has the same entries before its first step"
    parts = ((clients, server), (others, other_server))
    one, other = (float(one_step(*own, pictures(1))[0]["loss"]) for own in parts)
    assert one == other
    for own, other in zip(server.arrays().values(), other_server.arrays().values(), strict=True):
        assert (own == other).all()


def test_the_learning_rate_is_that_of_the_round_in_every_step() -> None:
    """The reference stepped an epoch's cosine once a batch, so the clients' rate rose and fell every 400 steps."""
    clients, server = halves_of(small, "narrow", lr=0.05)
    for step in range(3):
        one_step(clients, server, pictures(step), client_factor=0.25)
        for member in clients.members.values():
            assert member.optimizer.param_groups[0]["lr"] == 0.25 * 0.05
        assert server.optimizer.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize(
    ("make", "at", "sentence"),
    [
        (small, "block9", "strategy.cut=block9 lies outside of the network: the client's last stage may be stem, n"),
        (small, "block3", "strategy.cut=block3 lies outside of the network"),
        (lambda: task_of(ResNet(18, width=4)), "layer1", "ResNet cannot be cut"),
        (ctp, "layer1", "CtP cannot be split: its loss needs more than the latents"),
    ],
)
def test_what_cannot_be_cut_is_refused(make, at: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Server(make(), at, sgd(0.05))


def test_a_loss_that_is_not_finite_ends_the_step() -> None:
    _, server = halves_of(small, "narrow", lr=0.05)
    latents = torch.full((2, 4, 4, 4), torch.nan, dtype=torch.float64)
    with pytest.raises(ValueError, match="diverged"):
        server.step(latents, latents, lr_factor=1.0)
