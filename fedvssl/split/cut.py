"""A network cut in two after one of its stages: the client's part, and the server's.

Names of state entries stay those of the whole task, so the two parts together are its state again.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

DEEP = 3  # stages of a client from which on averaging the followers is needed, as published


class Front(nn.Module):
    """The client's part of a task: the first stages of its backbone, and of the network that follows it.

    Args:
        task: with `backbone` and `key_encoder.backbone`; its modules are taken, not copied.
        at: name of the client's last stage.

    Raises:
        ValueError: if it cannot be cut there.
    """

    def __init__(self, task: Any, at: str) -> None:
        super().__init__()
        self.backbone, _ = halves(task.backbone, at)
        self.key_encoder = nn.Module()
        self.key_encoder.backbone, _ = halves(task.key_encoder.backbone, at)
        self.key_encoder.requires_grad_(False)

    @property
    def follower(self) -> nn.Sequential:
        """Stages of the network that follows."""
        return self.key_encoder.get_submodule("backbone")  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def latent_shape(self, view: Sequence[int]) -> tuple[int, ...]:
        """Shape [C,(t,)h,w] of the latents of a view [3,(T,)H,W], from a blank one; no statistics move.

        Raises:
            ValueError: if the stages take no such view.
        """
        stages = copy.deepcopy(self.backbone).eval()
        try:
            return tuple(stages(torch.zeros(1, *view)).shape[1:])
        except RuntimeError as error:
            raise ValueError(
                f"The model takes no views of the shape {tuple(view)}: choose task and model for one medium, such as "
                "task=mocosfl model=split_resnet18 for pictures or task=mocosfl_clips model=r3d18 for clips."
            ) from error


def keep_rest(task: Any, at: str) -> None:
    """Leave a task the server's part of its backbone, and of the network that follows it.

    Raises:
        ValueError: if the task makes no loss of latents, or its backbone cannot be cut there.
    """
    check_task(task)
    _, task.backbone = halves(task.backbone, at)
    _, task.key_encoder.backbone = halves(task.key_encoder.backbone, at)


def check_task(task: Any) -> None:
    """Reject a task whose loss needs more than the latents of two views.

    Raises:
        ValueError: naming it.
    """
    if not hasattr(task, "on_latents"):
        raise ValueError(
            f"{type(task).__name__} cannot be split: its loss needs more than the latents of two views. Choose "
            "task=mocosfl for pictures or task=mocosfl_clips for clips."
        )


def halves(backbone: nn.Module, at: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Stages of a backbone up to the one called `at`, and those behind it. The modules are shared, not copied.

    Raises:
        ValueError: if the backbone is no chain of stages, or has no stage of this name with another one behind it.
    """
    if not getattr(backbone, "is_chain", False):
        raise ValueError(
            f"{type(backbone).__name__} cannot be cut: its forward pass is not its stages one after the other. Choose "
            "model=split_resnet18 for pictures or model=r3d18 for clips."
        )
    stages = list(backbone.named_children())
    names = [name for name, _ in stages]
    if at not in names[:-1]:
        raise ValueError(
            f"strategy.cut={at} lies outside of the network: the client's last stage may be {', '.join(names[:-1])}."
        )
    parts = nn.Sequential(), nn.Sequential()
    for position, (name, stage) in enumerate(stages):
        parts[position > names.index(at)].add_module(name, stage)
    return parts


def averages_followers(setting: bool | None, front: Front) -> bool:
    """Tell if the networks that follow the clients' are averaged; None: if the clients hold DEEP stages or more."""
    names = [name for name, _ in front.backbone.named_children() if name != "narrow"]  # a bottleneck is no stage
    return len(names) >= DEEP if setting is None else setting
