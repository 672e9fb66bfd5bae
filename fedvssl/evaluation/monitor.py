"""Evaluation of the global backbone during pre-training, on labelled videos of the server."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn.functional import normalize

from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import ClipDataset
from fedvssl.data.splits import check_classes, labelled_videos, split_list
from fedvssl.evaluation.collapse import effective_rank, feature_std
from fedvssl.evaluation.features import Features, compute
from fedvssl.evaluation.protocol import EvaluationProtocol
from fedvssl.files.arrays import BACKBONE
from fedvssl.files.tensors import load_arrays_into
from fedvssl.tasks.task import Sample
from fedvssl.training.loop import build_fabric

log = logging.getLogger(__name__)
LEAST_STD = 0.01  # random weights have about 0.1 on real clips


class Monitor:
    """Evaluates shared arrays. Made before the run, so that mistakes show early.

    Args:
        backbone: with the strides of fine-tuning; its weights are overwritten.
        settings: media_dir, annotation_dir, split, num_classes, max_videos, batch_size.
        sample: the clips of a video, as `TestSample`.
        protocols: name in the log and the records -> protocol with one metric.
        device, precision: as in `build_fabric`.

    Raises:
        ValueError: for a missing list or video, a class that only test videos have, or too small a `max_videos`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        settings: Mapping[str, Any],
        *,
        sample: Sample,
        protocols: Mapping[str, EvaluationProtocol],
        device: str,
        precision: str,
    ) -> None:
        self.backbone, self.batch_size, self.protocols = backbone, settings["batch_size"], protocols
        self.device, self.precision = device, precision
        lists = {part: labelled_videos(dict(settings), part) for part in ("train", "test")}
        check_classes(lists, split_list(dict(settings), "train"))
        videos = {part: spread(annotations, settings["max_videos"]) for part, annotations in lists.items()}
        known = {annotation.label for annotation in videos["train"]}  # a small gallery lacks some classes
        videos["test"] = [annotation for annotation in videos["test"] if annotation.label in known]
        if not videos["test"]:
            raise ValueError(f"eval.max_videos={settings['max_videos']} leaves no class in both lists: raise it.")
        log.info(
            "The server evaluates with %d of %d training and %d of %d test videos, of %d of %d classes.",
            *(number for part in ("train", "test") for number in (len(videos[part]), len(lists[part]))),
            *(len({annotation.label for annotation in some}) for some in (videos["test"], lists["test"])),
        )
        folder = Path(settings["media_dir"])
        self.datasets = {part: ClipDataset(folder, annotations, sample) for part, annotations in videos.items()}

    def __call__(self, arrays: Mapping[str, np.ndarray], *, label: str) -> dict[str, float]:
        """Evaluate the backbone among the shared arrays; `label` names the time in the log.

        Returns:
            "eval_<protocol>" (fractions), "eval_feature_std" and "eval_effective_rank" of the test videos,
            "videos_eval", "seconds_eval"; only the last if a feature is not finite.
        """
        started = time.perf_counter()
        own = {name.removeprefix(BACKBONE): array for name, array in arrays.items() if name.startswith(BACKBONE)}
        load_arrays_into(self.backbone, own)
        train, test = (self._features(self.datasets[part]) for part in ("train", "test"))
        if not torch.isfinite(train.grid).all() or not torch.isfinite(test.grid).all():
            log.warning("%s: the features are not finite: training has diverged. Lower training.lr.", label)
            return {"seconds_eval": time.perf_counter() - started}
        directions = normalize(test.clips.mean(dim=1), dim=1)
        found = {name: protocol(train, test).metrics for name, protocol in self.protocols.items()}
        accs = {
            name if len(metrics) == 1 else f"{name}_{metric}": value
            for name, metrics in found.items()
            for metric, value in metrics.items()
        }
        record = {
            **{f"eval_{name}": acc for name, acc in accs.items()},
            "eval_feature_std": feature_std(directions),
            "eval_effective_rank": effective_rank(directions),
            "videos_eval": len(test),
            "seconds_eval": time.perf_counter() - started,
        }
        log.info(
            "%s: %s, features: std %.3f, effective rank %.1f, %.1f s",
            *(label, ", ".join(f"{name} {100 * acc:.1f} %" for name, acc in accs.items())),
            *(record["eval_feature_std"], record["eval_effective_rank"], record["seconds_eval"]),
        )
        if not record["eval_feature_std"] >= LEAST_STD:
            log.warning(
                "%s: the representation has collapsed: all videos have almost the same features. Lower training.lr, or "
                "go back to an earlier round.",
                label,
            )
        return record

    @cached_property
    def _fabric(self) -> Fabric:
        return build_fabric(device=self.device, precision=self.precision)

    def _features(self, dataset: ClipDataset) -> Features:
        batches = compute(
            self._fabric, self.backbone.to(self._fabric.device), dataset, batch_size=self.batch_size, num_workers=0
        )
        clips, grid = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        labels = torch.tensor([annotation.label for annotation in dataset.annotations])
        return Features(clips, grid, labels, [annotation.name for annotation in dataset.annotations])


def spread(annotations: Sequence[Annotation], most: int) -> list[Annotation]:
    """At most `most` videos of a list, in its order, evenly spread over it because lists are sorted by class."""
    chosen = np.unique(np.linspace(0, len(annotations) - 1, min(most, len(annotations))).round().astype(int))
    return [annotations[index] for index in chosen]
