"""Moving patches of Catch-the-Patch (arXiv 2105.02545), drawn at random and pasted into a clip.

A worker draws a patch as numbers (`PatchGenerator`): its box in every frame, the frame it is cut from, its outline and
its opacity. The device cuts out, resizes and blends the patches of a batch (`paste_patches`).
Shapes: B batch, P patches, T frames, H W pixels. Boxes are x1, y1, x2, y2 in whole pixels, x2 and y2 exclusive.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from fedvssl.data.geometry import resize_to
from fedvssl.data.keyframes import interpolate, sample_easings, sample_key_frames
from fedvssl.data.sampling import draw_index

RECTANGLE, ELLIPSE, RHOMBUS = range(3)
OUTLINE_PROBS = (0.5, 0.35, 0.15)
SOFT_EDGE_PROB = 0.5
SOFT_EDGE_WIDTHS = (0.05, 0.20)  # as a fraction of the patch
OPACITIES = (0.8, 1.0)


# (value, number of frames) -> the value that many frames later.
Step = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PatchGenerator:
    """Draws the patches of one clip.

    Args:
        num_patches: P.
        scales, ratios: choices, before jitter, of the square root of a patch's area in pixels and of width over height.
        scale_jitter: each side is multiplied by exp(u), u uniform in +-scale_jitter.
        key_frame_probs: probability of 0, 1, 2, ... inner key frames of a trajectory.
        loc_velocity: largest movement of the centre, in pixels per frame and axis.
        size_velocity: largest change of the logarithm of a side per frame.
        paste_prob: probability of a frame to get the patch; the first and the one it was cut from always get it.
    """

    num_patches: int
    scales: Sequence[float]
    ratios: Sequence[float]
    scale_jitter: float
    key_frame_probs: Sequence[float]
    loc_velocity: float
    size_velocity: float
    paste_prob: float

    def draw(self, rng: np.random.Generator, *, num_frames: int, height: int, width: int) -> dict[str, np.ndarray]:
        """Draw all patches of a clip, in the order of pasting.

        Returns:
            boxes int64 [P,T,4]; source int64 [P], the frame a patch is cut from; pasted bool [P,T]; outline int64 [P];
            edge float [P], width of the soft edge, 0 for a hard one; opacity float [P,T].
        """
        boxes = self.trajectories(self.start_boxes(rng, height=height, width=width), rng, num_frames, height, width)
        boxes = to_pixels(boxes, height=height, width=width)
        boxes = boxes[paste_order(boxes)]
        count = self.num_patches
        source = rng.integers(0, num_frames, size=count)
        pasted = rng.random((count, num_frames)) <= self.paste_prob
        pasted[:, 0] = True
        pasted[np.arange(count), source] = True
        soft = rng.random(count) < SOFT_EDGE_PROB
        return {
            "boxes": boxes,
            "source": source,
            "pasted": pasted,
            "outline": np.array([draw_index(OUTLINE_PROBS, rng) for _ in range(count)]),
            "edge": np.where(soft, rng.uniform(*SOFT_EDGE_WIDTHS, size=count), 0.0),
            "opacity": np.stack([self._opacity(rng, num_frames) for _ in range(count)]),
        }

    def start_boxes(self, rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
        """Boxes in the first frame, inside the image: float64 [P,4]."""
        roots = np.sqrt(np.take(self.ratios, rng.integers(len(self.ratios), size=self.num_patches)))
        scales = np.take(self.scales, rng.integers(len(self.scales), size=self.num_patches))
        sizes = np.stack([scales * roots, scales / roots], axis=1)
        sizes *= np.exp(rng.uniform(-self.scale_jitter, self.scale_jitter, size=sizes.shape))
        image = np.array([width, height])
        sizes = np.clip(sizes, 1, image - 1)
        corners = rng.uniform(0, image - sizes)
        return np.concatenate([corners, corners + sizes], axis=1)

    def trajectories(
        self, boxes: np.ndarray, rng: np.random.Generator, num_frames: int, height: int, width: int
    ) -> np.ndarray:
        """Move and resize boxes [P,4] over the clip: float64 [P,T,4], clipped to the image.

        Key frames and easing are drawn once per clip for places and once for sizes, displacements and size factors per
        patch and axis. At key frames a box of the first frame's size stays inside the image.
        """
        sizes = boxes[:, 2:] - boxes[:, :2]
        lowest, highest = sizes / 2, np.array([width, height]) - sizes / 2

        def step_center(center: np.ndarray, frames: int) -> np.ndarray:
            reach = self.loc_velocity * frames
            return np.clip(center + rng.uniform(-reach, reach, size=center.shape), lowest, highest)

        def step_size(size: np.ndarray, frames: int) -> np.ndarray:
            reach = self.size_velocity * frames
            return size * np.exp(rng.uniform(-reach, reach, size=size.shape))

        centers = self._walk(boxes[:, :2] + sizes / 2, step_center, rng, num_frames)
        sizes = self._walk(sizes, step_size, rng, num_frames)
        moved = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=2)
        return np.clip(moved, 0, [width, height, width, height]).transpose(1, 0, 2)

    def _walk(self, start: np.ndarray, step: Step, rng: np.random.Generator, num_frames: int) -> np.ndarray:
        """Apply `step(value, frames)` from key frame to key frame and interpolate: [P,2] -> [T,P,2]."""
        key_frames = sample_key_frames(num_frames, self.key_frame_probs, rng)
        values = [start]
        for frames in np.diff(key_frames):
            values.append(step(values[-1], int(frames)))
        return interpolate(np.stack(values), key_frames, sample_easings(key_frames, rng))

    def _opacity(self, rng: np.random.Generator, num_frames: int) -> np.ndarray:
        """Opacity of one patch in every frame: [T]."""
        key_frames = sample_key_frames(num_frames, self.key_frame_probs, rng)
        values = rng.uniform(*OPACITIES, size=len(key_frames))
        return interpolate(values, key_frames, ["uniform"] * (len(key_frames) - 1))


def to_pixels(boxes: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Round boxes [...,4] half to even, keep them inside the image and at least one pixel wide and high: int64."""
    rounded = np.round(boxes).astype(np.int64)
    image = np.array([width, height])
    corners = np.clip(rounded[..., :2], 0, image - 1)
    return np.concatenate([corners, np.clip(rounded[..., 2:], corners + 1, image)], axis=-1)


