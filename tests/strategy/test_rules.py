"""Rules in a federation: FedU and FedEMA with a head of Catch-the-Patch that travels and may be the client's own."""

import numpy as np
import pytest

from fedvssl.client import training
from fedvssl.client.client import ClientError
from fedvssl.config import compose
from fedvssl.files.arrays import load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.models.r3d import R3D
from fedvssl.strategy.divergence import convolutions, divergence
from fedvssl.strategy.fedema import FedEMA
from fedvssl.strategy.rule import Replace, When
from tests.federation import client_of, order_of, sent_arrays, tiny_config, train

LAYERS = ["backbone.*", "!*downsample*"]
FEDAVG = ("strategy=fedavg", "strategy.share=['backbone.*','head.*']")
NAMES = {"personal": ["head.*"], "layers": LAYERS}
KEPT = ("training.keep_optimizer=true",)
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
    ("words", "same"),
    [
        (("strategy=fedu", "strategy.rule.threshold=0"), ()),
        (("strategy=fedema",), ()),
        (("strategy=fedema", "strategy.rule.scaler=1e5"), KEPT),
    ],
    ids=["FedU", "FedEMA", "FedEMA with a constant and kept optimizers"],
)
def test_a_client_goes_on_with_its_own_part_also_after_a_new_start(words, same, data_dir, tmp_path):
    train(tiny_config(data_dir, *FEDAVG, *same, "rounds=2"), tmp_path / "fedavg")
    train(tiny_config(data_dir, *words, *same, "rounds=3"), tmp_path / "whole")
    assert is_equal(shared_after(tmp_path / "whole", 1), shared_after(tmp_path / "fedavg", 1)), "nothing is kept yet"
    head, other = (shared_after(tmp_path / name, 2)[HEAD] for name in ("whole", "fedavg"))
    assert not np.allclose(head, other, rtol=1e-3, atol=0), "more than rounding"
    for rounds in (1, 2, 3):  # each from the files that the last one has left
        train(tiny_config(data_dir, *words, *same, f"rounds={rounds}"), tmp_path / "parts")
    assert is_equal(shared_after(tmp_path / "whole", 3), shared_after(tmp_path / "parts", 3))


def test_the_facts_of_a_rule_are_recorded_for_each_client_and_round(data_dir, tmp_path):
    train(tiny_config(data_dir, "strategy=fedema"), tmp_path)
    records = [record for record in read_records(tmp_path / "metrics.jsonl") if "partition_id" in record]
    assert len(records) == 6 and all(record["divergence"] > 0 for record in records)
    for partition_id in range(3):
        first, second = (record for record in records if record["partition_id"] == partition_id)
        assert first["scaler"] == second["scaler"] == pytest.approx(0.7 / first["divergence"])
        assert first["own_share"] == pytest.approx(0.7)
        assert second["own_share"] == pytest.approx(min(1, second["scaler"] * second["divergence"]))


