"""Objects of pictures from a box around each: the mask decoder of a Segment-Anything model learns, its base is frozen.

This is what bthndmn12/fedsam calls FedSAM, Segment-Anything in a federation; the literature means sharpness-aware
minimisation by that name. Read in the order of the data: `Prompts` opens a picture and draws objects and boxes,
`Segment.augment` normalises, `Segment.forward` compares masks at the decoder's low resolution. `AllObjects` and
`Segment.predict` are for the test, at the resolution of the picture.
Shapes: B pictures, O objects of each, H W pixels of a picture, S side of what the encoder gets, m side of its masks.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from fedvssl.data.image import longest_side, padded, read_picture
from fedvssl.data.masks import Objects, filled, low_resolution, read_objects, tight_box, widened
from fedvssl.tasks.embeddings import Embeddings
from fedvssl.tasks.task import Batch

SMOOTHING = 1e-5  # of the Dice loss
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of SAM's processor
AT_A_TIME = 16  # masks that a test brings to the resolution of a picture at once


class _Pictures:
    """What both Samples share.

    Args:
        side: S, pixels that the longest side of a picture is resized to.
        patch_size: of the image encoder, in pixels.
        max_shift: largest distance, in pixels of the picture, by which a side of a box is moved outwards.

    Raises:
        ValueError: if the side is no multiple of the patches.
    """

    def __init__(self, *, side: int, patch_size: int, max_shift: int) -> None:
        if side % patch_size:
            raise ValueError(f"task.sample: side={side} must be a multiple of patch_size={patch_size}.")
        self.side, self.mask_side, self.max_shift = side, 4 * side // patch_size, max_shift

    def open(self, path: Path) -> tuple[Objects, Batch]:
        """Objects of a picture, and what the encoder gets: "picture" uint8 [S,S,3], "size" int64 [2], "key" uint8 [16].

        Raises:
            ValueError: if the picture or its objects cannot be read, or are not of one size.
        """
        picture, objects = read_picture(path), read_objects(path)
        if picture.shape[:2] != objects.numbers.shape:
            raise ValueError(f"{path} and its objects have other sizes: prepare them again with data_tools.masks.")
        small = longest_side(picture, self.side)
        square = padded(small, self.side)
        # Two contents with one square are one input, so the square is the content.
        key = hashlib.blake2b(square.tobytes() + str(small.shape).encode(), digest_size=16).digest()
        return objects, {
            "picture": torch.from_numpy(square),
            "size": torch.tensor(small.shape[:2]),
            "key": torch.from_numpy(np.frombuffer(key, np.uint8).copy()),
        }

    def boxes(self, objects: Objects, chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Boxes of objects in pixels of the picture, int [O,4], and of the square, float32 [O,4]."""
        height, width = objects.numbers.shape
        shifts = rng.integers(0, self.max_shift + 1, (len(chosen), 4))
        drawn = np.array(
            [
                widened(tight_box(objects.mask(int(number))), own, height=height, width=width)
                for number, own in zip(chosen, shifts, strict=True)
            ]
        )
        factor = self.side / max(height, width)
        return drawn, torch.from_numpy((drawn * factor).astype(np.float32))


class Prompts(_Pictures):
    """Sample of training: some objects of a picture, each with a box around it.

    Args:
        num_boxes: O. A picture with fewer objects repeats them, each time with a box of its own.
        pictures: `side`, `patch_size`, `max_shift`.
    """

    def __init__(self, *, num_boxes: int, **pictures: int) -> None:
        super().__init__(**pictures)
        self.num_boxes = num_boxes

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """What `open` gives, "boxes" float32 [O,4] in pixels of the square, and "masks" uint8 [O,m,m] of 0 and 1."""
        objects, batch = self.open(path)
        order = 1 + rng.permutation(len(objects))
        chosen = np.resize(order, self.num_boxes)
        _, boxes = self.boxes(objects, chosen, rng)
        masks = [low_resolution(objects.mask(int(number)), self.mask_side) for number in chosen]
        return {**batch, "boxes": boxes, "masks": torch.from_numpy(np.stack(masks))}


