"""Videos that a checkpoint was trained on: an accuracy on videos that were seen in training is no test.

A run keeps the names of its videos as hashes, 8 bytes each. They go with the weights: beside the round files, and in
the .pth that is made of them. So whoever evaluates a checkpoint, on whatever split, can compare.
Checkpoints of other programs and of earlier versions have no such record: nothing is known of them, and the record of
a training that starts from one says so.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.data.annotations import Annotation
from fedvssl.data.split import Split
from fedvssl.files.arrays import Arrays, load_arrays, save_arrays

SEEN_FILE = "seen_videos.npz"
PREFIX = "seen_videos."  # of the entries in a .pth
PRETRAINING, FINETUNING = "pre-training", "fine-tuning"
ALLOWED = {stage: f"allowed in {stage}" for stage in (PRETRAINING, FINETUNING)}  # entries: test videos it may see
INCOMPLETE = "before there was a record"  # entry without hashes: training started from a file that has none
NOT_KNOWN = "not known"
ADVICE = "or set data.allow_test_videos=true, which every result will state"


def seen_videos(dataset: str, videos: Iterable[Annotation], *, stage: str, allowed: Iterable[Annotation]) -> Arrays:
    """Record of the videos of a stage of training: hashes, int64 [V], ascending, by the names of the entries.

    Args:
        dataset: its name goes into the hashes, because another data set may have videos of the same names.
        videos: of the stage.
        stage: PRETRAINING or FINETUNING.
        allowed: test videos that it may see, and that the stage before it may have seen; a later one may not.
    """
    stages = (PRETRAINING,) if stage == PRETRAINING else (PRETRAINING, FINETUNING)
    permitted = [*allowed]
    entries = {stage: videos, **{ALLOWED[one]: permitted for one in stages}}
    return {name: np.unique(np.array(_each_hash(dataset, own), dtype=np.int64)) for name, own in entries.items()}


def merged(*records: Mapping[str, np.ndarray]) -> Arrays:
    """One record of several stages."""
    stages = dict.fromkeys(stage for record in records for stage in record)
    return {stage: np.unique(np.concatenate([r[stage] for r in records if stage in r])) for stage in stages}


def keep_seen(run_dir: Path, record: Mapping[str, np.ndarray]) -> None:
    """Add a record to that of a run's folder: the `init` of a continued run may stand without its own by now.

    Raises:
        ValueError: if the folder's record is damaged.
    """
    path = run_dir / SEEN_FILE
    save_arrays(path, merged(load_arrays(path), record) if path.is_file() else record)


def read_seen(checkpoint: Path) -> Arrays:
    """Record of a checkpoint: of a round file from the folder of its run, of another from its content; {} if unknown.

    Raises:
        ValueError: if it cannot be read.
    """
    if checkpoint.suffix != ".npz":
        from fedvssl.files.checkpoint import read_checkpoint  # a report uses the rest of this file without torch

        return seen_in(read_checkpoint(checkpoint).content)
    beside = checkpoint.parent / SEEN_FILE
    return load_arrays(beside) if beside.is_file() else {}


def record_of_start(checkpoint: Path | None) -> Arrays:
    """Record that a training goes on with: {} for random weights, INCOMPLETE for a file that has none.

    Raises:
        ValueError: if the file cannot be read.
    """
    return {} if checkpoint is None else read_seen(checkpoint) or {INCOMPLETE: np.array([], dtype=np.int64)}


def seen_in(content: Any) -> Arrays:
    """Record in the content of a .pth; {} if there is none."""
    entries = content.items() if isinstance(content, dict) else ()
    own = {name.removeprefix(PREFIX): value for name, value in entries if str(name).startswith(PREFIX)}
    return {stage: value.numpy() for stage, value in own.items() if str(getattr(value, "dtype", "")) == "torch.int64"}


def for_pth(record: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Entries of a .pth that hold the record, as tensors."""
    import torch

    return {PREFIX + stage: torch.from_numpy(np.array(hashes)) for stage, hashes in record.items()}


