"""Rules in a federation: FedU and FedEMA with a head of Catch-the-Patch that travels and may be the client's own."""

import numpy as np
import pytest

from fedvssl.files.arrays import load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.strategy.divergence import divergence
from fedvssl.strategy.fedema import FedEMA
from fedvssl.strategy.rule import Replace, When
from tests.federation import client_of, order_of, sent_arrays, tiny_config, train

LAYERS = ["backbone.*", "!*downsample*"]
FEDAVG = ("strategy=fedavg", "strategy.share=['backbone.*','head.*']")
NAMES = {"personal": ["head.*"], "layers": LAYERS}
HEAD, CONV = "head.fc1.weight", "backbone.stem.conv.weight"


def shared_after(run_dir, server_round: int):
    return load_arrays(round_path(run_dir, server_round))


def is_equal(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


@pytest.fixture(scope="module")
def fedavg(data_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("fedavg")
    train(tiny_config(data_dir, *FEDAVG), run_dir)
    return run_dir


def test_an_infinite_threshold_is_fedavg_of_backbone_and_head(data_dir, tmp_path, fedavg):
    train(tiny_config(data_dir, "strategy=fedu", "strategy.rule.threshold=inf"), tmp_path)
    assert is_equal(shared_after(tmp_path, 2), shared_after(fedavg, 2))


@pytest.mark.parametrize(
    "words",
    [
        ("strategy=fedu", "strategy.rule.threshold=0"),
        ("strategy=fedema",),
        ("strategy=fedema", "strategy.rule.scaler=0.8", "training.keep_optimizer=true"),
    ],
    ids=["FedU", "FedEMA", "FedEMA with a constant"],
)
def test_a_client_goes_on_with_its_own_part_also_after_a_new_start(words, data_dir, tmp_path, fedavg):
    train(tiny_config(data_dir, *words, "rounds=3"), tmp_path / "whole")
    assert is_equal(shared_after(tmp_path / "whole", 1), shared_after(fedavg, 1)), "nothing is kept yet"
    assert not is_equal(shared_after(tmp_path / "whole", 2), shared_after(fedavg, 2))
    for rounds in (1, 2, 3):  # each from the files that the last one has left
        train(tiny_config(data_dir, *words, f"rounds={rounds}"), tmp_path / "parts")
    assert is_equal(shared_after(tmp_path / "whole", 3), shared_after(tmp_path / "parts", 3))


def test_the_facts_of_a_rule_are_recorded_for_each_client_and_round(data_dir, tmp_path):
    train(tiny_config(data_dir, "strategy=fedema"), tmp_path)
    records = [record for record in read_records(tmp_path / "metrics.jsonl") if "partition_id" in record]
    assert len(records) == 6 and all(record["divergence"] > 0 for record in records)
    for partition_id in range(3):
        first, second = (record for record in records if record["partition_id"] == partition_id)
        assert first["scaler"] == second["scaler"] == pytest.approx(0.7 / first["divergence"])


def test_the_client_measures_how_far_it_moved(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedu")
    sent = sent_arrays(config, prefix="")
    trained, facts = client_of(config, tmp_path, 1).answer("train", sent, order_of(config))
    assert facts["divergence"] == pytest.approx(divergence(sent, trained, LAYERS)) and facts["divergence"] > 0
    kept = load_arrays(tmp_path / "clients/client_1/kept-round-1.npz")
    assert {name for name in kept if not name.startswith("head.")} == {"rule/divergence"}
    np.testing.assert_array_equal(kept[HEAD], trained[HEAD])


def test_a_client_that_missed_a_round_begins_anew_if_the_rule_is_selective():
    rule = FedEMA(scaler=1.0, tau=0.7, selective=True, **NAMES)
    arrived, kept = {CONV: np.zeros(2)}, {CONV: np.ones(2), "own": np.ones(2), "rule/divergence": np.array(0.25)}
    for last_round, expected in {4: (0.25, 1), 3: (0, 7)}.items():
        state = rule.receive(arrived, kept, {"own": np.full(2, 7.0)}, When(5, last_round))
        assert (state[CONV][0], state["own"][0]) == expected


def test_a_training_that_moved_nothing_fixes_no_scaler():
    rule, weight = FedEMA(scaler=None, tau=0.5, selective=False, **NAMES), {CONV: np.ones((1, 1, 1, 1, 1))}
    still = rule.keep({}, weight, weight, weight.keys())
    assert "rule/scaler" not in still and rule.share_of_own(still) == 0
    moved = rule.keep(still, weight, {CONV: weight[CONV] + 2}, weight.keys())
    assert moved["rule/scaler"] == 0.25 and rule.share_of_own(moved) == 0.5


def test_what_arrives_replaces_and_the_rest_is_the_clients_own():
    rule, fresh = Replace(), {"own": np.zeros(1)}
    for last_round, kept, expected in [(0, {}, 0), (2, {"own": np.ones(1), "optimizer/steps": np.ones(1)}, 1)]:
        state = rule.receive({"shared": np.full(1, 5)}, kept, fresh, When(3, last_round))
        assert state.keys() == {"own", "shared"} and state["own"] == expected and state["shared"] == 5
    assert rule.keep({}, state, state, {"shared"}).keys() == {"own"}
    with pytest.raises(KeyError):
        rule.receive({}, {}, fresh, When(3, 2))  # what was kept is gone


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["strategy.rule.threshold=-1"], "strategy.rule.threshold=-1 must be a number"),
        (["strategy.rule.threshold=far"], "strategy.rule.threshold=far must be a number"),
        (["strategy.rule.personal=head"], r"strategy.rule.personal=head must be a list, such as \[head\]"),
        (
            ["strategy.rule.personal=[predictor.*]"],
            r"strategy.rule.personal=\['predictor.\*'\] fits no array that travels",
        ),
        (["strategy.share=[backbone.*]"], r"personal=\['head.\*'\] fits no array that travels: see strategy.share"),
        (["strategy.rule.layers=[head.fc1.*]"], "fits no convolution of the task"),
        (["strategy=fedema", "strategy.rule.tau=-1"], "strategy.rule.tau=-1 must be a number, at least 0"),
        (["strategy=fedema", "strategy.rule.scaler=inf"], "strategy.rule.scaler=inf must be a number"),
        (["strategy=fedema", "+strategy.rule.momentum=1"], "FedEMA cannot be built: .*momentum"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_before_the_start(words, error, data_dir, tmp_path):
    with pytest.raises(ValueError, match=error):
        train(tiny_config(data_dir, "strategy=fedu", *words), tmp_path)
    assert not list(tmp_path.glob("round-*"))


def test_nothing_is_kept_for_replace_where_all_travels(fedavg):
    assert not list((fedavg / "clients").glob("*/kept-*"))
