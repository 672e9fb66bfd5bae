"""What a client of FedBYOL, FedU, FedEMA and of their ablations installs, beside EasyFL's own code.

Fixtures: fedssl_policies. The online encoder and the predictor travel; the target encoder does not, or in the place of
the online one. At a first contact the target is a copy of the arriving encoder, which the task's initial arrays stand
for here.
"""

import numpy as np
import pytest
from torch import nn

from fedvssl.files.arrays import Arrays
from fedvssl.models import r3d
from fedvssl.strategy.average import RunningMean
from fedvssl.strategy.divergence import convolutions, divergence
from fedvssl.strategy.fedbyol import FedBYOL
from fedvssl.strategy.fedema import FedEMA
from fedvssl.strategy.fedu import FedU
from fedvssl.strategy.rule import Rule, When, facts_of, sent
from tests.parity.reference import hash_weights, load_json, load_npz

ARRAYS, META = load_npz("fedssl_policies"), load_json("fedssl_policies_meta")
ONLINE, PREDICTOR, TARGET = "encoder.", "predictor.", "target.encoder."
OURS = {
    "online_encoder/": ONLINE,
    "online_predictor/": PREDICTOR,
    "target_encoder/": TARGET,
}  # by the reference's parts
NAMES = {"personal": [PREDICTOR + "*"], "layers": [ONLINE + "*", "!*shortcut*"]}
SIZE = {**NAMES, "tau": 0.7, "selective": False, "mix": ["*"]}


def byol(encoder: float = 0, predictor: float = 0, target: float = 1, sends: str = "encoder") -> FedBYOL:
    shares = {"own_encoder": encoder, "own_predictor": predictor, "own_follower": target}
    return FedBYOL(**shares, sends=sends, follower="target.", personal=NAMES["personal"])


# Case of the fixture -> (rule, divergence and scaler of the last training, the round of it and this one).
CASES: dict[str, tuple[Rule, float | None, float | None, When]] = {
    "fedbyol": (byol(), None, None, When(4, 3)),
    "predictor_local": (byol(predictor=1), None, None, When(4, 3)),
    "aggregate_target_update_online": (byol(sends="follower"), None, None, When(4, 3)),
    "aggregate_target_update_target": (byol(1, target=0, sends="follower"), None, None, When(4, 3)),
    "aggregate_target_update_both": (byol(target=0, sends="follower"), None, None, When(4, 3)),
    "aggregate_online_update_target": (byol(1, target=0), None, None, When(4, 3)),
    "update_both": (byol(target=0), None, None, When(4, 3)),
    "standalone": (byol(1, 1), None, None, When(4, 3)),
    "ema_constant_0.3_0.6": (byol(0.3, 0.6), None, None, When(4, 3)),
    "fedu_uses_global": (FedU(threshold=0.4, **NAMES), 0.399, None, When(4, 3)),
    "fedu_uses_local": (FedU(threshold=0.4, **NAMES), 0.4, None, When(4, 3)),
    "fedema_mu0.35": (FedEMA(scaler=None, **SIZE), 0.5, 0.7, When(4, 3)),
    "fedema_mu0.72": (FedEMA(scaler=None, **SIZE), 0.9, 0.8, When(4, 1)),
    "fedema_mu_clamped": (FedEMA(scaler=0.8, **SIZE), 2.0, None, When(4, 3)),
    "fedema_mu0.5_boundary": (FedEMA(scaler=1.0, **SIZE), 0.5, None, When(4, 3)),
    "fedema_mu0.2_encoder_only": (
        FedEMA(scaler=0.8, **{**SIZE, "mix": [ONLINE + "*"]}),
        *(0.25, None, When(4, 3)),
    ),
    "fedema_selective_trained_last_round": (FedEMA(scaler=0.8, **{**SIZE, "selective": True}), 0.9, None, When(4, 3)),
    "fedema_selective_missed_a_round": (FedEMA(scaler=0.8, **{**SIZE, "selective": True}), 0.9, None, When(5, 3)),
    "first_contact": (FedEMA(scaler=None, **SIZE), None, None, When(4, 0)),
}


def arrays_of(case: str) -> Arrays:
    """encoder.conv1.weight, predictor.net.0.weight, ... of a case."""
    prefixes = ((f"{case}/{part}", own) for part, own in OURS.items())
    return {own + name.removeprefix(p): ARRAYS[name] for p, own in prefixes for name in ARRAYS if name.startswith(p)}


