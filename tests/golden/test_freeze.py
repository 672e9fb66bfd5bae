"""A tiny federated run and fine-tuning give the numbers of freeze.json, which `freeze --write` renews."""

import json

import numpy as np
import pytest

from tests.golden import freeze

KEPT = json.loads(freeze.SUMMARY.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("run")
    freeze.write_videos(folder / "videos")
    freeze.train(folder / "videos", folder)
    return freeze.results(folder)


def test_losses_and_norms_are_those_that_were_kept(found: dict) -> None:
    summary = freeze.summary(found)
    assert summary.keys() == KEPT["results"].keys()
    for name, value in summary.items():
        message = f"{name}, kept on {KEPT['processor']}"
        np.testing.assert_allclose(value, KEPT["results"][name], rtol=1e-3, atol=1e-8, err_msg=message)


def test_the_run_holds_what_is_to_be_compared(found: dict) -> None:
    names = list(found)
    for part in ("fedvssl/round-3", "fedavg/round-3", "client_2/kept-round-3", "fedvssl/metrics.jsonl", "momentum 0"):
        assert any(part in name for name in names), part
    assert any(name.endswith(" loss") for name in names) and not any("seconds" in name for name in names)


def test_one_bit_is_a_difference() -> None:
    before = {"a": np.float32([1, 2]), "b": np.zeros(2), "gone": np.zeros(1)}
    after = {"a": np.nextafter(before["a"], np.float32(9)), "b": np.zeros(2), "new": np.zeros(1)}
    assert freeze.differences(before, after) == [
        "differs: a",
        "only in the earlier commit: gone",
        "only in this tree: new",
    ]
    assert freeze.differences(before, before) == [] and freeze.differences({"b": np.zeros(1)}, {"b": -np.zeros(1)})
