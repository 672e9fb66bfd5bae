"""Losses, queues and a whole BYOL step of the tasks of two views against the executed reference."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedvssl.models.resnet import ResNet
from fedvssl.tasks.byol import BYOL, byol_loss
from fedvssl.tasks.heads import Head
from fedvssl.tasks.moco import Queue, info_nce
from fedvssl.tasks.simclr import nt_xent
from fedvssl.tasks.simsiam import simsiam_loss
from tests.parity.reference import hash_input, hash_weights, load_json, load_npz

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def stored() -> Arrays:
    return load_npz("contrastive_losses")


def leaf(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).clone().requires_grad_()


def check(found: Tensor | None, expected: np.ndarray, *, rtol: float = 1e-5) -> None:
    """Relative to the largest entry, since single entries of a gradient may cancel."""
    assert found is not None
    np.testing.assert_allclose(found.detach(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("temperature", ["0.5", "0.2", "0.07"])
@pytest.mark.parametrize("size", ["small", "mid"])
def test_nt_xent_and_its_gradients(stored: Arrays, size: str, temperature: str) -> None:
    z1, z2 = leaf(stored[f"ntxent/{size}/z_i"]), leaf(stored[f"ntxent/{size}/z_j"])
    loss = nt_xent(z1, z2, temperature=float(temperature))["loss"]
    loss.backward()
    prefix = f"ntxent/{size}/T{temperature}"
    check(loss, stored[f"{prefix}/loss"])
    check(z1.grad, stored[f"{prefix}/grad_z_i"])
    check(z2.grad, stored[f"{prefix}/grad_z_j"])
    if temperature == "0.07":  # the formula of another program, with both views in one matrix
        check(loss, stored[f"ntxent/{size}/easyfl_T0.07_loss"])


def test_nt_xent_of_collapsed_and_of_identical_views(stored: Arrays) -> None:
    z = torch.from_numpy(stored["ntxent/collapsed/z"])
    for temperature in (0.5, 0.07):
        check(nt_xent(z, z, temperature=temperature)["loss"], stored["ntxent/collapsed/ln_2B_minus_1"])
    z = leaf(stored["ntxent/identical_views/z"])
    loss = nt_xent(z, z.detach(), temperature=0.07)["loss"]
    loss.backward()
    # The difference of two numbers near 14, 1 / 0.07, each rounded to 1e-6: processors differ in the 5th digit of 4e-4.
    check(loss, stored["ntxent/identical_views/T0.07/loss"], rtol=1e-3)
    # The gradient is a difference of almost equal numbers there, hence relative to the unit rows over the temperature.
    expected = stored["ntxent/identical_views/T0.07/grad_z_i"]
    np.testing.assert_allclose(z.grad, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "loss", "z"), [("byol", byol_loss, "z{}_target"), ("simsiam", simsiam_loss, "z{}")])
def test_losses_of_predictors_and_their_gradients(stored: Arrays, name: str, loss, z: str) -> None:
    predictions = (leaf(stored[f"{name}/p1"]), leaf(stored[f"{name}/p2"]))
    targets = tuple(leaf(stored[f"{name}/{z.format(view)}"]) for view in (1, 2))
    value = loss(predictions, targets)
    value.backward()
    check(value, stored[f"{name}/loss"])
    for view, prediction in enumerate(predictions, start=1):
        check(prediction.grad, stored[f"{name}/grad_p{view}"])
    assert all(target.grad is None for target in targets)


def queue_of(array: np.ndarray) -> Queue:
    """The reference has keys in columns."""
    queue = Queue(array.shape[1], array.shape[0])
    queue.keys.copy_(torch.from_numpy(array.T))
    return queue


@pytest.mark.parametrize("symmetric", [True, False])
def test_moco_over_five_steps(stored: Arrays, symmetric: bool) -> None:
    case = f"moco_easyfl_{'symmetric' if symmetric else 'asymmetric'}"
    queue, temperature = queue_of(stored[f"{case}/queue_before"]), float(stored[f"{case}/temperature"])
    for step in range(5):
        prefix = f"{case}/step{step}"
        view1, view2 = leaf(stored[f"{prefix}/view1"]), leaf(stored[f"{prefix}/view2"])
        loss = info_nce(view1, view2, queue.keys, temperature=temperature)["loss"]
        if symmetric:
            loss = loss + info_nce(view2, view1, queue.keys, temperature=temperature)["loss"]
        loss.backward()
        check(loss, stored[f"{prefix}/loss"])
        check(view1.grad, stored[f"{prefix}/grad_view1"])
        if symmetric:
            check(view2.grad, stored[f"{prefix}/grad_view2"])
        queue.push(torch.cat([view1, view2]) if symmetric else view2)
        check(queue.keys.T, stored[f"{prefix}/queue_after"])
        assert queue.place == stored[f"{prefix}/ptr_after"]


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_queue_that_wraps_around_in_mid_batch(stored: Arrays, symmetric: bool) -> None:
    case, wrapped = f"moco_sfl_{'symmetric' if symmetric else 'asymmetric'}", 0
    queue = queue_of(stored[f"{case}/queue_before"])
    for step in range(6):
        prefix = f"{case}/step{step}"
        h_q, h_k = leaf(stored[f"{prefix}/h_q"]), torch.from_numpy(stored[f"{prefix}/h_k"])
        first = info_nce(h_q, h_k, queue.keys, temperature=0.1)
        first["loss"].backward()
        check(h_q.grad, stored[f"{prefix}/grad_h_q"])
        last, loss = first, first["loss"]
        if symmetric:
            last = info_nce(h_k, h_q, queue.keys, temperature=0.1)
            loss = loss + last["loss"]
        check(loss, stored[f"{prefix}/loss"])
        # The reference tells the accuracy of the term that it computes last.
        assert 100 * last["top1_acc"] == pytest.approx(float(stored[f"{prefix}/top1_percent"]))
        before = int(queue.place)
        queue.push(torch.cat([h_q, h_k]) if symmetric else h_k)
        check(queue.keys.T, stored[f"{prefix}/queue_after"])
        assert queue.place == stored[f"{prefix}/ptr_after"]
        wrapped += 0 < queue.place < before
    assert wrapped, "the case is about a batch that begins at the end and ends at the beginning"


def test_queues_of_two_clients_keep_apart(stored: Arrays) -> None:
    """Each client's queries see its own queue only, and its keys go there."""
    case = "moco_sfl_private_queues"
    queues = [queue_of(stored[f"{case}/queue_before/client{client}"]) for client in range(2)]
    step = 0
    while (prefix := f"{case}/step{step}") + "/h_q" in stored:
        h_q, h_k = leaf(stored[f"{prefix}/h_q"]), torch.from_numpy(stored[f"{prefix}/h_k"])
        own = [slice(0, 2), slice(2, 4)]
        pairs = zip(own, queues, strict=True)
        losses = [info_nce(h_q[rows], h_k[rows], queue.keys, temperature=0.1)["loss"] for rows, queue in pairs]
        loss = torch.stack(losses).mean()
        loss.backward()
        check(loss, stored[f"{prefix}/loss"])
        check(h_q.grad, stored[f"{prefix}/grad_h_q"])
        for client, (rows, queue) in enumerate(zip(own, queues, strict=True)):
            queue.push(h_k[rows])
            check(queue.keys.T, stored[f"{prefix}/queue_after/client{client}"])
            assert queue.place == stored[f"{prefix}/ptr_after/client{client}"]
        step += 1
    assert step > 1


