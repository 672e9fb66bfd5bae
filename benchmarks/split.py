"""What a client of split learning computes, holds and sends, and what it costs that clients are many.

    python -m benchmarks.split table --width 64
    python -m benchmarks.split steps --width 8 --json docs/results/mocosfl_steps.json

`table`: for each cut parameters, latents, multiply-adds and memory of a client's step, beside the traffic as the paper
counts it. `steps`: processor time of a step of 100 clients with one picture each beside one client with 100, of the
clients' part alone (their server's part is the same), and by what means the many are computed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fedvssl.files.atomic import write_json
from fedvssl.files.environment import machine
from fedvssl.models.split_resnet import Head, SplitResNet
from fedvssl.split.client import Clients
from fedvssl.split.cut import Front
from fedvssl.tasks.split_moco import SplitMoCo

CUTS = {  # name -> bottleneck, the stage that it follows, and the client's last stage
    "1": (None, "stem", "stem"),
    "2": (None, "stem", "block1"),
    "3": (None, "stem", "block2"),
    "1 + C4S2": ("C4S2", "stem", "narrow"),
    "2 + C4S2": ("C4S2", "block1", "narrow"),
}
SIDE, KIB, MIB = 32, 2**10, 2**20


def clients_of(width: int, cut: str, *, number: int, frozen: bool = False) -> Clients:
    """This many clients of equal weights."""
    bottleneck, after, at = CUTS[cut]
    backbone = SplitResNet(width, bottleneck=bottleneck, bottleneck_after=after)
    head = partial(Head, hidden_channels=16, out_channels=16)
    limits: dict[str, Any] = {"temperature": 0.1, "queue_length": 10, "momentum": 0.99, "symmetric": True}
    task = SplitMoCo(backbone, views=lambda batch: batch, projector=head, reset_keys=False, **limits)
    sgd = partial(torch.optim.SGD, lr=0.06, momentum=0.9, weight_decay=5e-4)
    clients = Clients(Front(task, at), lambda module: sgd(module.parameters()), momentum=0.99, frozen=frozen)
    for own in range(number):
        clients.add(own)
    return clients


def views_of(number: int, size: int) -> dict[int, tuple[Tensor, Tensor]]:
    return {own: (torch.randn(size, 3, SIDE, SIDE), torch.randn(size, 3, SIDE, SIDE)) for own in range(number)}


def step(clients: Clients, views: dict[int, tuple[Tensor, Tensor]]) -> None:
    """A step of the clients; their gradient is the latents themselves, as of any size."""
    latents = clients.forward(views)
    if not clients.frozen:
        clients.backward({own: query for own, (query, _) in latents.items()}, lr_factor=1.0)


def row(width: int, cut: str, *, frozen: bool) -> str:
    """A line of the table, for one client with a picture."""
    clients, views = clients_of(width, cut, number=1, frozen=frozen), views_of(1, 1)
    latent = clients.forward(views)[0][0]
    with FlopCounterMode(display=False) as counter:
        step(clients, views)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        clients.forward(views)
    network = clients.members[0].front
    weights = sum(parameter.numel() for parameter in network.backbone.parameters())
    copies = 2 if frozen else 5  # of the weights: and the follower's; the gradient's, SGD's and those of the open step
    kib, up, down = latent.numel() * 4 / KIB, 2, 0 if frozen else 1
    return (
        f"| {cut} | {'yes' if frozen else 'no'} | {weights:,} | {'x'.join(map(str, latent.shape[1:]))} | {kib:g} | "
        f"{counter.get_total_flops() / 2e6:.1f} | {copies * weights * 4 / MIB:.2f} | {sum(kept.values()) / MIB:.2f} | "
        f"{up * kib:g} | {down * kib:g} | {(up - 1) * kib:g} | {down * kib:g} |"
    )


def table(width: int) -> None:
    print(
        "| cut | frozen | parameters | latent | KiB | million multiply-adds a picture | MiB of weights | MiB kept for "
        "a picture | KiB up | KiB down | up by the paper | down by the paper |\n" + "|---" * 12 + "|"
    )
    for cut in CUTS:
        for frozen in (False, True):
            print(row(width, cut, frozen=frozen), flush=True)


def seconds(run: Callable[[], object], *, repeats: int) -> list[float]:
    """Processor time of a call, after two that do not count; with one thread, other programs hardly change it."""
    found = []
    for _ in range(repeats + 2):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return found[2:]


def one_after_the_other(parts: list[tuple[Clients, dict[int, tuple[Tensor, Tensor]]]]) -> None:
    for clients, views in parts:
        step(clients, views)


def steps(width: int, cut: str, *, number: int, repeats: int) -> dict[str, Any]:
    """Medians of a step in seconds: many clients by vmap, each alone, and all their pictures with one client."""
    many, views = clients_of(width, cut, number=number), views_of(number, 1)
    alone = [(clients_of(width, cut, number=1), views_of(1, 1)) for _ in range(number)]
    one, whole = clients_of(width, cut, number=1), views_of(1, number)
    frozen = clients_of(width, cut, number=number, frozen=True)
    runs: dict[str, Callable[[], object]] = {
        "vmap": lambda: step(many, views),
        "one after the other": lambda: one_after_the_other(alone),
        "one client": lambda: step(one, whole),
        "frozen, in one batch": lambda: step(frozen, views),
    }
    found = {name: statistics.median(seconds(run, repeats=repeats)) for name, run in runs.items()}
    return {"cut": cut, "clients": number, **found, "vmap - one client": found["vmap"] - found["one client"]}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "steps"))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cuts", nargs="+", default=[*CUTS], choices=[*CUTS])
    parser.add_argument("--profile", action="store_true", help="operators of a step of all clients by vmap")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if words.what == "table":
        return table(words.width)
    rows = [steps(words.width, cut, number=words.clients, repeats=words.repeats) for cut in words.cuts]
    for found in rows:
        print(", ".join(f"{n} {1e3 * v:.1f} ms" if isinstance(v, float) else f"{n} {v}" for n, v in found.items()))
    if words.profile:
        clients, views = clients_of(words.width, words.cuts[0], number=words.clients), views_of(words.clients, 1)
        step(clients, views)
        with torch.profiler.profile() as profile:
            step(clients, views)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))
    if words.json:
        write_json(words.json, {"machine": machine(precision="32-true"), "width": words.width, "rows": rows})


if __name__ == "__main__":
    main()
