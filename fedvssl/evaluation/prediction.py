"""Logits of whole videos, computed by all processes of a run together, and the videos that they get right.

Shapes: V videos of a test list, K classes.
"""

from collections.abc import Callable

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fedvssl.data.dataset import NumWorkers, SampleDataset, test_loader
from fedvssl.tasks.task import VideoClassifier
from fedvssl.training.memory import release_freed_memory
from fedvssl.training.processes import reduce


def predict(
    fabric: Fabric,
    task: VideoClassifier,
    dataset: SampleDataset,
    *,
    batch_size: int,
    num_workers: NumWorkers,
    report: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits of every video of a test list, each computed once by one of the processes.

    Args:
        fabric: gives device and precision, and joins the processes.
        task: the module on the device, not wrapped by Fabric.
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


def top_k_right(scores: Tensor, labels: Tensor, *, k: int) -> list[bool]:
    """Whether the class of each video is among its `k` highest scores; all K where K < k. Scores: float [V,K]."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1).tolist()


def right_videos(scores: Tensor, labels: Tensor) -> dict[str, list[bool]]:
    """Right videos of the accuracies that are fractions of videos; the mean class accuracy is none."""
    return {f"top{k}_acc": top_k_right(scores, labels, k=k) for k in (1, 5)}