def paste_order(boxes: np.ndarray) -> np.ndarray:
    """Order of pasting, large patches first, so that they hide no small one: int [P,T,4] -> int64 [P]."""
    sizes = (boxes[..., 2:] - boxes[..., :2]).mean(axis=1)
    return np.argsort(sizes.prod(axis=1))[::-1].copy()


def paste(frames: Tensor, patch: Tensor, alpha: Tensor) -> Tensor:
    """Blend one patch into every frame: frames * (1 - alpha) + patch * alpha.

    Computes in the wider dtype and returns the dtype of `frames`. With uint8 frames and float64 alphas this is the
    published arithmetic, which truncates after each patch. Training uses float32 throughout.

    Args:
        frames, patch: [...,H,W,3]; `patch` may be anything where alpha is 0.
        alpha: [...,H,W,1] in 0..1, 0 outside the patch.
    """
    return (frames * (1 - alpha) + patch * alpha).to(frames.dtype)


def paste_patches(
    frames: Tensor,
    *,
    boxes: Tensor,
    source: Tensor,
    pasted: Tensor,
    outline: Tensor,
    edge: Tensor,
    opacity: Tensor,
) -> Tensor:
    """Cut all patches out of the clips and paste them one after the other.

    On a GPU whole frames are blended in batches. On a CPU only the far fewer pixels in the boxes are blended.

    Args:
        frames: uint8 [B,T,H,W,3].
        boxes: int64 [B,P,T,4]. source, outline: int64 [B,P]. pasted: bool [B,P,T]. edge: float32 [B,P].
        opacity: float32 [B,P,T]. See `PatchGenerator.draw`.

    Returns:
        float32 [B,T,H,W,3]. The two ways agree within a hundredth of a grey level.
    """
    every_clip = torch.arange(len(frames), device=frames.device).unsqueeze(1)
    cuts = frames[every_clip, source].float()  # [B,P,H,W,3]
    source_boxes = boxes[every_clip, torch.arange(boxes.shape[1], device=frames.device), source]  # [B,P,4]
    masks = patch_mask(source_boxes, outline=outline, edge=edge, height=frames.shape[2], width=frames.shape[3])
    frames = frames.float()
    if frames.is_cuda:
        layers, alphas = render_patches(cuts, masks, source_boxes, boxes=boxes, pasted=pasted, opacity=opacity)
        for layer, alpha in zip(layers.unbind(1), alphas.unbind(1), strict=True):
            frames = paste(frames, layer, alpha)
    else:
        for clip, patch in np.ndindex(*source.shape):
            one = {"boxes": boxes[clip, patch], "pasted": pasted[clip, patch], "opacity": opacity[clip, patch]}
            x1, y1, x2, y2 = source_boxes[clip, patch].tolist()
            cut, mask = cuts[clip, patch, y1:y2, x1:x2], masks[clip, patch, y1:y2, x1:x2]
            paste_in_boxes(frames[clip].numpy(), cut.numpy(), mask.numpy(), **one)
    return frames


