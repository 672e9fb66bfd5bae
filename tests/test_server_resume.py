import shutil

import numpy as np
import pytest

from fedvssl import server_rounds
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.earlier_round import go_back
from fedvssl.files.rounds import last_round, round_path, state_path
from fedvssl.files.run_log import read_records
from fedvssl.files.strategy_state import load_state, save_state
from fedvssl.server_run import build_run, restore
from fedvssl.strategy.bounds import Step
from tests.federation import strategy_of, tiny_config, train


def test_the_typical_update_is_remembered_over_a_resume(data_dir, tmp_path):
    config = tiny_config(data_dir, "rounds=1")
    train(config, tmp_path)
    strategy = strategy_of(config)
    restore(strategy, tmp_path, {}, done=1)
    (typical,) = [r["typical_update"] for r in read_records(tmp_path / "metrics.jsonl") if "typical_update" in r]
    assert strategy.rounds.bound.typical == Step(*typical) and typical[0] > 0 and typical[1] == typical[2] == 1
    assert strategy.rounds.bound.max_factor == 10


def test_a_run_goes_back_to_a_round_and_trains_on_as_before(data_dir, tmp_path):
    train(tiny_config(data_dir, "rounds=3"), tmp_path)
    last = load_arrays(round_path(tmp_path, 3))
    go_back(tmp_path, 2)
    assert last_round(tmp_path) == 2
    train(tiny_config(data_dir, "rounds=3"), tmp_path)
    again = load_arrays(round_path(tmp_path, 3))
    assert all(np.array_equal(again[name], array) for name, array in last.items())


SERVER = {"fedavgm": "strategy.momentum=0.5", "fedadam": "strategy.server_lr=0.001", "fedyogi": "strategy.tau=0.1"}


@pytest.mark.parametrize("name", SERVER)
def test_an_optimizer_on_the_server_goes_on_to_the_bit(name, data_dir, tmp_path):
    """Killed between the strategy's state of round 3 and its round file."""
    config = tiny_config(data_dir, f"strategy={name}", SERVER[name], "rounds=3", "keep_last=2")
    train(config, tmp_path / "whole")
    train({**config, "rounds": 2}, tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_rounds, "save_arrays", killed_at("round-3-weights.npz"))
        train(config, tmp_path / "cut")
    train(config, tmp_path / "cut")
    for kind in (round_path, state_path):
        whole, resumed = (load_arrays(kind(tmp_path / folder, 3)) for folder in ("whole", "cut"))
        assert whole and whole.keys() == resumed.keys()
        assert all(np.array_equal(array, resumed[name]) for name, array in whole.items())
    assert sorted(path.name for path in (tmp_path / "whole").glob("round-*")) == [
        f"round-{number}-{part}.npz" for number in (2, 3) for part in ("strategy", "weights")
    ]


def killed_at(name: str):
    def save(path, arrays, real=server_rounds.save_arrays):
        if path.name == name:
            raise KeyboardInterrupt
        real(path, arrays)

    return save


def test_a_state_that_is_gone_or_of_another_strategy_is_refused(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedavgm", "rounds=2")
    train(config, tmp_path)
    with pytest.raises(ValueError, match=r"round-2-strategy\.npz holds the state of another strategy"):
        build_run(tiny_config(data_dir, "strategy=fedadam"), run_dir=tmp_path)
    state_path(tmp_path, 2).unlink()
    with pytest.raises(ValueError, match=r"round-2-strategy\.npz is missing: restore it, go back with from_round=1"):
        build_run(config, run_dir=tmp_path)


def test_a_state_of_another_round_is_refused_and_one_of_earlier_versions_is_read(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedavgm", "rounds=2")
    train(config, tmp_path)
    state = load_state(tmp_path, 2)
    shutil.copy(state_path(tmp_path, 1), state_path(tmp_path, 2))
    with pytest.raises(ValueError) as caught:
        build_run(config, run_dir=tmp_path)
    advice = "restore it, go back with from_round=1, or choose a new hydra.run.dir"
    assert str(caught.value) == f"{state_path(tmp_path, 2)} holds the state of round 1: {advice}."
    save_arrays(state_path(tmp_path, 2), state)  # without a number
    found = build_run(config, run_dir=tmp_path).strategy.state()
    assert state and found.keys() == state.keys()
    assert all(np.array_equal(array, found[name]) for name, array in state.items())


def test_a_round_without_a_state_leaves_none_of_an_earlier_start(tmp_path):
    save_state(tmp_path, 3, {"velocity w": np.zeros(2)})
    assert load_state(tmp_path, 3).keys() == {"velocity w"}
    save_state(tmp_path, 3, {})
    assert not state_path(tmp_path, 3).exists()
    save_state(tmp_path, 3, {})


def test_going_back_sets_the_state_of_later_rounds_aside(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedavgm", "rounds=3")
    train(config, tmp_path)
    last = load_arrays(round_path(tmp_path, 3))
    go_back(tmp_path, 2)
    assert not state_path(tmp_path, 3).exists() and state_path(tmp_path / "before-2", 3).is_file()
    train(config, tmp_path)
    again = load_arrays(round_path(tmp_path, 3))
    assert all(np.array_equal(again[name], array) for name, array in last.items())