def test_the_projector() -> None:
    arrays = load_npz("backbones")
    head = Head(12, hidden_channels=9, out_channels=5)
    hash_weights(head)
    x = torch.from_numpy(arrays["mlp/x"])
    check(head(x), arrays["mlp/train"], rtol=1e-4)
    after = {name: value for name, value in arrays.items() if name.startswith("mlp/after_train_forward")}
    for value, expected in zip(head.state_dict().values(), after.values(), strict=True):
        check(value.float(), expected, rtol=1e-4)
    check(head.eval()(x), arrays["mlp/eval"], rtol=1e-4)
    one = Head(12, hidden_channels=None, out_channels=5)
    hash_weights(one)
    check(one(x), arrays["mlp_one_layer/out"], rtol=1e-4)


# Part of the reference -> modules of the task that it consists of.
PARTS = {
    "online_encoder": ("backbone", "projector"),
    "online_predictor": ("predictor",),
    "target_encoder": ("target.backbone", "target.projector"),
}
FIRST_KEYS = {"online_encoder": 0, "online_predictor": 1000, "target_encoder": 2000}
SGD = {"lr": 0.032, "momentum": 0.9, "weight_decay": 5e-4}


def part_of(task: BYOL, name: str) -> nn.ModuleList:
    return nn.ModuleList(task.get_submodule(own) for own in PARTS[name])


def byol(*, width: int, hidden: int, out: int, dtype: torch.dtype) -> BYOL:
    """Online, predictor and target with the stored weights."""

    def head(in_channels: int) -> Head:
        return Head(in_channels, hidden_channels=hidden, out_channels=out)

    task = BYOL(ResNet(18, width=width), views=lambda batch: batch, projector=head, predictor=head, momentum=0.99)
    for name, first_key in FIRST_KEYS.items():
        hash_weights(part_of(task, name), first_key)
    return task.to(dtype).train()


