"""TAResSFL: an expert whose latents an attacker cannot invert (Li et al., ICLR 2023, section 3.3).

Before the federation a server trains the whole network on pictures of its own against a simulated attacker; the
clients' part then goes to the clients, frozen. Each list of the run is a part of the server's pictures and gives an
equal share of each step: one of source pictures, and one of the few target pictures it has.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.files.arrays import Arrays
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.split.decoder import Decoder, ssim
from fedvssl.split.mocosfl import MocoSFL
from fedvssl.split.optimizer import fresh_state
from fedvssl.split.server import BuildOptimizer
from fedvssl.training.loop import seed_torch
from fedvssl.training.optimizer import load_state, state_arrays
from fedvssl.training.schedule import scale_lr

PREFIX = "attacker/"


class Attacker:
    """A decoder that learns beside the network, and the gradient that makes its work harder.

    Args:
        decoder: of the latents.
        lr: of its Adam.
        target_ssim: nearness of its pictures that is tolerated.
        weight: of what lies above it.
    """

    def __init__(self, decoder: Decoder, *, lr: float, target_ssim: float, weight: float) -> None:
        self.decoder, self.target_ssim, self.weight = decoder, target_ssim, weight
        self._build = lambda module: torch.optim.Adam(module.parameters(), lr=lr)
        self.optimizer = self._build(decoder)
        self.steps = load_state(self.optimizer, decoder, fresh_state(self._build, decoder))

    def step(self, latents: Tensor, pictures: Tensor, *, lr_factor: float) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Let the attacker learn from the latents, then tell what would make its pictures worse.

        Args:
            latents: float [B,C,h,h].
            pictures: that they are of, [B,3,H,H] in [0,1].
            lr_factor: of the attacker's learning rate.

        Returns:
            Gradient of the privacy loss for the latents, None if the attacker's pictures are bad enough; and scalars
            "attacker_ssim" before its step and "ssim" after it.
        """
        self.decoder.train()
        scale_lr(self.optimizer, lr_factor)
        before = ssim(self.decoder(latents.detach()), pictures).mean()
        self.optimizer.zero_grad()
        (-before).backward()
        self.optimizer.step()
        self.steps += 1
        self.decoder.eval()
        latents = latents.detach().requires_grad_()
        after = ssim(self.decoder(latents), pictures).mean()
        gradient = None
        if float(after.detach()) > self.target_ssim:
            (gradient,) = torch.autograd.grad(self.weight * (after - self.target_ssim), latents)
        return gradient, {"attacker_ssim": before.detach(), "ssim": after.detach()}

    def arrays(self) -> Arrays:
        state = to_arrays(self.decoder) | state_arrays(self.optimizer, self.decoder, steps=self.steps)
        return {PREFIX + name: np.array(array) for name, array in state.items()}

    def load(self, arrays: Arrays) -> None:
        """Load what `arrays` gave; {} changes nothing."""
        own = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        names = self.decoder.state_dict().keys()
        load_arrays_into(self.decoder, {name: array for name, array in own.items() if name in names})
        self.steps = load_state(self.optimizer, self.decoder, own) or self.steps


class Expert(MocoSFL):
    """Training of the expert: MocoSFL whose clients are one, with an attacker beside.

    The parts of one logical client stay equal: they are averaged after every step, and each gets its gradient times
    their number, so that the mean of their steps of SGD is the step of one.

    Args:
        target_ssim, privacy_weight: as of `Attacker`; a weight of 0 trains an undefended control.
        attacker_lr: of the attacker's Adam.
        attacker_steps: rounds after which that is multiplied by a fifth.
        mocosfl: arguments of `MocoSFL`, those about rounds, `cut` and `device`.
    """

    least_clients, wants_views = 1, True

    def __init__(
        self,
        *,
        target_ssim: float,
        privacy_weight: float,
        attacker_lr: float,
        attacker_steps: list[int],
        **mocosfl: Any,
    ) -> None:
        parts = {"frozen": False, "average_momentum": False, "syncs_per_round": 1, "steps_per_message": 1}
        super().__init__(**mocosfl, **parts, wire_dtype="float32")  # pyright: ignore[reportArgumentType]
        self.privacy = {"lr": attacker_lr, "target_ssim": target_ssim, "weight": privacy_weight}
        self.attacker_steps = attacker_steps

    def build_half(self, task: Any, build_optimizer: BuildOptimizer, *, seed: int) -> None:
        """Build the server's part, and an attacker on the latents that the clients' part makes.

        Raises:
            ValueError: for videos, which the attacker's decoder does not draw.
        """
        if len(self.latent_shape) != 3:
            raise ValueError(
                "An expert is trained against an attacker on pictures: take task=mocosfl, not one of clips."
            )
        channels, side = self.latent_shape[0], self.latent_shape[-1]
        super().build_half(task, build_optimizer, seed=seed)
        seed_torch((seed, 1))
        decoder = Decoder(channels, task.views.crop_size // side).to(self.device, self.dtype)
        self.attacker = Attacker(decoder, **self.privacy)

    def check_network(self, examples: Mapping[int, int], *, rounds: int) -> None:
        """Refuse every network: the attacker learns from the pictures themselves."""
        raise ValueError(
            "Pictures leave no client: an expert is trained on the server's own, in one process with engine=local."
        )

    def syncs(self, num_steps: int) -> set[int]:
        """After every step."""
        return set(range(1, num_steps + 1))

    def state(self) -> Arrays:
        return super().state() | self.attacker.arrays()

    def restore(self, state: Arrays, shared: Arrays) -> None:
        own = {name: array for name, array in state.items() if name.startswith(PREFIX)}
        super().restore({name: array for name, array in state.items() if name not in own}, shared)
        self.attacker.load(own)

    def gradient_for(
        self, gradient: Tensor, query: Tensor, views: Tensor, *, clients: int, server_round: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the attacker's gradient to that of the loss, for parts that are averaged.

        Args:
            gradient: of the contrastive loss, [B,C,h,h].
            query: latents, [B,C,h,h].
            views: that they are of, normalised, [B,3,H,H].
        """
        own = self.server.task.views
        mean, std = (torch.tensor(values, device=views.device).view(3, 1, 1) for values in (own.mean, own.std))
        pictures = (views * std + mean).clamp(0, 1).to(query.dtype)
        factor = 0.2 ** sum(server_round > after for after in self.attacker_steps)
        privacy, told = self.attacker.step(query, pictures, lr_factor=factor)
        return (gradient if privacy is None else gradient + privacy) * clients, told
