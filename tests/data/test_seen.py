"""Videos that training has seen: what is kept of them, what is refused, what results say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedvssl.data.annotations import Annotation
from fedvssl.data.seen import (
    FINETUNING,
    PRETRAINING,
    SEEN_FILE,
    allowed_numbers,
    for_pth,
    labels_words,
    merged,
    read_seen,
    record_of_start,
    refuse_test_videos,
    seen_facts,
    seen_videos,
    seen_words,
    unseen_labels,
)
from fedvssl.data.split import Split
from fedvssl.files.arrays import save_arrays
from fedvssl.files.tensors import save_torch

PLACES = {"media_dir": "zips", "annotation_dir": "annotations", "num_classes": 3}
DATA = Split.of({**PLACES, "name": "ucf101", "split": 2, "validation": None, "validation_seed": 0})
ALLOWED = replace(DATA, allow_test_videos=True)


def videos(*names: str) -> list[Annotation]:
    return [Annotation(name, 0) for name in names]


def record(*names: str, stage: str = PRETRAINING, allowed: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    return seen_videos(DATA.name, videos(*names), stage=stage, allowed=videos(*allowed))


def test_test_videos_in_a_list_are_refused_with_their_number_or_returned() -> None:
    lists, tested = {"one.json": videos("a/1", "a/2"), "two.json": videos("b/2", "b/1")}, videos("b/1", "b/2", "b/3")
    sentence = (
        r"^two\.json has 2 of the 3 test videos of split 2, such as b/1: mend it, or set data\.allow_test_videos=true"
    )
    with pytest.raises(ValueError, match=sentence):
        refuse_test_videos(DATA, lists, tested, advice="mend it")
    assert refuse_test_videos(ALLOWED, lists, tested, advice="mend it") == tested[:2]
    assert refuse_test_videos(DATA, {"one.json": lists["one.json"]}, tested, advice="") == []


@pytest.mark.parametrize("stage", [PRETRAINING, FINETUNING])
def test_a_checkpoint_that_has_seen_test_videos_is_refused_unless_it_is_allowed(stage: str) -> None:
    tested, seen = videos("a/2", "a/1", "a/9"), record("a/1", "a/2", "a/3", stage=stage)
    with pytest.raises(ValueError, match=f"x had 2 of the 3 test videos in its {stage}, such as a/1: evaluate it on"):
        seen_facts(DATA, tested, seen, checkpoint="x")
    assert seen_facts(ALLOWED, tested, seen, checkpoint="x") == {"seen": {stage: 2}}
    run_was_told = record("a/1", "a/2", "a/3", stage=stage, allowed=("a/1", "a/2"))
    facts = seen_facts(DATA, tested, run_was_told, checkpoint="x")
    assert facts == {"seen": {stage: 2}} and seen_words(facts) == f"; {stage} had 2 of these videos"
    assert seen_words({**facts, "medium": "picture"}) == f"; {stage} had 2 of these pictures"
    assert seen_facts(DATA, videos("a/9"), seen, checkpoint="x") == {} == seen_facts(DATA, tested, {}, checkpoint="x")
    assert seen_facts(replace(DATA, name="hmdb51"), tested, seen, checkpoint="x") == {}, "other videos of these names"


def test_validation_videos_may_be_seen_without_labels_alone() -> None:
    data, held_out = replace(DATA, validation=0.2), videos("a/1", "a/2")
    assert seen_facts(data, held_out, record("a/1"), checkpoint="x") == {"seen": {PRETRAINING: 1}}
    with pytest.raises(ValueError, match="had 1 of the 2 validation videos in its fine-tuning, such as a/1"):
        seen_facts(data, held_out, record("a/1", stage=FINETUNING), checkpoint="x")


def test_what_pre_training_may_see_fine_tuning_may_not() -> None:
    """Fine-tuning on another split, which has no right to them, reads their labels."""
    both = merged(record("a/1", allowed=("a/1", "a/2")), record("a/2", stage=FINETUNING))
    assert seen_facts(DATA, videos("a/1"), both, checkpoint="x") == {"seen": {PRETRAINING: 1}}
    assert allowed_numbers(both) == {PRETRAINING: 1}
    with pytest.raises(ValueError, match="x had 1 of the 1 test videos in its fine-tuning, such as a/2"):
        seen_facts(DATA, videos("a/2"), both, checkpoint="x")


@pytest.mark.parametrize("stage", [PRETRAINING, FINETUNING])
def test_labels_that_a_stage_of_training_had_are_refused_and_without_a_record_it_is_said(stage: str) -> None:
    few, known = videos("a/1", "a/2"), {"labels_unseen": "by its record"}
    sentence = rf"^x had 1 of the 2 samples in .*train_split_2\.json in its {stage}, such as a/2: hold them out"
    with pytest.raises(ValueError, match=sentence):
        unseen_labels(DATA, few, record("a/2", "a/3", stage=stage), checkpoint="x")
    own = record("a/3", stage=stage)
    assert unseen_labels(DATA, few, own, checkpoint="x") == known and labels_words(known) == ""
    for incomplete in ({}, merged(record_of_start(Path("nowhere/round-1-weights.npz")), own)):
        facts = unseen_labels(DATA, few, incomplete, checkpoint="x")
        assert facts == {"labels_unseen": "not known"} and "it may have had these labels" in labels_words(facts)
    assert merged(record_of_start(None), own).keys() == own.keys()


def test_a_gallery_is_told() -> None:
    assert seen_facts(ALLOWED, videos("a/1", "a/2"), {}, checkpoint="x", gallery=videos("a/2")) == {
        "seen": {"the gallery": 1}
    }


def test_the_record_goes_with_round_files_and_into_pth_files(tmp_path: Path) -> None:
    first = record("a/1", "a/2", allowed=("a/1", "z/9"))
    both = merged(first, record("b/1", stage=FINETUNING), record("a/3"))
    save_arrays(tmp_path / SEEN_FILE, both)
    save_torch(tmp_path / "last.pth", {"model": {}, "epoch": 1, **for_pth(both)})
    save_torch(tmp_path / "foreign.pth", [1])
    for name in ("round-3-weights.npz", "last.pth"):
        found = read_seen(tmp_path / name)
        assert found.keys() == both.keys() and all(np.array_equal(found[key], both[key]) for key in both)
        assert [len(found[stage]) for stage in (PRETRAINING, FINETUNING)] == [3, 1]
        assert allowed_numbers(found) == {PRETRAINING: 1}
    assert read_seen(tmp_path / "foreign.pth") == {} == read_seen(tmp_path / "elsewhere/round-3-weights.npz")