def sent_of(case: str, rule: Rule) -> Arrays:
    """What travels of a case, by the rule's own choice."""
    state = arrays_of(case)
    return sent(rule, state, [name for name in state if not name.startswith(TARGET)])


def facts_after(rule: Rule, distance: float, kept: Arrays) -> Arrays:
    """Facts that a client keeps after a training that has moved its one convolution by a distance."""
    weight = {ONLINE + "w": np.zeros((1, 1, 1, 1))}
    found = rule.keep(kept, weight, {ONLINE + "w": weight[ONLINE + "w"] + distance}, weight.keys())
    return {name: array for name, array in found.items() if name.startswith("rule/")}


@pytest.mark.parametrize("case", META["cases"])
def test_what_a_client_installs(case):
    rule, distance, scaler, when = CASES[case]
    arrived = sent_of("global", rule)
    initial = {name.replace(ONLINE, TARGET): array for name, array in arrived.items() if name.startswith(ONLINE)}
    kept = arrays_of("local") if when.last_round else {}
    if distance is not None:
        kept |= facts_after(rule, distance, {} if scaler is None else {"rule/scaler": np.array(scaler)})
    installed, expected = rule.receive(arrived, kept, initial, when), arrays_of(case)
    assert installed.keys() == expected.keys()
    for name, array in expected.items():
        assert installed[name].dtype == array.dtype and installed[name].shape == array.shape
        np.testing.assert_allclose(installed[name], array, rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_threshold_of_fedu():
    arrived, local, rule = arrays_of("global"), arrays_of("local"), FedU(threshold=0.4, **NAMES)
    for distance, whose in META["dapu_threshold_0.4"].items():
        facts = facts_after(rule, float(distance), {})
        assert facts_of(facts, rule.reports) == {"divergence": float(distance), "own_share": float(whose == "local")}
        for name, array in rule.receive(arrived, local | facts, {}, When(2, 1)).items():
            source = local if whose == "local" and name.startswith(PREDICTOR) else arrived
            np.testing.assert_array_equal(array, source[name])


@pytest.mark.parametrize(("scaler", "rows"), [(None, "autoscaler_tau0.7"), (0.8, "constant_0.8")])
def test_the_scaler_of_fedema_is_fixed_once(scaler, rows):
    """The divergence of round r decides mu of round r + 1; the first one decides the scaler of all."""
    rule, kept = FedEMA(scaler=scaler, **SIZE), {}
    for row in META[rows]:
        kept = facts_after(rule, row["distance"], kept)
        expected = {"divergence": row["distance"], "scaler": row["scaler"], "own_share": row["mu"]}
        assert facts_of(kept, rule.reports) == pytest.approx(expected, rel=1e-6)


class TinyNet(nn.Module):
    """The convolutions of the reference's model, by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        block = nn.Module()
        block.conv1, block.bn1 = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)
        block.conv2, block.bn2 = nn.Conv2d(6, 6, 3, bias=False), nn.BatchNorm2d(6)
        block.shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.layer1 = nn.Sequential(block)


def test_the_divergence_leaves_shortcuts_out():
    states = []
    for first_key in (0, 700):
        hash_weights(net := TinyNet(), first_key)
        states.append({name: tensor.numpy() for name, tensor in net.state_dict().items()})
    assert convolutions(states[0], ["*", "!*shortcut*"]) == list(META["divergence"]["tinynet"]["per_layer_l2"])[:3]
    expected = META["divergence"]["tinynet"]["reference"]
    assert divergence(*states, ["*", "!*shortcut*"]) == pytest.approx(expected, rel=1e-4)


def test_r3d18_has_as_many_convolutions_as_the_reference_counts():
    state = {f"backbone.{name}": tensor.numpy() for name, tensor in r3d.R3D(18, width=4).state_dict().items()}
    expected = META["divergence"]["resnet18"]["layers_included"]
    assert len(convolutions(state, ["backbone.*", "!*downsample*"])) == expected == 17


def test_the_server_averages_every_entry():
    """Counters take the maximum here; the reference truncates their mean."""
    mean = RunningMean()
    for number, num_images in enumerate(META["average"]["num_images"]):
        mean.add(arrays_of(f"average/client{number}"), np.log(num_images))
    expected = arrays_of("average/result")
    assert mean.result().keys() == expected.keys()
    for name, array in mean.result().items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
        else:
            assert array == max(arrays_of(f"average/client{number}")[name] for number in range(3))
