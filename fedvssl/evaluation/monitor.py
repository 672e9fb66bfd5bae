"""Evaluation of the global backbone during pre-training, on videos of the server."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import Subset

from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import LabellingSample, SampleDataset, evaluation_datasets
from fedvssl.data.kept import Room, kept
from fedvssl.data.split import Split
from fedvssl.data.splits import evaluation_lists, few_videos, few_words, spread
from fedvssl.data.validation import evaluated_videos, group_of, part_facts
from fedvssl.evaluation.calibration import calibrate, has_initial_statistics
from fedvssl.evaluation.collapse import effective_rank, feature_std
from fedvssl.evaluation.features import Features, compute
from fedvssl.evaluation.intervals import in_percent, interval, paired_difference
from fedvssl.evaluation.protocol import EvaluationProtocol, own_sample
from fedvssl.files.arrays import BACKBONE
from fedvssl.files.predictions import from_digits, to_digits
from fedvssl.files.progress import Progress
from fedvssl.files.tensors import load_arrays_into
from fedvssl.tasks.task import Sample
from fedvssl.training.loop import build_fabric
from fedvssl.training.precision import first_features

log = logging.getLogger(__name__)
Lists = Mapping[str, Sequence[Annotation]]  # by part, "train" and "test"
LEAST_STD = 0.01  # random weights with initial statistics of BatchNorm have about 0.1 on real clips


class Monitor:
    """Evaluates shared arrays. Made before the run, so that mistakes show early.

    Args:
        backbone: with the strides of fine-tuning; its weights are overwritten.
        data: the server's videos.
        sample: the clips of a video, as `TestSample`, for the protocols without a sample of their own.
        protocols: name in the log and the records -> protocol with one metric. If none of them looks at the classes of
            the videos, they may have any.
        max_videos: of each list, evenly spread.
        batch_size: videos at a time.
        keep_megabytes: decoded samples kept from one evaluation to the next, at most.
        seed: of the clips of a `LabellingSample`, which are the same in every round.
        device, precision: as in `build_fabric`.

    Raises:
        ValueError: for a missing list or video, a class that only test videos have, too small a `max_videos`, or a
            sample that the backbone does not take.
    """

    def __init__(
        self,
        backbone: nn.Module,
        data: Split,
        *,
        sample: Sample,
        protocols: Mapping[str, EvaluationProtocol],
        max_videos: int,
        batch_size: int,
        keep_megabytes: int,
        seed: int,
        device: str,
        precision: str,
    ) -> None:
        self.backbone, self.batch_size, self.protocols = backbone, batch_size, protocols
        self.device, self.precision, self.room = device, precision, Room(keep_megabytes * 1_000_000)
        samples = {name: own_sample(protocol) or sample for name, protocol in protocols.items()}
        self.facts: dict[str, int] = {}  # of the record: videos that neighbours can hardly find, or not at all
        labelled = not all(isinstance(sample, LabellingSample) for sample in samples.values())
        lists = evaluation_lists(data, labelled=labelled)
        videos = {part: spread(annotations, max_videos) for part, annotations in lists.items()}
        if labelled:
            known = {annotation.label for annotation in videos["train"]}  # a small gallery lacks some classes
            asked = len(videos["test"])
            videos["test"] = [annotation for annotation in videos["test"] if annotation.label in known]
            self.facts = {"queries_left_out": asked - len(videos["test"]), **few_videos(videos)}
        if not videos["test"]:
            raise ValueError(f"eval.max_videos={max_videos} leaves no class in both lists: raise it.")
        _tell(data, lists, videos, self.facts)
        self.datasets = evaluation_datasets(data.media_dir, videos, sample, seed=seed)
        others = {name: own for name, own in samples.items() if own is not sample}
        self.own_datasets = {n: evaluation_datasets(data.media_dir, videos, s, seed=seed) for n, s in others.items()}
        for own in (self.datasets, *self.own_datasets.values()):
            first_features(backbone.eval(), own["test"], device="cpu")

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, label: str, start: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Evaluate the backbone among the shared arrays.

        A backbone with the initial statistics of BatchNorm, as before round 1, gets statistics of the gallery first.

        Args:
            arrays: shared arrays by name.
            label: names the time in the log.
            start: what this returned before round 1, if that is known.

        Returns:
            "eval_<protocol>" (fractions), of fractions of test videos also "eval_<protocol>_low" and "_high", the ends
            of the interval, "right_<protocol>", a digit for each test video, and "gain_<protocol>" with "_low" and
            "_high", the paired difference from `start`; "eval_feature_std" and "eval_effective_rank" of the test
            videos, "videos_eval", "queries_left_out", "single_video_classes", "single_video_queries" (see `few_videos`)
            where labels count, "seconds_eval"; only the last if a feature is not finite.
        """
        started = time.perf_counter()
        own = {name.removeprefix(BACKBONE): array for name, array in arrays.items() if name.startswith(BACKBONE)}
        load_arrays_into(self.backbone, own)
        if has_initial_statistics(self.backbone):
            calibrate(self._fabric, self.backbone, self.datasets["train"], num_workers=0)
        has_gallery = self.protocols.keys() != self.own_datasets.keys()  # else nobody asks for its features
        features = {part: self._features(own) for part, own in self.datasets.items() if part == "test" or has_gallery}
        if not all(torch.isfinite(own.grid).all() for own in features.values()):
            log.warning("%s: the features are not finite: training has diverged. Lower training.lr.", label)
            return {"seconds_eval": time.perf_counter() - started}
        directions = normalize(features["test"].clips.mean(dim=1), dim=1)
        accs, words = self._accuracies(features, start or {})
        record = {
            **accs,
            "eval_feature_std": feature_std(directions),
            "eval_effective_rank": effective_rank(directions),
            "videos_eval": len(features["test"]),
            **self.facts,
            "seconds_eval": time.perf_counter() - started,
        }
        log.info(
            "%s: %s, features: std %.3f, effective rank %.1f, %.1f s",
            *(label, ", ".join(words)),
            *(record["eval_feature_std"], record["eval_effective_rank"], record["seconds_eval"]),
        )
        if not record["eval_feature_std"] >= LEAST_STD:
            log.warning(
                "%s: the representation has collapsed: all samples have almost the same features. Lower training.lr, "
                "or go back to an earlier round.",
                label,
            )
        return record

    def _accuracies(
        self, features: Mapping[str, Features], start: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Entries of the record for each metric, see `__call__`, and words for the log."""
        found, words = {}, []
        for name, protocol in self.protocols.items():
            own = self.own_datasets.get(name)
            parts = [self._features(dataset) for dataset in own.values()] if own else [*features.values()]
            result, groups = protocol(*parts), [group_of(video) for video in parts[1].names]
            for metric, value in result.metrics.items():
                shown = name if len(result.metrics) == 1 else f"{name}_{metric}"
                found[f"eval_{shown}"] = value
                words.append(f"{shown} {in_percent(value)} %")
                if metric in result.right:
                    of_videos, words[-1] = compare(shown, result.right[metric], groups, start)
                    found |= of_videos
        return found, words

    @cached_property
    def _fabric(self) -> Fabric:
        return build_fabric(device=self.device, precision=self.precision)

    @cached_property
    def _kept(self) -> dict[SampleDataset, Subset]:
        """All samples of each dataset."""
        sets = (self.datasets, *self.own_datasets.values())
        return {dataset: kept(dataset, self.room) for own in sets for dataset in own.values()}

    def _features(self, dataset: SampleDataset) -> Features:
        backbone, samples = self.backbone.to(self._fabric.device), self._kept[dataset]
        batches = compute(self._fabric, backbone, samples, batch_size=self.batch_size, num_workers=0)
        clips, grid = (torch.cat(tensors) for tensors in zip(*told(batches, len(dataset)), strict=True))
        return Features(clips, grid, dataset.labels(), [annotation.name for annotation in dataset.annotations])


def _tell(data: Split, lists: Lists, videos: Lists, facts: Mapping[str, int]) -> None:
    """Log which videos of the server's lists are used."""
    numbers = {part: f"{len(videos[part])} of {len(lists[part])}" for part in ("train", "test")}
    part = part_facts(data, lists["test"])
    log.info(
        "The server evaluates with %s training and %s, of %d of %d classes%s.",
        *(numbers["train"], evaluated_videos(part, numbers["test"])),
        *(len({annotation.label for annotation in some}) for some in (videos["test"], lists["test"])),
        few_words({**part, **facts}),
    )


def told(batches: Iterable[tuple[Tensor, Tensor]], num_videos: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, with a line every ten seconds, and none about what takes less."""
    progress, done = Progress("  evaluation: video", num_videos, write=log.info), 0
    for batch in batches:
        yield batch
        done += len(batch[0])
        if done < num_videos:
            progress.update(done)


def compare(
    name: str, right: Sequence[bool], groups: Sequence[str], start: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Interval of a fraction of test videos, and its paired difference from that of the record `start`.

    Returns:
        entries of the record as in `Monitor`, and words for the log.
    """
    bounds = interval(right, groups)
    found = {f"eval_{name}_low": bounds.low, f"eval_{name}_high": bounds.high, f"right_{name}": to_digits(right)}
    words = f"{name} {in_percent(sum(right) / len(right), bounds)} %"
    at_start = from_digits(start.get(f"right_{name}", ""))
    if len(at_start) != len(right):
        return found, words
    gain = paired_difference(right, at_start, groups)
    found |= {f"gain_{name}": gain.difference, f"gain_{name}_low": gain.low, f"gain_{name}_high": gain.high}
    return found, f"{words}, {gain.text()} from the start"