def test_the_client_measures_how_far_it_moved(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedu")
    sent = sent_arrays(config, prefix="")
    trained, facts = client_of(config, tmp_path, 1).answer("train", sent, order_of(config))
    assert facts["divergence"] == pytest.approx(divergence(sent, trained, LAYERS)) and facts["divergence"] > 0
    kept = load_arrays(tmp_path / "clients/client_2/kept-round-1.npz")
    assert {name for name in kept if not name.startswith("head.")} == {"rule/divergence", "rule/own_share"}
    np.testing.assert_array_equal(kept[HEAD], trained[HEAD])


def test_the_divergence_is_measured_from_what_the_client_installs(data_dir, tmp_path, monkeypatch):
    """Not from what arrives."""
    config = tiny_config(data_dir, "strategy=fedema", "strategy.rule.scaler=1e6")
    sent, client, starts = sent_arrays(config, prefix=""), client_of(config, tmp_path, 1), []
    monkeypatch.setattr(
        training, "load_state", lambda task, a, load=training.load_state: starts.append(a) or load(task, a)
    )
    client.answer("train", sent, order_of(config))
    other = {name: array * 1.5 if array.dtype.kind == "f" else array for name, array in sent.items()}
    trained, facts = client.answer("train", other, order_of(config, 2, kept_round=1))
    assert not np.array_equal(starts[1][CONV], other[CONV])
    assert facts["divergence"] == pytest.approx(divergence(starts[1], trained, LAYERS))
    assert facts["divergence"] != pytest.approx(divergence(other, trained, LAYERS))


def test_a_client_that_missed_a_round_begins_anew_if_the_rule_is_selective():
    rule = FedEMA(scaler=None, tau=0.7, mix=["*"], selective=True, **NAMES)
    facts = {"rule/divergence": np.array(0.25), "rule/scaler": np.array(1.0), "rule/own_share": np.array(0.25)}
    arrived, kept = {CONV: np.zeros(2)}, {CONV: np.ones(2), "own": np.ones(2), **facts}
    for last_round, expected in {4: (0.25, 1), 3: (0, 7)}.items():
        state = rule.receive(arrived, kept, {"own": np.full(2, 7.0)}, When(5, last_round))
        assert (state[CONV][0], state["own"][0]) == expected
    weight = {CONV: np.ones((1, 1, 1, 1, 1))}
    assert rule.keep(kept, weight, {CONV: weight[CONV] + 2}, weight.keys())["rule/scaler"] == 1, "the first one's"


def test_a_training_that_moved_nothing_fixes_no_scaler():
    rule, weight = FedEMA(scaler=None, tau=0.5, mix=["*"], selective=False, **NAMES), {CONV: np.ones((1, 1, 1, 1, 1))}
    still = rule.keep({}, weight, weight, weight.keys())
    assert "rule/scaler" not in still and still["rule/own_share"] == 0
    moved = rule.keep(still, weight, {CONV: weight[CONV] + 2}, weight.keys())
    assert moved["rule/scaler"] == 0.25 and moved["rule/own_share"] == 0.5


def test_the_files_have_the_values_of_the_papers():
    fedu, fedema = (compose("base", [f"strategy={name}"])["strategy"] for name in ("fedu", "fedema"))
    assert fedu["rule"]["threshold"] == 0.4
    assert [fedema["rule"][name] for name in ("scaler", "tau", "selective")] == [None, 0.7, False]
    state = {f"backbone.{name}": tensor.numpy() for name, tensor in R3D(18, width=4).state_dict().items()}
    for strategy in (fedu, fedema):
        assert strategy["rule"]["personal"] == ["head.*"] and strategy["share"] == ["*"]
        assert len(convolutions(state, strategy["rule"]["layers"])) == 17


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
        (["strategy.rule.personal=head"], r"strategy.rule.personal=head must be a list of names, such as \[head"),
        (
            ["strategy.rule.personal=[predictor.*]"],
            r"strategy.rule.personal=\['predictor.\*'\] fits no array that travels",
        ),
        (["strategy.share=[backbone.*]"], r"personal=\['head.\*'\] fits no array that travels: set task.personal"),
        (["strategy.rule.layers=[head.fc1.*]"], r"strategy.rule.layers: 'head.fc1.\*' fits no convolution of the task"),
        (["strategy.rule.layers=['backbone.*','!*shortcut*']"], r"layers: '!\*shortcut\*' fits no convolution"),
        (["strategy.rule.layers=[]"], r"strategy.rule.layers=\[\] fits no convolution"),
        (["strategy.rule.layers=[1]"], r"strategy.rule.layers=\[1\] must be a list of names"),
        (["strategy.rule.threshold=true"], "strategy.rule.threshold=True must be a number"),
        (
            ["strategy=fedema", "strategy.rule.selective=perhaps"],
            "strategy.rule.selective=perhaps must be true or false",
        ),
        (
            ["strategy=fedema", "strategy.rule.scaler=true"],
            "strategy.rule.scaler=True must be null or a number, at least 0",
        ),
        (["strategy=fedema", "strategy.rule.tau=99"], r"strategy.rule.tau=99 must be a number from 0 to 1"),
        (["strategy=fedema", "strategy.rule.tau=-1"], "strategy.rule.tau=-1 must be a number from"),
        (["strategy=fedema", "strategy.rule.scaler=inf"], "strategy.rule.scaler=inf must be null or a number"),
        (["strategy=fedema", "+strategy.rule.momentum=1"], "FedEMA cannot be built: .*momentum"),
        (["strategy=fedema", "strategy.rule.mix=[head.*,tail.*]"], r"rule\.mix: 'tail\.\*' fits no array that travels"),
        (["strategy=fedema", "strategy.rule.mix=['*running_mean']"], "mixes no weight that travels"),
        (
            ["strategy=fedbyol", "strategy.rule.follower=backbone."],
            "follower=backbone. begins the names of arrays that",
        ),
        (["strategy=fedbyol", "strategy.rule.sends=follower"], "follower=target. begins the name of no array"),
        (["strategy=fedbyol", "strategy.rule.sends=both"], "strategy.rule.sends=both must be encoder or follower"),
        (["strategy=fedbyol", "strategy.rule.own_encoder=2"], r"own_encoder=2 must be a number from 0 to 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_before_the_start(words, error, data_dir, tmp_path):
    with pytest.raises(ValueError, match=error):
        train(tiny_config(data_dir, "strategy=fedu", *words), tmp_path)
    assert not list(tmp_path.glob("round-*"))


def test_nothing_is_kept_for_replace_where_all_travels(fedavg):
    assert not list((fedavg / "clients").glob("*/kept-*"))


class Own(Replace):
    """A rule of somebody's own with a mistake."""

    reports = ("moved",)

    def __init__(self, *, mistake: str) -> None:
        self.mistake = mistake
        self.reports = ("iou",) if mistake == "name" else self.reports

    def receive(self, arrived, kept, initial, when):
        state = super().receive(arrived, kept, initial, when)
        if self.mistake == "receive":
            del state[CONV]
        return state | ({"head.fc1.bias": 1 / len(kept)} if self.mistake == "raises" else {})

    def keep(self, kept, start, state, shared):
        fact = {"float": 0.5, "vector": np.ones(2)}.get(self.mistake, np.array(0.5))
        return super().keep(kept, start, state, shared) | {"rule/moved": fact}

    def send(self, state, shared):
        shift = np.float64(1) if self.mistake == "send" else 0
        return {name: np.asarray(state[name] + shift) for name in shared}

    def warning(self, reports):
        return reports[0]["unknown"] if self.mistake == "warning" else ""


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ("name", "Own reports 'iou', a name that is taken"),
        ("receive", "Own.receive gives other names or shapes than those of the task"),
        ("send", "Own.send gives other names, shapes or dtypes than what travels"),
        ("raises", "Own fails on the initial arrays: ZeroDivisionError"),
        ("float", "Own fails on the initial arrays: AttributeError: 'float' object has no attribute 'nbytes'"),
        ("vector", "Own fails on the initial arrays: TypeError"),
        ("warning", "Own fails on the initial arrays: KeyError: 'unknown'"),
    ],
)
def test_a_mistake_in_a_rule_of_ones_own_is_told_before_the_start(mistake, error, data_dir, tmp_path):
    with pytest.raises(ValueError, match=error):
        train(own_rule(data_dir, mistake), tmp_path)


