"""Catch-the-Patch (CtP): Wang et al., CVPR 2021, arXiv 2105.02545.

Patches are cut out of a clip and pasted back along random trajectories. Given the box of each patch in the first frame,
the network predicts its box in every frame.

Read in the order of the data: `CtPSample` (a worker draws everything), `CtP.augment` (the device applies it),
`CtP.forward` (backbone, `CtPHead`, loss).
Shapes: B batch, T frames, H W pixels, P patches, D features. Boxes are x1, y1, x2, y2 in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torch.nn.utils import get_total_norm
from torchvision.ops import roi_align

from fedvssl.data import augment, geometry, sampling
from fedvssl.data.keyframes import random_curve
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.boxes import box_iou, box_targets, center_and_size
from fedvssl.tasks.patches import PatchGenerator, paste_patches
from fedvssl.tasks.task import Batch

PATCH_KEYS = ("boxes", "source", "pasted", "outline", "edge", "opacity")
HEAD_INITS = ("published", "kaiming")
MEASURED_CLIPS = 1000
ROUNDING = math.sqrt(1 / 12)  # standard deviation of an edge in pixels, since boxes are rounded to whole ones


@dataclass(frozen=True, kw_only=True)
class CtPSample:
    """One clip and all its random parameters.

    Args:
        clip_len: T.
        strides: the distance between frames is drawn from these, with jitter.
        short_sides: the short side of the frames is drawn from these, in pixels.
        crop_size: side of the square crop, in pixels.
        flip_prob: probability of mirroring.
        patches: draws the patches.
        hue_prob, hue, saturation: probability; +-hue of 180 steps; factor exp(+-saturation).
        brightness_prob, brightness: probability; curve of +-brightness grey levels.
        contrast_prob, contrast: probability; curve of factors exp(+-contrast).
        colour_key_frame_probs: probability of 0, 1, ... inner key frames of these curves.
    """

    clip_len: int
    strides: Sequence[int]
    short_sides: Sequence[int]
    crop_size: int
    flip_prob: float
    patches: PatchGenerator
    hue_prob: float
    hue: float
    saturation: float
    brightness_prob: float
    brightness: float
    contrast_prob: float
    contrast: float
    colour_key_frame_probs: Sequence[float]

    def __post_init__(self) -> None:
        if self.crop_size > min(self.short_sides):
            sides = list(self.short_sides)
            raise ValueError(f"crop_size={self.crop_size} does not fit into short_sides={sides}: lower crop_size.")

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Decode and crop. Returns uint8 "frames" [T,H,W,3], the patches of `PatchGenerator.draw`, flip and colour."""
        indices = sampling.random_clip(len(video), rng, clip_len=self.clip_len, strides=self.strides, jitter=True)
        short_side = self.short_sides[int(rng.integers(len(self.short_sides)))]
        frames = video.read(indices, geometry.random_crop(short_side, rng, size=self.crop_size))
        patches = self.patches.draw(rng, num_frames=self.clip_len, height=self.crop_size, width=self.crop_size)
        drawn = {"frames": frames, "flip": np.array(rng.random() < self.flip_prob), **patches, **self.draw_colour(rng)}
        return {name: _to_tensor(value) for name, value in drawn.items()}

    def measure(self, rng: np.random.Generator) -> dict[str, list[float]]:
        """Measure settings of `CtP` that the configuration leaves to "auto", on draws of the patches alone.

        Returns:
            "target_stds": root mean square of each target, but at least four times what the rounding of boxes to pixels
            adds to it. Otherwise the loss of small crops, or of patches that keep their size, is mostly rounding.
        """
        size = {"num_frames": self.clip_len, "height": self.crop_size, "width": self.crop_size}
        boxes = torch.from_numpy(np.stack([self.patches.draw(rng, **size)["boxes"] for _ in range(MEASURED_CLIPS)]))
        spread = box_targets(boxes.float())[:, :, 1:].square().mean(dim=(0, 1, 2)).sqrt()
        # A target is a difference between two frames; a centre is the mean of two edges, a size their difference.
        inverse_sizes = center_and_size(boxes.float())[1].reciprocal().mean(dim=(0, 1, 2))
        rounding = ROUNDING * torch.cat([torch.ones(2), 2 * inverse_sizes])
        return {"target_stds": [float(f"{value:.3g}") for value in torch.maximum(spread, 4 * rounding).tolist()]}

    def draw_colour(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Colours: hue_applied bool; hue, saturation float; brightness, contrast float [T], 0 and 1 if not applied."""
        brightness, contrast = np.zeros(self.clip_len), np.ones(self.clip_len)
        curve = {"num_frames": self.clip_len, "key_frame_probs": self.colour_key_frame_probs, "rng": rng}
        if rng.random() < self.brightness_prob:
            brightness = random_curve(lambda n: rng.uniform(-self.brightness, self.brightness, n), **curve)
        if rng.random() < self.contrast_prob:
            contrast = random_curve(lambda n: np.exp(rng.uniform(-self.contrast, self.contrast, n)), **curve)
        return {
            "hue_applied": np.array(rng.random() < self.hue_prob),
            "hue": np.array(rng.uniform(-self.hue, self.hue)),
            "saturation": np.array(np.exp(rng.uniform(-self.saturation, self.saturation))),
            "brightness": brightness,
            "contrast": contrast,
        }


def _to_tensor(value: np.ndarray) -> Tensor:
    """Tensor of an array; float64 becomes float32."""
    tensor = torch.as_tensor(value)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


class CtP(nn.Module):
    """The pretext task around a backbone.

    Args:
        backbone: [B,3,T,H,W] -> [B,D,T/t,H/s,W/s], with `out_channels` D, `temporal_stride` t, `spatial_stride` s.
        clip_len: T, a multiple of t.
        hidden_channels, roi_size, target_stds, head_init: see `CtPHead`.

    Raises:
        ValueError: if the backbone does not tell these numbers, or `clip_len` is no multiple.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        clip_len: int,
        hidden_channels: int,
        roi_size: int,
        target_stds: Sequence[float],
        head_init: str = "published",
    ) -> None:
        super().__init__()
        names = ("out_channels", "temporal_stride", "spatial_stride")
        numbers: list[Any] = [getattr(backbone, name, None) for name in names]
        if not all(isinstance(number, int) for number in numbers):
            raise ValueError(
                f"{type(backbone).__name__} needs the whole numbers {', '.join(names)}: Catch-the-Patch finds the "
                "features of a patch by them."
            )
        out_channels, temporal_stride, spatial_stride = numbers
        if clip_len % temporal_stride:
            raise ValueError(f"task.sample.clip_len={clip_len} must be a multiple of {temporal_stride}.")
        self.backbone = backbone
        self.head = CtPHead(
            out_channels,
            hidden_channels=hidden_channels,
            temporal_size=clip_len // temporal_stride,
            roi_size=roi_size,
            num_frames=clip_len,
            target_stds=target_stds,
            spatial_stride=spatial_stride,
            init=head_init,
        )

    def augment(self, batch: Batch) -> Batch:
        """Batch of `CtPSample` -> "clips" float32 [B,3,T,H,W], "boxes" int64 [B,P,T,4], "index"."""
        frames = torch.cat([self._augment(part) for part in augment.parts(batch)])
        return {"clips": augment.normalize(frames), "boxes": batch["boxes"], "index": batch["index"]}

    def _augment(self, batch: Batch) -> Tensor:
        frames = augment.flip(batch["frames"], batch["flip"])
        frames = paste_patches(frames, **{name: batch[name] for name in PATCH_KEYS})
        frames = augment.hue_saturation(
            frames, flags=batch["hue_applied"], hue=batch["hue"], saturation=batch["saturation"]
        )
        return augment.contrast(augment.brightness(frames, batch["brightness"]), batch["contrast"])

    def forward(self, batch: Batch) -> Batch:
        """Scalars: "loss" = "loss_ctr" + "loss_size", "iou" of the predicted boxes, "iou_still" of the first one."""
        # Boxes become float only here: mixed precision rounds the floating-point inputs of a module.
        boxes = batch["boxes"].float()
        queries = boxes[:, :, 0]
        predictions = self.head(self.backbone(batch["clips"]), queries)
        losses = self.head.loss(predictions, boxes)
        with torch.no_grad():
            iou = box_iou(self.head.predict_boxes(predictions, queries), boxes).mean()
            iou_still = box_iou(boxes[:, :, :1], boxes).mean()
        return {"loss": losses["loss_ctr"] + losses["loss_size"], **losses, "iou": iou, "iou_still": iou_still}

    def trivial(self, batch: Batch) -> Batch:
        """Loss of "the patch stands still", which needs no picture: scalar "still"."""
        boxes = batch["boxes"].float()
        losses = self.head.loss(torch.zeros_like(boxes), boxes)
        return {"still": losses["loss_ctr"] + losses["loss_size"]}

    def health(self) -> Batch:
        """Scalars of the last step: "active_share" of the head's hidden layer, and "backbone_grad_norm" (L2)."""
        gradients = [weight.grad for weight in self.backbone.parameters() if weight.grad is not None]
        return {"active_share": self.head.active_share, "backbone_grad_norm": get_total_norm(gradients)}


