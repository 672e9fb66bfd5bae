"""Where rounding grows from layer to layer, bfloat16 is judged by each layer alone."""

import torch
from torch import Tensor, nn

from fedvssl.models.resnet import ResNet
from fedvssl.tasks.heads import Head
from fedvssl.tasks.simclr import SimCLR
from fedvssl.training.precision import (
    LEAST_COSINE,
    LEAST_OF_A_LAYER,
    agreement,
    checked_precision,
    least_layer_agreement,
)


class Pairs:
    """Stands for a dataset of two smooth views each."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        base = nn.functional.interpolate(torch.randn(1, 3, 4, 4, generator=generator), size=16, mode="bilinear")[0]
        return {f"view{v}": base + 0.3 * torch.randn(3, 16, 16, generator=generator) for v in (1, 2)}


def deep_task() -> SimCLR:
    torch.manual_seed(7)
    backbone = ResNet(50, width=8)
    return SimCLR(
        backbone,
        views=lambda batch: batch,
        projector=lambda channels: Head(channels, hidden_channels=16, out_channels=8),
        temperature=0.5,
    )


def batch() -> dict[str, Tensor]:
    pairs = [Pairs()[index] for index in range(2)]
    return {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}


class Faulty(nn.Conv2d):
    """A convolution whose result under autocast is of another input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flip(0) if torch.is_autocast_enabled("cpu") else x)


def choose(task: nn.Module) -> tuple[str, list[str]]:
    warnings: list[str] = []
    settings = {"device": "cpu", "dataset": Pairs(), "warn": warnings.append}
    return checked_precision("bf16-mixed", task=task, **settings), warnings  # pyright: ignore[reportArgumentType]


def test_an_untrained_deep_network_trains_in_bfloat16_though_its_gradients_are_all_rounding() -> None:
    task = deep_task()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    assert agreement(task, batch(), device="cpu")[1] < LEAST_COSINE
    assert least_layer_agreement(task, batch(), device="cpu") > LEAST_OF_A_LAYER
    assert choose(task) == ("bf16-mixed", [])
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_a_layer_that_computes_something_else_is_found_in_it() -> None:
    task = deep_task()
    conv = task.backbone.layer3[0].conv2
    task.backbone.layer3[0].conv2 = Faulty(conv.in_channels, conv.out_channels, 3, 2, padding=1, bias=False)
    assert least_layer_agreement(task, batch(), device="cpu") < LEAST_OF_A_LAYER
    chosen, (warning,) = choose(task)
    assert chosen == "32-true" and "bfloat16 computes something else" in warning


def test_a_weight_that_no_layer_of_one_tensor_owns_is_not_trusted() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.matrix = nn.Linear(4, 4), nn.Parameter(torch.ones(4, 4))

        def augment(self, batch: dict) -> dict:
            return batch

        def forward(self, batch: dict) -> dict:
            return {"loss": (self.linear(batch["x"]) @ self.matrix).sum()}

    x = {"x": torch.ones(2, 4)}
    assert least_layer_agreement(Own(), x, device="cpu") == -1
    frozen = Own()
    frozen.matrix.requires_grad_(False)
    assert least_layer_agreement(frozen, x, device="cpu") > LEAST_OF_A_LAYER, "it gets no gradient"
