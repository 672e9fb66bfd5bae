"""The inversion attack: a server that keeps to the rules reads its clients' pictures out of their latents.

It has the clients' part of the network, as every client has, and some pictures of its own. It trains a decoder on the
latents of these and applies it to the latents of its clients. Li et al., ICLR 2023, section 4.1.
Shapes: B pictures, C c h h of a latent, H sides of a picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from fedvssl.data.image_augment import normalize
from fedvssl.split.coding import decode, encode
from fedvssl.split.cut import Front, check_task
from fedvssl.split.decoder import Decoder, nearness
from fedvssl.split.messages import QUERY
from fedvssl.training.loop import seed_torch
from fedvssl.training.precision import choose_device

VALIDATION = 10  # one of so many of the server's own pictures chooses the epoch


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """An attacker.

    Args:
        epochs: of the decoder's training.
        batch_size: pictures of a step.
        lr: of Adam.
        seed: of the decoder's weights and the order of the pictures.
        device: cpu, cuda or auto.
    """

    epochs: int
    batch_size: int
    lr: float
    seed: int
    device: str

    def latents(self, task: Any, pictures: Tensor, *, cut: str, wire_dtype: str, size: int) -> Tensor:
        """Latents of pictures, as they arrive from a client.

        Args:
            task: of the run, with its weights.
            pictures: uint8 [B,H,H,3].
            cut: the client's last stage.
            wire_dtype: of latents, see split/coding.py.
            size: pictures of a client in a step.

        Returns:
            float32 [B,C,h,h], on the device.

        Raises:
            ValueError: if the task cannot be split there.
        """
        check_task(task)
        front = Front(task, cut).backbone.eval().to(device := choose_device(self.device))
        found = []
        shown = normalize(as_floats(pictures), mean=task.views.mean, std=task.views.std)
        for part in shown.split(size):
            with torch.no_grad():
                sent = encode(QUERY, front(part.to(device)).cpu().numpy(), wire_dtype)
            found.append(torch.from_numpy(decode(QUERY, sent, dtype="float32", wire_dtype=wire_dtype)))
        return torch.cat(found).to(device)

    def train(self, latents: Tensor, pictures: Tensor, *, report: Callable[[str], object]) -> Decoder:
        """Train a decoder on the server's own pictures; keeps the epoch with the least error on a tenth of them.

        Args:
            latents: float32 [B,C,h,h].
            pictures: uint8 [B,H,H,3].
            report: gets a line every ten epochs.

        Raises:
            ValueError: if the latents are not 1, 2 or 4 times smaller than the pictures.
        """
        seed_torch((self.seed,))
        decoder = Decoder(latents.shape[1], pictures.shape[1] // latents.shape[-1]).to(latents.device)
        targets, optimizer = as_floats(pictures).to(latents.device), torch.optim.Adam(decoder.parameters(), lr=self.lr)
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(self.seed)).to(latents.device)
        held_out, own = order[: (num := max(1, len(order) // VALIDATION))], order[num:]
        least, best = float("inf"), {}
        for epoch in range(1, self.epochs + 1):
            decoder.train()
            for rows in own[torch.randperm(len(own)).to(own.device)].split(self.batch_size):
                optimizer.zero_grad()
                mse_loss(decoder(latents[rows]), targets[rows]).backward()
                optimizer.step()
            error = float(mse_loss(self.reconstruct(decoder, latents[held_out]), targets[held_out].cpu()))
            if error < least:
                least, best = error, {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
            if epoch % 10 == 0 or epoch == self.epochs:
                report(f"epoch {epoch}/{self.epochs}  validation error {error:.5f}, least {least:.5f}")
        if not best:
            raise ValueError("The decoder's training diverged: lower attacker.lr.")
        decoder.load_state_dict(best)
        return decoder

    @torch.no_grad()
    def reconstruct(self, decoder: Decoder, latents: Tensor) -> Tensor:
        """Pictures of latents: float32 [B,C,h,h] -> [B,3,H,H] in [0,1], on the CPU."""
        decoder.eval()
        return torch.cat([decoder(part) for part in latents.split(self.batch_size)]).cpu()

    def measure(self, pictures: Tensor, reconstructions: Tensor) -> dict[str, Tensor]:
        """ "mse", "ssim" and "psnr" of each picture: uint8 [B,H,H,3] and float [B,3,H,H] -> [B] each."""
        return nearness(as_floats(pictures), reconstructions)


def as_floats(pictures: Tensor) -> Tensor:
    """uint8 [B,H,H,3] -> float32 [B,3,H,H] in [0,1]."""
    return pictures.permute(0, 3, 1, 2).float() / 255