class AllObjects(_Pictures):
    """Sample of the test: every object of a picture, and the picture itself. A batch holds one picture."""

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """What `open` gives, "boxes" as `Prompts`, and "drawn" int64 [O,4], the same in pixels of the picture.

        Also "numbers" int32 [H,W], the object of each pixel, from 1, and "classes" int64 [O].
        """
        objects, batch = self.open(path)
        drawn, boxes = self.boxes(objects, 1 + np.arange(len(objects)), rng)
        own = {"numbers": objects.numbers, "classes": objects.classes, "drawn": drawn}
        return {**batch, "boxes": boxes, **{name: torch.from_numpy(array) for name, array in own.items()}}


def dice_and_bce(logits: Tensor, masks: Tensor) -> Batch:
    """Sum of a soft Dice loss with squares in its denominator and the binary cross-entropy, each a mean over masks.

    Args:
        logits: float [N,h,w].
        masks: 0 or 1, float [N,h,w].

    Returns:
        scalars "loss", "dice_loss" and "bce_loss".
    """
    logits = logits.float()
    bce = binary_cross_entropy_with_logits(logits, masks)
    return {"loss": (dice := dice_loss(logits.sigmoid(), masks)) + bce, "dice_loss": dice, "bce_loss": bce}


def dice_loss(shares: Tensor, masks: Tensor) -> Tensor:
    """1 - (2 sum p y + s) / (sum p^2 + sum y^2 + s) as a mean over masks; p and y float [N,h,w], s = 1e-5."""
    both = 2 * (shares * masks).sum(dim=(1, 2)) + SMOOTHING
    return (1 - both / (shares.square().sum(dim=(1, 2)) + masks.square().sum(dim=(1, 2)) + SMOOTHING)).mean()