def own_rule(data_dir, mistake: str) -> dict:
    config = tiny_config(data_dir, *FEDAVG)
    config["strategy"]["rule"] = {"_target_": f"{__name__}.Own", "mistake": mistake}
    return config


def test_a_rule_that_only_reports_keeps_a_file(data_dir, tmp_path):
    train(own_rule(data_dir, "none"), tmp_path)
    assert [r["moved"] for r in read_records(tmp_path / "metrics.jsonl") if "partition_id" in r] == [0.5] * 6
    assert load_arrays(tmp_path / "clients/client_1/kept-round-2.npz").keys() == {"rule/moved"}


def test_what_a_client_has_lost_is_told_with_what_to_do(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedu")
    with pytest.raises(ClientError, match=r"No file .*kept-round-4\.npz: restore it, or .* from_round=3; then"):
        client_of(config, tmp_path, 0).answer(
            "train", sent_arrays(config, prefix=""), order_of(config, 5, kept_round=4)
        )


@pytest.mark.parametrize(("scaler", "expected"), [("1e9", 1), ("0.01", 0)])
def test_clients_that_all_go_on_alone_under_fedema_are_told_once(scaler, expected, data_dir, tmp_path, caplog):
    train(tiny_config(data_dir, "strategy=fedema", f"strategy.rule.scaler={scaler}", "rounds=3"), tmp_path)
    found = [line for line in caplog.messages if "takes nothing of those that arrive" in line]
    assert len(found) == expected
    if found:
        moved = [r["divergence"] for r in read_records(tmp_path / "metrics.jsonl") if r.get("partition_id") is not None]
        assert found[0].startswith("round 2: all 3 clients report own_share 1")
        assert f"set strategy.rule.scaler below {1 / np.mean(moved[3:6]):.3g}," in found[0]


def test_a_client_that_hides_its_share_is_not_warned_of():
    rule = FedEMA(scaler=1, tau=0.5, mix=["*"], selective=False, personal=[], layers=[])
    alone = {"own_share": 1.0, "divergence": 0.0}
    assert rule.warning([alone, {"divergence": 9.0}]) == "" and "all 1 clients" in rule.warning([alone])
