"""Supervised action recognition: the clips of fine-tuning and testing, the Task, and the logits of whole videos.

Settings: Catch-the-Patch (arXiv 2105.02545) as fine-tuned by FedVSSL (arXiv 2207.01975).
Shapes: B batch, N clips per video, T frames, H W pixels, K classes, V videos of a test list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from fedvssl.data import augment, geometry, sampling
from fedvssl.data.annotations import Annotation, class_names, read_annotations
from fedvssl.data.dataset import ClipDataset, NumWorkers, test_loader
from fedvssl.data.video import Video, find_video
from fedvssl.models.recognizer import Recognizer
from fedvssl.training.loop import Batch
from fedvssl.training.memory import release_freed_memory
from fedvssl.training.processes import reduce


@dataclass(frozen=True, kw_only=True)
class TrainSample:
    """One random clip of a video and the parameters of its augmentation.

    Args:
        clip_len: T.
        frame_stride: frames from one frame of the clip to the next.
        sizes: (long, short) sides in pixels, one is drawn for each clip.
        crop_size: H and W of the random crop.
        flip_prob, hue_prob, brightness_prob, contrast_prob: how often each is applied.
        hue: largest shift of the hue, of 180 steps.
        saturation: the factor is exp(uniform(-saturation, saturation)).
        brightness: largest change in grey levels, the same in all frames of a clip.
        contrast: the factor is exp(uniform(-contrast, contrast)), the same in all frames of a clip.
    """

    clip_len: int
    frame_stride: int
    sizes: Sequence[tuple[int, int]]
    crop_size: int
    flip_prob: float
    brightness_prob: float
    brightness: float
    contrast_prob: float
    contrast: float
    hue_prob: float
    hue: float
    saturation: float

    def __post_init__(self) -> None:
        _check_whole(clip_len=self.clip_len, frame_stride=self.frame_stride, crop_size=self.crop_size)
        _check_crop(self.crop_size, self.sizes)

    def __call__(self, video: Video, rng: np.random.Generator) -> dict[str, Tensor]:
        """Returns "frames" uint8 [T,H,W,3], "brightness" and "contrast" float32 [T], and float32 or bool scalars."""
        indices = sampling.random_clip(
            len(video), rng, clip_len=self.clip_len, strides=[self.frame_stride], jitter=False
        )
        long, short = self.sizes[int(rng.integers(len(self.sizes)))]
        frames = video.read(indices, geometry.random_crop((long, short), rng, size=self.crop_size))
        delta = rng.uniform(-self.brightness, self.brightness) if rng.random() < self.brightness_prob else 0.0
        factor = np.exp(rng.uniform(-self.contrast, self.contrast)) if rng.random() < self.contrast_prob else 1.0
        return {
            "frames": torch.from_numpy(frames),
            "flip": torch.tensor(rng.random() < self.flip_prob),
            "brightness": torch.full((self.clip_len,), float(delta)),
            "contrast": torch.full((self.clip_len,), float(factor)),
            "recolour": torch.tensor(rng.random() < self.hue_prob),
            "hue": torch.tensor(rng.uniform(-self.hue, self.hue), dtype=torch.float32),
            "saturation": torch.tensor(np.exp(rng.uniform(-self.saturation, self.saturation)), dtype=torch.float32),
        }


@dataclass(frozen=True, kw_only=True)
class TestSample:
    """Clips spread evenly over a video, centre crop, nothing random.

    Args:
        num_clips: N.
        clip_len: T.
        frame_stride: frames from one frame of a clip to the next.
        size: (long, short) sides in pixels that the frames are resized to.
        crop_size: H and W.
    """

    num_clips: int
    clip_len: int
    frame_stride: int
    size: tuple[int, int]
    crop_size: int

    def __post_init__(self) -> None:
        _check_whole(num_clips=self.num_clips, clip_len=self.clip_len, frame_stride=self.frame_stride)
        _check_whole(crop_size=self.crop_size)
        _check_crop(self.crop_size, [self.size])

    def __call__(self, video: Video, rng: np.random.Generator) -> dict[str, Tensor]:
        """Returns "frames" uint8 [N,T,H,W,3]."""
        indices = sampling.uniform_clips(
            len(video), num_clips=self.num_clips, clip_len=self.clip_len, stride=self.frame_stride
        )
        # Neighbouring clips share frames: each is decoded and resized once.
        distinct, positions = np.unique(indices, return_inverse=True)
        long, short = self.size
        frames = video.read(distinct, geometry.center_crop((long, short), size=self.crop_size))
        return {"frames": torch.from_numpy(frames)[positions.reshape(indices.shape)]}


def _check_whole(**numbers: object) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value} must be a whole number, at least 1.")


def _check_crop(crop_size: int, sizes: Sequence[tuple[int, int]]) -> None:
    for size in sizes:
        if not (isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            raise ValueError(f"The size {size} must be a pair of pixels, [long, short].")
        if min(size) < crop_size:
            raise ValueError(
                f"A crop of {crop_size} pixels does not fit into frames of {size[0]}x{size[1]}: "
                "lower crop_size or raise the sizes."
            )


class RecognitionTask(nn.Module):
    """Cross-entropy of a recognizer on single clips (a Task), and its logits of whole videos.

    Args:
        backbone: maps clips [B,3,T,H,W] to [B,D,t,h,w] and has the attribute `out_channels` = D.
        num_classes: K.
        dropout: probability with which a pooled feature is dropped in training; a test needs none.
    """

    def __init__(self, backbone: nn.Module, *, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.recognizer = Recognizer(backbone, num_classes=num_classes, dropout=dropout)

    def augment(self, batch: Batch) -> Batch:
        """uint8 "frames" [B,T,H,W,3] with the parameters of `TrainSample` -> "clips" float32 [B,3,T,H,W]."""
        frames = torch.cat([self._augment(part) for part in augment.parts(batch)])
        return {"clips": augment.normalize(frames), "label": batch["label"], "index": batch["index"]}

    def _augment(self, batch: Batch) -> Tensor:
        frames = augment.flip(batch["frames"], batch["flip"]).float()
        frames = augment.contrast(augment.brightness(frames, batch["brightness"]), batch["contrast"])
        return augment.hue_saturation(frames, flags=batch["recolour"], hue=batch["hue"], saturation=batch["saturation"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """ "clips" float32 [B,3,T,H,W], "label" int64 [B], zero-based -> scalars "loss" and "top1_acc" (fraction)."""
        logits = self.recognizer(batch["clips"]).float()
        return {
            "loss": functional.cross_entropy(logits, batch["label"]),
            "top1_acc": (logits.argmax(dim=1) == batch["label"]).float().mean(),
        }

    def video_logits(self, frames: Tensor) -> Tensor:
        """Mean of the clips' logits, not of their probabilities: uint8 [B,N,T,H,W,3] -> float32 [B,K]."""
        clips = augment.normalize(frames.flatten(0, 1).float())
        return self.recognizer(clips).float().unflatten(0, frames.shape[:2]).mean(dim=1)


