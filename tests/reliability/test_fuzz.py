"""A few hundred rounds of the fuzz; python -m tests.reliability.fuzz runs 20,000."""

from pathlib import Path

import pytest

from fedvssl.strategy import rounds
from tests.reliability.changes import CHANGES
from tests.reliability.fuzz import Recording, record_round, run_trial


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    return record_round(Path(tmp_path_factory.mktemp("fuzz")))


def test_whatever_clients_send_the_round_goes_on_or_ends_in_one_sentence(recording):
    trials = [run_trial(recording, number=number, seed=13) for number in range(300)]
    assert not [(number, trial) for number, trial in enumerate(trials) if trial.faults]
    assert {kind for trial in trials for kind in trial.changed.values()} == set(CHANGES)
    assert {len(trial.changed) for trial in trials} == {1, 2, 4} and any(trial.ended for trial in trials)
    fates = {fate for trial in trials for fate in trial.fate.values()}
    assert {"dropped", "accepted"} <= fates


def test_the_fuzz_sees_a_foreign_name_in_the_records(recording, monkeypatch):
    real = rounds.read_update

    def take_all(*args, **kwargs):
        update = real(*args, **kwargs)
        update.metrics["evil"] = 1.0
        return update

    monkeypatch.setattr(rounds, "read_update", take_all)
    trials = [run_trial(recording, number=number, seed=13) for number in range(10)]
    assert any("unknown names ['evil']" in trial.faults for trial in trials)


def test_the_fuzz_sees_an_exception_that_nobody_expects(recording, monkeypatch):
    monkeypatch.setattr(rounds, "reason", lambda error: 1 / 0)
    trials = [run_trial(recording, number=number, seed=13) for number in range(10)]
    assert any("ZeroDivisionError: division by zero" in trial.faults for trial in trials)