class Segment(nn.Module):
    """The task around a Segment-Anything model, whose parts it holds under their own names.

    Args:
        backbone: the model, see `fedvssl.models.sam.Sam`.
        cache_dir: folder for the embeddings of pictures, which the frozen encoder computes once; null for none.

    Raises:
        ValueError: if embeddings are to be kept of an encoder that learns.
    """

    mean: Tensor
    std: Tensor
    vision_encoder: nn.Module

    def __init__(self, backbone: Any, *, cache_dir: str | None) -> None:
        super().__init__()
        if cache_dir is not None and backbone.is_adapted:
            raise ValueError(
                "task.module.cache_dir keeps embeddings of a frozen encoder, and model.lora.rank lets it learn: set "
                "task.module.cache_dir=null or model.lora.rank=0."
            )
        for name, part in backbone.named_children():
            self.add_module(name, part)
        self._sam = (backbone,)  # in a tuple, so that its arrays have one name each
        self.embeddings = Embeddings(None if cache_dir is None else Path(cache_dir).expanduser())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    @property
    def sam(self) -> Any:
        return self._sam[0]

    def start_round(self) -> None:
        """Other weights may have arrived for the encoder."""
        self.embeddings.forget()

    def augment(self, batch: Batch) -> Batch:
        """Make "pixels", float32 [B,3,S,S]: normalised, and 0 outside of each picture."""
        sides = {"picture": self.sam.side, **({"masks": self.sam.mask_side} if "masks" in batch else {})}
        for name, side in sides.items():
            if batch[name].shape[2] != side:
                raise ValueError(
                    f"{name} of {batch[name].shape[2]} pixels, and this model has {side}: set side={self.sam.side} and "
                    f"patch_size={4 * self.sam.side // self.sam.mask_side} of the sample."
                )
        pixels = (batch["picture"].permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        place = torch.arange(pixels.shape[-1], device=pixels.device)
        inside = (place[None, :, None] < batch["size"][:, 0, None, None]) & (
            place[None, None] < batch["size"][:, 1, None, None]
        )
        return {**batch, "pixels": pixels * inside[:, None]}

    def forward(self, batch: Batch) -> Batch:
        """Scalars of `dice_and_bce`, and "mask_iou", the mean overlap with the true masks at this resolution."""
        logits = self.decode(batch).flatten(0, 1)
        masks = batch["masks"].flatten(0, 1)
        with torch.no_grad():
            guessed, true = logits > 0, masks > 0
            either = (guessed | true).sum(dim=(1, 2)).clamp(min=1)
            iou = ((guessed & true).sum(dim=(1, 2)) / either).mean()
        return {**dice_and_bce(logits, masks.float()), "mask_iou": iou}

    def decode(self, batch: Batch) -> Tensor:
        """Logits of the masks, float32 [B,O,m,m]."""
        embeddings = self.embeddings.of(batch, self.sam.embed, self.vision_encoder)
        return self.sam.decode(embeddings, batch["boxes"])

    def trivial(self, batch: Batch) -> Batch:
        """Loss of the filled boxes: scalar "filled_box".

        Their pixels have the share of the objects in all boxes of the batch as their probability, all others nearly 0.
        """
        masks = batch["masks"].flatten(0, 1).float()
        inside = self._boxes(batch["boxes"].flatten(0, 1), masks)
        share = (masks * inside).sum() / inside.sum().clamp(min=1)
        guess = (inside * share).clamp(1e-3, 1 - 1e-3)
        bce = -(masks * guess.log() + (1 - masks) * (1 - guess).log()).mean()
        return {"filled_box": dice_loss(guess, masks) + bce}

    def _boxes(self, boxes: Tensor, masks: Tensor) -> Tensor:
        """Boxes in pixels of the square, [N,4], as masks, float32 [N,m,m]."""
        scaled = boxes * (masks.shape[-1] / self.sam.side)
        place = torch.arange(masks.shape[-1], device=masks.device) + 0.5
        x0, y0, x1, y1 = scaled.unbind(dim=1)
        across = (place >= x0.floor()[:, None]) & (place <= x1.ceil()[:, None])
        down = (place >= y0.floor()[:, None]) & (place <= y1.ceil()[:, None])
        return (down[:, :, None] & across[:, None]).float()

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """Every object of one picture at its own resolution, from a batch of `AllObjects`, augmented.

        Returns:
            For each object "class" (from 1), "iou", "dice", "box_iou" and "box_dice" (of the filled box in place of the
            mask), "box" [4] in pixels, and "mask" bool [H,W].
        """
        logits, numbers = self.decode(batch)[0], batch["numbers"][0]
        height, width = numbers.shape
        rows = []
        for start in range(0, len(logits), AT_A_TIME):
            masks = self._at_resolution(logits[start : start + AT_A_TIME], batch["size"][0], (height, width))
            for number, mask in enumerate(masks.cpu().numpy(), start=start + 1):
                true, box = (numbers == number).cpu().numpy(), batch["drawn"][0, number - 1].tolist()
                overlaps = {"": overlap(mask, true), "box_": overlap(filled(box, height=height, width=width), true)}
                row = {f"{kind}{name}": value for kind, own in overlaps.items() for name, value in own.items()}
                rows.append({"class": int(batch["classes"][0, number - 1]), **row, "box": box, "mask": mask})
        return rows

    def _at_resolution(self, logits: Tensor, size: Tensor, shape: tuple[int, int]) -> Tensor:
        """Masks of a picture, bool [O,H,W], of their logits [O,m,m]: to the square, without its padding, to [H,W]."""
        square = interpolate(logits[None], (self.sam.side,) * 2, mode="bilinear", align_corners=False)
        own = square[..., : int(size[0]), : int(size[1])]
        return interpolate(own, shape, mode="bilinear", align_corners=False)[0] > 0


def overlap(mask: np.ndarray, true: np.ndarray) -> Mapping[str, float]:
    """ "iou" and "dice" of a mask and the true one, both bool [H,W]; the true one must not be empty."""
    both, pixels = int((mask & true).sum()), int(mask.sum()) + int(true.sum())
    return {"iou": both / (pixels - both), "dice": 2 * both / pixels}
