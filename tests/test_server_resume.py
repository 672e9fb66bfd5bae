import numpy as np
import pytest

from fedvssl.files.arrays import load_arrays
from fedvssl.files.earlier_round import go_back
from fedvssl.files.rounds import last_round, round_path
from fedvssl.files.run_log import read_records
from fedvssl.server_run import build_strategy, restore
from fedvssl.strategy.bounds import Step
from tests.federation import tiny_config, train, write_clients


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_clients(path)
    return path


def test_the_typical_update_is_remembered_over_a_resume(data_dir, tmp_path):
    config = tiny_config(data_dir, "rounds=1")
    train(config, tmp_path)
    strategy = build_strategy(config)
    restore(strategy, tmp_path, done=1)
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
