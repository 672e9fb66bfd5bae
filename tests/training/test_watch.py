"""Warnings that nothing is learned: at the right time, once each, and not where something is learned."""

import pytest

from fedvssl.training.watch import Watch, beside_trivial


def watch(records: list[dict[str, float]], *, warn_after: int = 3) -> list[str]:
    told: list[str] = []
    look = Watch("round", warn_after, told.append)
    for position, record in enumerate(records, start=1):
        look(record, position=position)
    return told


def test_a_loss_that_stays_with_a_trivial_predictor_is_told_once_after_some_rounds() -> None:
    told = watch([{"loss": 1.14, "trivial_still": 1.16}] * 6)
    assert len(told) == 1
    assert told[0].startswith("round 3: the loss 1.140 is not 5 % below 1.160, that of 'still'")


@pytest.mark.parametrize(("loss", "expected"), [(0.96, 1), (0.94, 0)])
def test_a_trivial_predictor_is_beaten_by_five_percent(loss: float, expected: int) -> None:
    assert len(watch([{"loss": loss, "trivial_still": 1.0}] * 3)) == expected


def test_a_loss_that_has_fallen_in_time_is_not_told() -> None:
    assert watch([{"loss": 1.0, "trivial_still": 1.0}] * 2 + [{"loss": 0.8, "trivial_still": 1.0}] * 3) == []


def test_a_dead_head_is_told_at_once() -> None:
    told = watch([{"loss": 0.5, "active_share": 0.4}, *[{"loss": 0.5, "active_share": 0.004}] * 3], warn_after=9)
    assert len(told) == 1 and told[0].startswith("round 2: the head is dead, 0.4 % of its hidden units are active")


def test_both_may_be_told_and_records_without_instruments_are_fine() -> None:
    assert len(watch([{"loss": 1.0, "trivial_a": 1.0, "trivial_b": 1.0, "active_share": 0.0}] * 4)) == 3
    assert watch([{"loss": 1.0}] * 9) == []


def test_a_line_of_progress_has_the_trivial_numbers_beside() -> None:
    record = {"loss": 1.0632, "loss_ctr": 0.9, "iou": 0.6238, "iou_still": 0.5, "trivial_still": 1.667}
    assert beside_trivial(record) == "loss 1.063 (still 1.667)  iou 0.624 (still 0.500)"
    assert beside_trivial({"loss": 2.0, "top1_acc": 0.2, "trivial_chance": 1.792}) == "loss 2.000 (chance 1.792)"
    assert beside_trivial({"loss": 2.0}) == "loss 2.000"


def test_a_dead_client_is_named_and_its_loss_is_not_compared() -> None:
    told = watch([{"loss": 1.0, "trivial_a": 1.0, "active_share": 0.0, "partition_id": 4}] * 4)
    assert len(told) == 1 and told[0].startswith("round 1: the head of client 5 is dead")


def test_a_doubt_is_told_once_when_two_rounds_in_a_row_give_reason() -> None:
    told: list[str] = []
    look = Watch("round", 5, told.append)
    for position, sentence in enumerate(["", "stuck", "", "stuck", "still stuck", "stuck"], start=1):
        look.doubt(sentence, position=position)
    assert told == ["round 5: still stuck"]
