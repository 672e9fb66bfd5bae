"""Split training against the executed reference, step by step in float64: latents, gradients, queue, every weight."""

import math

import numpy as np
import pytest
import torch

from fedvssl.models.split_resnet import StandardConv
from fedvssl.split.client import Clients
from fedvssl.split.server import Server
from tests.parity.reference import hash_input, hash_weights, load_json, load_npz
from tests.split_steps import halves_of, one_step, resnet, task_of

CASES = {"cut1_C4S2": ("C4S2", "narrow", 3), "cut2": (None, "block1", 1), "cut1_C4S2_asymmetric": ("C4S2", "narrow", 1)}
LR = 0.003


def halves(case: str, num_clients: int = 2) -> tuple[Clients, Server]:
    """Both parts with the deterministic weights, and the stored queue."""
    bottleneck, at, _ = CASES[case]

    def make():
        return task_of(resnet(bottleneck), symmetric=not case.endswith("asymmetric"))

    clients, server = halves_of(make, at, lr=LR, num_clients=num_clients)
    for member in clients.members.values():
        fill(member.front.backbone, 0)
        member.restart_follower()
    task = server.task
    fill(torch.nn.ModuleList([task.backbone, task.projector]), 1000)
    task.key_encoder.backbone.load_state_dict(task.backbone.state_dict())
    task.key_encoder.projector.load_state_dict(task.projector.state_dict())
    task.queue.keys.copy_(torch.from_numpy(load_npz("mocosfl")[f"{case.split('_asym')[0]}/queue_before"]).T)
    return clients, server


def fill(module: torch.nn.Module, first_key: int) -> None:
    """Deterministic weights of float32 in a module of float64."""
    hash_weights(module.float(), first_key)
    module.double()


def views(step: int) -> dict:
    keys = {client: 5000 + 20 * step + 2 * client for client in range(2)}
    return {c: tuple(hash_input((2, 3, 32, 32), key + side).double() for side in (0, 1)) for c, key in keys.items()}


def norms(*modules) -> np.ndarray:
    return np.array([float(p.detach().norm()) for module in modules for p in module.parameters()])


def equal(found, stored) -> None:
    np.testing.assert_allclose(np.asarray(found), stored, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("case", "num_steps"),
    [("cut1_C4S2", 1), *(pytest.param(case, own[2], marks=pytest.mark.slow) for case, own in CASES.items())],
)
def test_steps_are_those_of_the_reference(case: str, num_steps: int) -> None:
    stored, (clients, server) = load_npz("mocosfl"), halves(case)
    task, fronts = server.task, [member.front for member in clients.members.values()]
    for step in range(num_steps):
        factor = (1 + math.cos(math.pi * step / 200)) / 2  # the reference steps the clients' rate per batch
        scalars, query, key, gradient = one_step(clients, server, views(step), client_factor=factor)
        start = f"{case}/step{step}"
        for name, found in (("h_q", query), ("h_k", key), ("grad_h_q", gradient)):
            equal([found.mean(), found.std(), found.norm()], stored[f"{start}/{name}_stats"])
            whole = f"{start}/{name}"
            if whole in stored:
                equal(found, stored[whole])
            else:
                equal(found[:, ::16, ::4, ::4], stored[f"{whole}_sub"])
        equal(scalars["loss"], stored[f"{start}/loss"])
        if f"{start}/queue_after" in stored:
            equal(task.queue.keys.T, stored[f"{start}/queue_after"])
            assert int(task.queue.place) == int(stored[f"{start}/ptr_after"])
        for number, front in enumerate(fronts):
            equal(norms(front.backbone), stored[f"{start}/client{number}_norms"])
            equal(norms(front.key_encoder), stored[f"{start}/client{number}_momentum_norms"])
        equal(norms(task.backbone, task.projector), stored[f"{start}/server_norms"])
        equal(norms(task.key_encoder), stored[f"{start}/server_momentum_norms"])
        if f"{case}/sync_after_step{step}/client_norms" in stored:
            synchronise(fronts, stored, f"{case}/sync_after_step{step}")
    for number, front in enumerate(fronts if num_steps == 3 else ()):
        kinds = {f"client{number}": front.backbone} | ({"client0_momentum": front.key_encoder} if number == 0 else {})
        for kind, network in kinds.items():
            own = [array for name, array in stored.items() if name.startswith(f"{case}/final/{kind}/")]
            for parameter, array in zip(network.parameters(), own, strict=True):
                equal(parameter.detach(), array)


def synchronise(fronts, stored, start: str) -> None:
    """The mean of the clients, by plain torch, and how far each was from it."""
    means = [torch.stack(list(own)).mean(0) for own in zip(*(f.backbone.parameters() for f in fronts), strict=True)]
    for number, front in enumerate(fronts):
        away = sum(float((p - m).detach().norm()) for p, m in zip(front.backbone.parameters(), means, strict=True))
        assert away == pytest.approx(float(stored[f"{start}/divergence"][number]), rel=1e-6)
    for front in fronts:
        with torch.no_grad():
            for parameter, mean in zip(front.backbone.parameters(), means, strict=True):
                parameter.copy_(mean)
        equal(norms(front.backbone), stored[f"{start}/client_norms"])
    equal(norms(fronts[0].key_encoder), stored[f"{start}/client0_momentum_norms"])


def test_the_parts_have_the_entries_of_the_reference() -> None:
    for case, own in load_json("mocosfl_meta")["cases"].items():
        clients, server = halves(case)
        front, task = clients.members[0].front, server.task
        assert sum(p.numel() for p in front.backbone.parameters()) == own["client_parameters"]
        parts = [*task.backbone.parameters(), *task.projector.parameters()]
        assert sum(p.numel() for p in parts) == own["server_parameters"]
        assert len(parts) == len(own["server_names"])


def test_a_forward_pass_in_float32() -> None:
    stored, task = load_npz("mocosfl"), task_of(resnet(None)).float()
    front, rest = torch.nn.ModuleList([task.backbone.stem]), list(task.backbone.children())[1:]
    hash_weights(front)
    hash_weights(torch.nn.ModuleList([*rest, task.projector]), 1000)
    with torch.no_grad():
        features = task.backbone(hash_input((2, 3, 32, 32), 5900)).mean((2, 3))
        projected = task.projector(features)
    np.testing.assert_allclose(features, stored["forward/cut1_pooled_512"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(projected, stored["forward/cut1_projected"], rtol=1e-4, atol=1e-4)


def test_weights_are_standardised_as_in_the_reference() -> None:
    stored = {name: torch.from_numpy(array) for name, array in load_npz("mocosfl").items() if name.startswith("wsconv")}
    layer = StandardConv(3, 5, 3)
    layer.weight.data = stored["wsconv/weight"]
    x = stored["wsconv/x"].requires_grad_()
    out = layer(x)
    torch.testing.assert_close(out, stored["wsconv/out"])
    out.square().mean().backward()
    torch.testing.assert_close(layer.weight.grad, stored["wsconv/grad_weight_of_mean_square"])
    torch.testing.assert_close(x.grad, stored["wsconv/grad_x"])