class CtPHead(nn.Module):
    """Predicts the box of a patch in every frame from its box in the first frame.

    Args:
        in_channels: D of the features.
        hidden_channels: of the temporal convolution and the hidden layer.
        temporal_size: T of the features, which the convolution reduces to 1.
        roi_size: a box is pooled to this many bins per side.
        num_frames: T of the clip.
        target_stds: standard deviations that the targets are divided by: centre x, y in pixels, log width, log height.
        spatial_stride: pixels per feature.
        init: "published": both linear layers normal with a standard deviation of .001, which SGD survives. "kaiming":
            the hidden layer as usual for a ReLU, the last one with .01; it passes a larger gradient to the backbone,
            and its ReLUs do not die under AdamW.

    Attributes:
        active_share: fraction of positive units of the hidden layer in the last forward pass, a scalar.
    """

    target_stds: Tensor
    active_share: Tensor

    def __init__(
        self,
        in_channels: int,
        *,
        hidden_channels: int,
        temporal_size: int,
        roi_size: int,
        num_frames: int,
        target_stds: Sequence[float],
        spatial_stride: int = 8,
        init: str = "published",
    ) -> None:
        super().__init__()
        if isinstance(target_stds, str):
            raise ValueError(f"task.module.target_stds={target_stds}: fedvssl.main measures it, others need numbers.")
        if len(target_stds) != 4 or not all(number > 0 for number in target_stds):
            raise ValueError(f"task.module.target_stds={list(target_stds)} must be four numbers above 0.")
        if init not in HEAD_INITS:
            raise ValueError(f"task.module.head_init={init} must be one of {', '.join(HEAD_INITS)}.")
        self.temporal_conv = nn.Conv3d(in_channels, hidden_channels, (temporal_size, 1, 1))
        self.fc1 = nn.Linear(hidden_channels * roi_size**2, hidden_channels)
        self.pred_head = nn.Linear(hidden_channels, num_frames * 4)
        self.roi_size, self.spatial_stride = roi_size, spatial_stride
        # Not persistent: the published checkpoints do not hold it.
        self.register_buffer("target_stds", torch.tensor(target_stds), persistent=False)
        nn.init.kaiming_normal_(self.temporal_conv.weight, mode="fan_out", nonlinearity="relu")
        if init == "kaiming":
            nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        else:
            nn.init.normal_(self.fc1.weight, std=0.001)
        nn.init.normal_(self.pred_head.weight, std=0.01 if init == "kaiming" else 0.001)
        for layer in (self.temporal_conv, self.fc1, self.pred_head):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        """features [B,D,T/8,h,w], boxes of the first frame [B,P,4] -> normalised targets [B,P,T,4], float32."""
        features = torch.relu(self.temporal_conv(features).squeeze(2))
        # In float32 also under autocast: it costs little here, and bfloat16 would round a target of 100 coarsely.
        with torch.autocast(features.device.type, enabled=False):
            pooled = roi_align(
                features.float().contiguous(),
                list(queries.unbind()),
                output_size=self.roi_size,
                spatial_scale=1 / self.spatial_stride,
                sampling_ratio=2,
                aligned=True,
            )
            hidden = torch.relu(self.fc1(pooled.flatten(1)))
            self.active_share = (hidden.detach() > 0).float().mean()
            predictions = self.pred_head(hidden)
        return predictions.view(*queries.shape[:2], -1, 4)

    def loss(self, predictions: Tensor, boxes: Tensor, weights: Tensor | None = None) -> Batch:
        """Smooth L1 (beta 1) on normalised targets, per weighted frame, separately for centre and size.

        Args:
            predictions: [B,P,T,4]. boxes: true boxes [B,P,T,4]. weights: of frames [B,P,T], all ones if None.
        """
        difference = smooth_l1_loss(predictions, box_targets(boxes) / self.target_stds, reduction="none")
        if weights is None:
            weights = torch.ones_like(boxes[..., 0])
        difference = difference * weights.unsqueeze(-1)
        count = weights.sum().clamp(min=1)
        return {"loss_ctr": difference[..., :2].sum() / count, "loss_size": difference[..., 2:].sum() / count}

    def predict_boxes(self, predictions: Tensor, queries: Tensor) -> Tensor:
        """Normalised targets [B,P,T,4] and boxes of the first frame [B,P,4] -> boxes [B,P,T,4] in pixels."""
        center, size = center_and_size(queries.unsqueeze(2))
        deltas = predictions * self.target_stds
        center = center + deltas[..., :2]
        half = torch.exp(deltas[..., 2:]) * size / 2
        return torch.cat([center - half, center + half], dim=-1)