def predict(
    fabric: Fabric,
    task: RecognitionTask,
    dataset: ClipDataset,
    *,
    batch_size: int,
    num_workers: NumWorkers,
    report: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits of every video of a test list, which the processes share out between them, each video once.

    Args:
        fabric: says which device and precision, and joins the processes.
        task: the bare module, on the device, not a wrapped one.
        dataset: V videos with the clips of `TestSample`.
        batch_size: videos per step and process.
        num_workers: decoding processes for each process; see `test_loader`.
        report: called after each step with the number of videos done, estimated from this process's share.

    Returns:
        float32 [V,K] and int64 labels [V] on the CPU, in the order of the list, the same in every process.
    """
    task.eval()
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size, "on_gpu": fabric.device.type == "cuda"}
    loader = test_loader(dataset, batch_size=batch_size, num_workers=num_workers, **share)
    release_freed_memory(loader)
    logits = torch.zeros(len(dataset), task.num_classes, device=fabric.device)
    labels = torch.zeros(len(dataset), dtype=torch.int64, device=fabric.device)
    done = 0
    with torch.no_grad(), fabric.autocast():
        for batch in loader:
            batch = fabric.to_device(batch)
            logits[batch["index"]] = task.video_logits(batch["frames"])
            labels[batch["index"]] = batch["label"]
            done += len(batch["index"])
            if report is not None:
                report(min(done * fabric.world_size, len(dataset)))
    # A row is zero in all processes but one, so the sums are the rows themselves.
    return reduce(fabric, logits, how="sum"), reduce(fabric, labels, how="sum")


def split_list(data: dict[str, Any], part: str) -> Path:
    """The annotation file of a split; `part` is "train" or "test"."""
    return Path(data["annotation_dir"]) / f"{part}_split_{data['split']}.json"


def labelled_videos(data: dict[str, Any], part: str) -> list[Annotation]:
    """The videos of a split, every one of them found on disk.

    Args:
        data: video_dir, annotation_dir, split, num_classes.
        part: "train" or "test".

    Raises:
        ValueError: if the list or a video is missing, or a label is beyond `num_classes`.
    """
    path = split_list(data, part)
    annotations = read_annotations(path)
    highest = 1 + max(annotation.label for annotation in annotations)
    if highest > data["num_classes"]:
        raise ValueError(f"{path} has labels up to {highest}, but data.num_classes is {data['num_classes']}: set it.")
    for annotation in annotations:
        find_video(Path(data["video_dir"]), annotation.name)
    return annotations


def check_classes(videos: dict[str, list[Annotation]], train_list: Path) -> None:
    """Refuse test videos whose class no training video has: they could never be right, whatever the backbone.

    Raises:
        ValueError: naming the first such class.
    """
    known = {annotation.label for annotation in videos["train"]}
    unknown = [annotation for annotation in videos["test"] if annotation.label not in known]
    if unknown:
        label, name = class_names(unknown).popitem()
        raise ValueError(
            f"{train_list} has no video of class {name} (label {label + 1}), which {len(unknown)} test videos such as "
            f"{unknown[0].name} need: add videos of this class to it, or take those test videos out."
        )


def recognizer_state(checkpoint: Any, *, path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint: ours ("model"), a published one ("state_dict"), or the tensors themselves.

    Args:
        checkpoint: what the file holds.
        path: the file, for the message.

    Raises:
        ValueError: if it holds something else.
    """
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    if not (isinstance(state, dict) and all(isinstance(name, str) and torch.is_tensor(state[name]) for name in state)):
        raise ValueError(f"{path} holds no named tensors: give a file of fedvssl.finetune or finetune_preprocess.")
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], *, path: Path) -> None:
    """Load named tensors, all of them and no others.

    Raises:
        ValueError: naming the first tensor that is missing, unknown or of another shape, and the file.
    """
    own = module.state_dict()
    for name in [*own, *state]:
        if name not in state or name not in own:
            fault = "has no" if name not in state else "has an unknown"
            raise ValueError(f"{path} {fault} '{name}': it is a checkpoint of another model.")
        if own[name].shape != state[name].shape:
            raise ValueError(
                f"'{name}' is {list(state[name].shape)} in {path} and {list(own[name].shape)} in this configuration: "
                "check model and data.num_classes."
            )
    module.load_state_dict(state)
