"""Held-out videos: whole groups, every class, the asked share, the same for the same seed."""

import pytest

from fedvssl.data.annotations import Annotation
from fedvssl.data.validation import group_of, hold_out, how_held_out


def ucf_list(num_classes: int = 3, groups: int = 5, clips: int = 4) -> list[Annotation]:
    return [
        Annotation(f"Class{label}/v_Class{label}_g{group:02d}_c{clip:02d}", label)
        for label in range(num_classes)
        for group in range(8, 8 + groups)
        for clip in range(1, clips + 1)
    ]


def groups_of(annotations: list[Annotation]) -> set[str]:
    return {annotation.name.rpartition("_c")[0] for annotation in annotations}


@pytest.mark.parametrize(("wanted", "per_class"), [(0.2, 4), (0.4, 8), (12, 4), (0.01, 0), (0.9, 16)])
def test_the_share_is_held_out_in_whole_groups_of_every_class(wanted: float, per_class: int) -> None:
    listed = ucf_list()
    if not per_class:
        with pytest.raises(ValueError, match=r"data.validation=0.01 holds no sample out"):
            hold_out(listed, wanted, seed=0)
        return
    train, validation = hold_out(listed, wanted, seed=0)
    assert sorted([*train, *validation], key=lambda one: one.name) == listed
    assert not groups_of(train) & groups_of(validation)
    for label in range(3):
        assert sum(annotation.label == label for annotation in validation) == per_class
    assert train == [annotation for annotation in listed if annotation not in validation], "the order stays"


def test_what_whole_groups_leave_open_goes_to_the_next_class() -> None:
    """Twenty classes of five groups of seven: a tenth is half a group of each class, so every other class gives one."""
    listed = ucf_list(num_classes=20, groups=5, clips=7)
    _, validation = hold_out(listed, 0.1, seed=0)
    assert abs(len(validation) - 70) <= 7
    assert len({annotation.label for annotation in validation}) >= 9


@pytest.mark.parametrize("seed", [-1, "a", True, 1.5])
def test_other_seeds_are_rejected(seed: object) -> None:
    with pytest.raises(ValueError, match=r"data.validation_seed=.* must be a whole number"):
        hold_out(ucf_list(), 0.2, seed=seed)  # pyright: ignore[reportArgumentType]


def test_seeds_choose_other_groups_and_repeat() -> None:
    chosen = [frozenset(groups_of(hold_out(ucf_list(), 0.2, seed=seed)[1])) for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1] and len(set(chosen)) > 2


def test_names_without_groups_are_held_out_one_by_one_and_it_is_said() -> None:
    listed = [Annotation(f"Class{number % 2}/clip{number}", number % 2) for number in range(20)]
    _, validation = hold_out(listed, 0.3, seed=0)
    assert len(validation) == 6
    assert how_held_out(validation, medium="picture") == "by picture, as the names of 6 hold no group"
    assert how_held_out(hold_out(ucf_list(), 0.2, seed=0)[1], medium="video") == "in whole groups"


def test_a_class_keeps_its_last_group() -> None:
    train, validation = hold_out([*ucf_list(2), Annotation("Rare/v_Rare_g01_c01", 2)], 0.5, seed=0)
    assert "Rare/v_Rare_g01_c01" in [annotation.name for annotation in train] and validation


@pytest.mark.parametrize("wanted", [0, -1, 60, 100, 2.5, True, "half"])
def test_other_numbers_are_rejected(wanted: object) -> None:
    with pytest.raises(ValueError, match=r"data.validation=.* must be a share of the 60 training samples"):
        hold_out(ucf_list(), wanted, seed=0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Archery/v_Archery_g08_c01", "Archery/v_Archery_g08"),
        ("wave/RATRACE_wave_f_nm_np1_fr_goo_37", "wave/RATRACE_wave"),
        ("cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6", "cartwheel/Turnk_r_Pippi_Michel_cartwheel"),
        ("Run/clip7", "Run/clip7"),
    ],
)
def test_groups_of_names(name: str, group: str) -> None:
    assert group_of(name) == group