def allowed_numbers(record: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Numbers of test videos that each stage of training had with permission; stages that had none are left out."""
    found = {stage: len(_hashes(record, stage) & _hashes(record, ALLOWED[stage])) for stage in ALLOWED}
    return {stage: number for stage, number in found.items() if number}


def refuse_test_videos(
    data: Split, trained: Mapping[str, Sequence[Annotation]], tested: Sequence[Annotation], *, advice: str
) -> list[Annotation]:
    """Reject lists to train on, or galleries, that hold test videos.

    Args:
        data: the split, and whether it allows them.
        trained: the lists, by the words that name them.
        tested: the test list.
        advice: what to do, before the setting that allows it.

    Returns:
        All test videos in the lists, if they are allowed.

    Raises:
        ValueError: with their number in the first such list, and the first name.
    """
    names, found = {video.name for video in tested}, set[str]()
    for list_name, videos in trained.items():
        if seen := sorted(names & {video.name for video in videos}):
            if not data.allow_test_videos:
                raise ValueError(
                    f"{list_name} has {len(seen)} of the {len(names)} test videos of split {data.split}, such as "
                    f"{seen[0]}: {advice}, {ADVICE}."
                )
            found.update(seen)
    return [video for video in tested if video.name in found]


def seen_facts(
    data: Split,
    evaluated: Sequence[Annotation],
    record: Mapping[str, np.ndarray],
    *,
    checkpoint: object,
    gallery: Sequence[Annotation] = (),
) -> dict[str, Any]:
    """Entry of a result if evaluated videos are no test: {"seen": {stage: how many of them it had}}, or {}.

    Args:
        data: the split. Pre-training may have had its validation videos: it reads no label.
        evaluated: the videos.
        record: `read_seen` of the checkpoint.
        checkpoint: named in the error.
        gallery: training videos of the evaluation itself, which `refuse_test_videos` has let pass.

    Raises:
        ValueError: if they are test videos, or fine-tuning had them, and nobody has allowed it.
    """
    names = dict(zip(_each_hash(data.name, evaluated), (video.name for video in evaluated), strict=True))
    part, found = data.test_part, {}
    for stage in (PRETRAINING, FINETUNING):
        seen = names.keys() & _hashes(record, stage)
        refused = seen - _hashes(record, ALLOWED[stage])
        if refused and not (data.allow_test_videos or (stage, part) == (PRETRAINING, "validation")):
            raise ValueError(
                f"{checkpoint} had {len(refused)} of the {len(names)} {part} videos in its {stage}, such as "
                f"{min(names[key] for key in refused)}: evaluate it on the split that it was trained for, {ADVICE}."
            )
        found |= {stage: len(seen)} if seen else {}
    if both := {video.name for video in gallery} & {*names.values()}:
        found["the gallery"] = len(both)
    return {"seen": found} if found else {}


def unseen_labels(
    data: Split, labelled: Sequence[Annotation], record: Mapping[str, np.ndarray], *, checkpoint: object
) -> dict[str, str]:
    """Entry of a result whose labels training must not have had: whether the record of the checkpoint shows it.

    Args:
        data: the split.
        labelled: the training samples of the evaluation.
        record: `read_seen` of the checkpoint.
        checkpoint: named in the error.

    Raises:
        ValueError: if training has had some of them, with their number and the first.
    """
    names = dict(zip(_each_hash(data.name, labelled), (sample.name for sample in labelled), strict=True))
    for stage in (PRETRAINING, FINETUNING):
        if seen := names.keys() & _hashes(record, stage):
            raise ValueError(
                f"{checkpoint} had {len(seen)} of the {len(names)} samples in {data.list_path('train')} in its "
                f"{stage}, such as {min(names[key] for key in seen)}: hold them out of all training with "
                "data_tools.partition --labelled_share, or set protocol.held_out=false."
            )
    return {"labels_unseen": "by its record" if record and INCOMPLETE not in record else NOT_KNOWN}


def labels_words(facts: Mapping[str, Any]) -> str:
    """A further line for a log if `unseen_labels` does not know; else nothing."""
    if facts.get("labels_unseen") != NOT_KNOWN:
        return ""
    return "\nwarning: no full record of what the checkpoint was trained on, so it may have had these labels."


def seen_words(result: Mapping[str, Any]) -> str:
    """Words for tables: "; pre-training had 3 of these videos", or nothing, as for results of earlier versions."""
    medium = result.get("medium", "video")
    return "".join(f"; {stage} had {number} of these {medium}s" for stage, number in result.get("seen", {}).items())


def _hashes(record: Mapping[str, np.ndarray], entry: str) -> set[int]:
    return {*record.get(entry, np.array([], dtype=np.int64)).tolist()}


def _each_hash(dataset: str, videos: Iterable[Annotation]) -> list[int]:
    digests = (hashlib.blake2b(f"{dataset}/{video.name}".encode(), digest_size=8).digest() for video in videos)
    return [int.from_bytes(digest, "little", signed=True) for digest in digests]
