"""Validation videos, held out of a training list: for choosing a checkpoint or a setting without the test list.

Clips of one group, such as v_Archery_g08_c01 and v_Archery_g08_c02, show the same scene, so a group is held out whole.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.media import is_picture
from fedvssl.data.split import Split

PICTURE = "picture"  # medium of a result; those of videos name none
# Names of UCF-101, v_Archery_g08_c01, and of HMDB-51: film, action, then how and how well it is seen, and a number.
GROUP = re.compile(r"(.+_g\d+)_c\d+|(.+)_[a-z]_(?:nm|cm)_np\d+_(?:fr|ri|le|ba)_(?:goo|med|bad)_\d+")


def group_of(name: str) -> str:
    """Group of a video, "Archery/v_Archery_g08" of "Archery/v_Archery_g08_c01"; the name itself if it holds none."""
    match = GROUP.fullmatch(name)
    return match[1] or match[2] if match else name


def hold_out(
    annotations: Sequence[Annotation], wanted: float, *, seed: int
) -> tuple[list[Annotation], list[Annotation]]:
    """Split a training list into training and validation videos, class by class, both in the order of the list.

    Each class gives groups until its share is reached as nearly as whole groups allow, but never its last. What is
    missing then, or too much, is left to the next class. A video whose name holds no group is a group of its own.

    Args:
        annotations: training list.
        wanted: share of the videos below 1, or number of videos from 1.
        seed: of the choice.

    Raises:
        ValueError: if `wanted` is no such number, or no video can be held out.
    """
    is_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if not (is_number and 0 < wanted < len(annotations) and (wanted < 1 or wanted == int(wanted))):
        raise ValueError(
            f"data.validation={wanted} must be a share of the {len(annotations)} training samples, such as 0.2, or a "
            "number of them, or null."
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"data.validation_seed={seed} must be a whole number, at least 0.")
    share = wanted if wanted < 1 else wanted / len(annotations)
    held: set[str] = set()
    owed = 0.0  # videos that earlier classes have not given, because their groups are whole
    for label in sorted({annotation.label for annotation in annotations}):
        names = [annotation.name for annotation in annotations if annotation.label == label]
        owed += share * len(names)
        chosen = _some_groups(names, owed, np.random.default_rng((seed, label)))
        owed -= len(chosen)
        held |= chosen
    validation = [annotation for annotation in annotations if annotation.name in held]
    if not validation:
        raise ValueError(f"data.validation={wanted} holds no sample out: raise it, or add groups of samples.")
    return [annotation for annotation in annotations if annotation.name not in held], validation


def validation_videos(data: Split) -> list[Annotation]:
    """The videos that a split holds out of its own training list; the same whatever its `train_list` is.

    Raises:
        ValueError: if the list is missing, or as `hold_out`.
    """
    if data.validation is None:
        return []
    return hold_out(read_annotations(data.whole_train_list), data.validation, seed=data.validation_seed)[1]


def how_held_out(validation: Sequence[Annotation], *, medium: str) -> str:
    """Words on the kind of split: "in whole groups", or how many videos were taken without their neighbours."""
    alone = sum(GROUP.fullmatch(annotation.name) is None for annotation in validation)
    return f"by {medium}, as the names of {alone} hold no group" if alone else "in whole groups"


def part_facts(data: Split, evaluated: Sequence[Annotation]) -> dict[str, Any]:
    """Entries of a result that tell which videos it is about.

    Args:
        data: the split.
        evaluated: the videos.

    Returns:
        "part": "test" or "validation"; for the latter also "validation", "validation_seed" and "held_out"; "num_groups"
            if there are fewer groups than videos; "medium": "picture" if they are pictures.
    """
    groups = {group_of(annotation.name) for annotation in evaluated}
    facts: dict[str, Any] = {"part": data.test_part}
    facts |= {"num_groups": len(groups)} if len(groups) < len(evaluated) else {}
    facts |= {"medium": PICTURE} if medium_in(data.media_dir, evaluated) == PICTURE else {}
    if data.validation is None:
        return facts
    settings = {"validation": data.validation, "validation_seed": data.validation_seed}
    return {**facts, **settings, "held_out": how_held_out(evaluated, medium=medium_of(facts))}


def check_unseen(checkpoint: Any, data: Split, *, path: Path) -> None:
    """Reject validation videos that a checkpoint of fine-tuning was trained on.

    Raises:
        ValueError: telling its own `data.validation`.
    """
    trained = checkpoint.get("settings", {}) if isinstance(checkpoint, dict) else {}
    if data.validation is None or trained.get("data.name") != data.name:
        return
    own = {name: trained.get(f"data.{name}") for name in ("validation", "validation_seed", "split")}
    if any(getattr(data, name) != value for name, value in own.items()):
        settings = ", ".join(f"data.{name}={'null' if value is None else value}" for name, value in own.items())
        raise ValueError(
            f"{path} was trained on some of these validation videos: it had {settings}. Give the same settings, or "
            "test with data.validation=null."
        )


def medium_in(media_dir: Path, annotations: Sequence[Annotation]) -> str:
    """ "picture" or "video", by the first file of a list."""
    return PICTURE if is_picture(media_dir, annotations[0].name) else "video"


def medium_of(facts: Mapping[str, Any]) -> str:
    """ "picture" or "video", of `part_facts` or a result that has them."""
    return facts.get("medium", "video")


def evaluated_videos(facts: Mapping[str, Any], number: object) -> str:
    """Words for logs and tables: "36 test videos in 9 groups" or "48 validation videos (held out in whole groups)".

    Args:
        facts: `part_facts`, or a result that has them; results of earlier versions are about test videos.
        number: of the videos.
    """
    words = f"{number} {facts.get('part', 'test')} {medium_of(facts)}s"
    words += f" in {facts['num_groups']} groups" if "num_groups" in facts else ""
    return f"{words} (held out {facts['held_out']})" if "held_out" in facts else words


def _some_groups(names: Sequence[str], wanted: float, rng: np.random.Generator) -> set[str]:
    """Names in some groups of a class: as near to the wanted number as whole groups in a random order come."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[group_of(name)].append(name)
    keys = sorted(groups)
    held: list[str] = []
    for index in rng.permutation(len(keys))[1:]:  # the first in this order stays in training
        group = groups[keys[index]]
        if abs(len(held) + len(group) - wanted) < abs(len(held) - wanted):
            held += group
    return set(held)