def paste_in_boxes(
    frames: np.ndarray, cut: np.ndarray, mask: np.ndarray, *, boxes: Tensor, pasted: Tensor, opacity: Tensor
) -> None:
    """Paste one patch into one clip, in place: `render_patches` and `paste` for the pixels in the boxes alone.

    Args:
        frames: float32 [T,H,W,3].
        cut, mask: the patch and its outline, float32 [h,w,3] and [h,w,1].
        boxes: int64 [T,4]. pasted: bool [T]. opacity: float32 [T].
    """
    mask = mask.repeat(3, axis=2)  # so that whole rows are blended at once
    places, opacities = boxes.tolist(), opacity.tolist()
    for frame in pasted.nonzero().flatten().tolist():
        x1, y1, x2, y2 = places[frame]
        region = frames[frame, y1:y2, x1:x2]
        layer, alpha = (resize_to(image, height=y2 - y1, width=x2 - x1) for image in (cut, mask))
        layer -= region
        layer *= alpha
        layer *= opacities[frame]
        region += layer


def render_patches(
    cuts: Tensor, masks: Tensor, source_boxes: Tensor, *, boxes: Tensor, pasted: Tensor, opacity: Tensor
) -> tuple[Tensor, Tensor]:
    """Move and resize the patches to their boxes in every frame.

    Args:
        cuts: frames that the patches are cut from, float32 [B,P,H,W,3]. masks: see `patch_mask`.
        source_boxes: boxes of the patches in these frames, int64 [B,P,4].
        boxes: int64 [B,P,T,4]. pasted: bool [B,P,T]. opacity: float32 [B,P,T].

    Returns:
        patches float32 [B,P,T,H,W,3] and alphas float32 [B,P,T,H,W,1] for `paste`.
    """
    height, width = cuts.shape[2:4]
    columns, inside_x = _source_coordinates(boxes[..., 0::2], source_boxes[..., 0::2], width)
    rows, inside_y = _source_coordinates(boxes[..., 1::2], source_boxes[..., 1::2], height)
    grid = torch.stack(torch.broadcast_tensors(columns[..., None, :], rows[..., :, None]), dim=-1)  # [B,P,T,H,W,2]
    layers = torch.cat([cuts, masks], dim=-1).permute(0, 1, 4, 2, 3).flatten(0, 1)
    resized = grid_sample(
        layers, grid.flatten(0, 1).flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=True
    )
    resized = resized.unflatten(0, boxes.shape[:2]).unflatten(3, (boxes.shape[2], height)).permute(0, 1, 3, 4, 5, 2)
    visible = inside_y[..., :, None] & inside_x[..., None, :] & pasted[..., None, None]
    alphas = resized[..., 3] * opacity[..., None, None] * visible
    return resized[..., :3], alphas.unsqueeze(-1)


def patch_mask(boxes: Tensor, *, outline: Tensor, edge: Tensor, height: int, width: int) -> Tensor:
    """Masks of patches in the frames they are cut from, before opacity.

    Args:
        boxes: int64 [...,4]. outline: int64 [...]. edge: float32 [...].

    Returns:
        float32 [...,H,W,1] in 0..1; valid inside the boxes only.
    """
    x = _distance_to_center(boxes[..., 0::2], width)[..., None, :]
    y = _distance_to_center(boxes[..., 1::2], height)[..., :, None]
    outline, edge = outline[..., None, None], edge[..., None, None]
    round_or_straight = torch.where(outline == ELLIPSE, torch.sqrt(x**2 + y**2), x + y)
    distance = torch.where(outline == RECTANGLE, torch.maximum(x, y), round_or_straight)
    hard = (distance < 0.5) | (outline == RECTANGLE)
    soft = ((0.5 - distance) / edge.clamp(min=1e-6)).clamp(0, 1)
    return (hard * torch.where(edge > 0, soft, 1.0)).unsqueeze(-1)


def _distance_to_center(spans: Tensor, length: int) -> Tensor:
    """Distance of each pixel to the middle of [start, end), as a fraction of its length: [...,2] -> [...,length]."""
    start, size = spans[..., :1], spans[..., 1:] - spans[..., :1]
    center = start + (size - 1) // 2
    return (torch.arange(length, device=spans.device) - center).abs() / size


def _source_coordinates(spans: Tensor, source: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Source coordinates of the pixels of an axis when the source span is resized to the span of each frame.

    Half-pixel centres, clamped to the source span, as in OpenCV's bilinear resize.

    Args:
        spans: int64 [...,T,2], start and end in each frame. source: int64 [...,2]. length: pixels of the axis.

    Returns:
        coordinate in -1..1 for grid_sample, [...,T,length]; bool [...,T,length], true for pixels in the span.
    """
    pixel = torch.arange(length, device=spans.device)
    start, end = spans[..., :1], spans[..., 1:]
    first, last = source[..., None, :1], source[..., None, 1:]
    position = (pixel + 0.5 - start) * ((last - first) / (end - start)) - 0.5
    coordinate = first + torch.minimum(position.clamp(min=0), (last - first - 1).float())
    return coordinate * (2 / (length - 1)) - 1, (pixel >= start) & (pixel < end)