def step(task: BYOL, optimizer: torch.optim.Optimizer, *, batch_size: int, key: int) -> float:
    """One step of the client on two views."""
    dtype = next(task.parameters()).dtype
    views = {f"view{v + 1}": hash_input((batch_size, 3, 32, 32), key + v, 0, 1).to(dtype) for v in range(2)}
    loss = task(views)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    task.after_step()
    return loss.item()


def check_state(task: BYOL, stored: Arrays, prefix: str) -> None:
    """Norms and sums of all entries, relative to the norm of all together."""
    for name in PARTS:
        state = part_of(task, name).state_dict()
        counted = [not entry.endswith("num_batches_tracked") for entry in state]
        norms = np.array([float(value.double().norm()) for value in state.values()])[counted]
        sums = np.array([float(value.double().sum()) for value in state.values()])[counted]
        scale = np.linalg.norm(norms)
        assert np.abs(norms - stored[f"{prefix}_norms/{name}"][counted]).max() < 1e-3 * scale, name
        assert np.abs(sums - stored[f"{prefix}_sums/{name}"][counted]).max() < 5e-3 * scale, name


# The reference has computed in float32. A ReLU that flips between the two moves single gradients by some thousandths.
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_client_step_of_byol_and_its_ema(dtype: torch.dtype) -> None:
    stored, task = load_npz("byol_step"), byol(width=4, hidden=16, out=8, dtype=dtype)
    before = {name: value.clone() for name, value in part_of(task, "target_encoder").state_dict().items()}
    loss = step(task, torch.optim.SGD(task.parameters(), **SGD), batch_size=8, key=9000)
    np.testing.assert_allclose(loss, stored["loss_first_batch"], rtol=1e-5)
    for name in ("online_encoder", "online_predictor"):
        norms = [float(weight.grad.norm()) for weight in part_of(task, name).parameters()]
        # A bias in front of BatchNorm has no gradient but rounding.
        np.testing.assert_allclose(norms, stored[f"grad_norms/{name}"], rtol=6e-3, atol=1e-5, err_msg=name)
    meta = load_json("byol_step_meta")["narrow"]
    for name in PARTS:
        entries = meta["predictor_names" if name == "online_predictor" else "online_names"]
        for (own, value), entry in zip(part_of(task, name).state_dict().items(), entries, strict=True):
            check(value.double(), stored[f"steps1/after/{name}/{entry}"].astype(np.float64), rtol=5e-3)
            assert not own.endswith("num_batches_tracked") or value == 2
    check_rule_of_the_buffers(task, before)


def check_rule_of_the_buffers(task: BYOL, before: dict[str, Tensor]) -> None:
    """Parameters of the target follow the online ones; its buffers are moved by its own forward passes only."""
    online, target = (part_of(task, name) for name in ("online_encoder", "target_encoder"))
    weights, dtype = dict(online.named_parameters()), next(task.parameters()).dtype
    for name, value in target.named_parameters():
        expected = 0.99 * before[name].double() + 0.01 * weights[name].double()
        torch.testing.assert_close(value, expected.to(dtype))
    target_means = {name: value for name, value in target.named_buffers() if name.endswith("running_mean")}
    twin = byol(width=4, hidden=16, out=8, dtype=dtype)
    for view in (9000, 9001):
        twin.target(hash_input((8, 3, 32, 32), view, 0, 1).to(dtype))
    for name, value in part_of(twin, "target_encoder").named_buffers():
        if name.endswith("running_mean"):
            torch.testing.assert_close(target_means[name], value)
            assert not torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_client_steps_of_byol(dtype: torch.dtype) -> None:
    stored, task = load_npz("byol_step"), byol(width=4, hidden=16, out=8, dtype=dtype)
    optimizer = torch.optim.SGD(task.parameters(), **SGD)
    losses = [step(task, optimizer, batch_size=8, key=9000 + 2 * number) for number in range(2)]
    np.testing.assert_allclose(np.mean(losses), stored["steps2/mean_loss"], rtol=1e-3)
    check_state(task, stored, "steps2/after")


def test_a_client_step_of_byol_at_full_width() -> None:
    stored, meta = load_npz("byol_step"), load_json("byol_step_meta")["full"]
    task = byol(width=64, hidden=64, out=32, dtype=torch.float64)
    loss = step(task, torch.optim.SGD(task.parameters(), **SGD), batch_size=meta["batch"], key=9100)
    np.testing.assert_allclose(loss, stored["full/loss"], rtol=1e-5)
    check_state(task, stored, "full/after")
