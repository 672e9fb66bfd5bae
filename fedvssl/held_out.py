"""Measure a trained run on held-out videos, without labels: pretext loss, motion probe, spread of the features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fedvssl.building import build_sample, build_task
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.data.seen import read_seen, seen_facts
from fedvssl.data.split import Split
from fedvssl.data.splits import listed_videos
from fedvssl.data.validation import group_of
from fedvssl.evaluation.intervals import interval
from fedvssl.files.arrays import BACKBONE
from fedvssl.files.rounds import round_path
from fedvssl.files.tensors import load_arrays_into
from fedvssl.server_evaluation import build_evaluations
from fedvssl.trained_run import TrainedRun
from fedvssl.training.watch import TRIVIAL

CLIPS = 4  # of each video, for the pretext loss
PROBE = "motion_probe"


def measure(run: TrainedRun) -> dict[str, Any]:
    """Content of verdict.json but for its sentence.

    Raises:
        ValueError: if there are no held-out videos, or training had some of them.
    """
    data = Split.of(run.config["data"], run.config["eval"])
    if data.validation is None and not data.list_path("test").is_file():
        raise ValueError(
            f"No {data.list_path('test')}: a verdict is told on videos that no client has. Name the folder of such a "
            f"list by eval.annotation_dir=<folder>; fedvssl train --videos holds videos out by itself."
        )
    videos, checkpoint = listed_videos(data, "test"), round_path(run.folder, run.server_round)
    return {
        "server_round": run.server_round,
        "schedule_length": (run.config["training"].get("schedule") or {}).get("length"),
        "dataset": data.name,
        "num_test": len(videos),
        **seen_facts(data, videos, read_seen(checkpoint), checkpoint=checkpoint),
        "pretext": pretext(run, videos),
        "features": features(run),
        "of_first_client": not has_one_backbone(run),
    }


def has_one_backbone(run: TrainedRun) -> bool:
    """True if no client keeps a part of the backbone, such as the BatchNorm of FedBN."""
    first, *others = run.of_clients
    return all(state[name] is array for state in others for name, array in first.items() if name.startswith(BACKBONE))


def pretext(run: TrainedRun, videos: Sequence[Annotation]) -> dict[str, Any]:
    """Pretext loss on clips of each video beside that of the trivial predictors, by the parts of the clients in turn.

    Returns:
        mean over the videos of each scalar of the task; "better": {trivial predictor: [share of the videos whose loss
        is lower than its own, and the ends of the 95 % interval]}. {} for a task that compares the samples of a batch,
        or that has no trivial predictor.
    """
    task = build_task(run.config).eval()
    if not hasattr(task, "trivial") or getattr(task, "least_batch", 1) > 1:
        return {}
    media_dir, sample, seed = Path(run.config["data"]["media_dir"]), build_sample(run.config), run.config["seed"]
    clips = [SampleDataset(media_dir, videos, sample, seed_key=(seed, number)) for number in range(CLIPS)]
    found: dict[int, dict[str, float]] = {}
    for client, state in enumerate(run.of_clients):
        load_arrays_into(task, state)
        for index in range(client, len(videos), len(run.of_clients)):
            with torch.no_grad():
                batch = task.augment(stack([dataset[index] for dataset in clips]))
                told = {**task(batch), **{TRIVIAL + name: loss for name, loss in task.trivial(batch).items()}}
            found[index] = {name: float(value) for name, value in told.items()}
    means = {name: sum(own[name] for own in found.values()) / len(found) for name in found[0]}
    groups, better = [group_of(video.name) for video in videos], {}
    for name in (name for name in means if name.startswith(TRIVIAL)):
        lower = [found[index]["loss"] < found[index][name] for index in range(len(videos))]
        better[name.removeprefix(TRIVIAL)] = [sum(lower) / len(lower), *interval(lower, groups)]
    return {**means, "better": better}


def features(run: TrainedRun) -> dict[str, dict[str, Any]]:
    """Motion probe and spread of the features of "random weights" and of the "run", as `Monitor` records them.

    Where clients keep a part of the backbone, the run's is that of the first client.

    The motion probe is left out if the run's configuration has none.
    """
    config = run.config
    protocols = {name: own if name == PROBE else None for name, own in config["eval"]["protocols"].items()}
    evaluations = build_evaluations({**config, "eval": {**config["eval"], "every": 1, "protocols": protocols}})
    assert evaluations is not None, "eval.every is 1"
    start, end = (
        {name: array for name, array in state.items() if name.startswith(BACKBONE)}
        for state in (run.initial, run.of_clients[0])
    )
    at_start = evaluations.monitor(start, label="random weights")
    return {"random weights": at_start, "run": evaluations.monitor(end, label="the run", start=at_start)}
