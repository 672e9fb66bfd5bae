import json
import logging
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from fedvssl import server_run
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.rounds import round_path
from fedvssl.server_run import build_run, bytes_kept
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.fedvssl import FedVSSL
from tests.federation import initial_arrays, strategy_of, tiny_config, train


def test_a_run_whose_records_are_lost_is_refused(data_dir, tmp_path):
    config = tiny_config(data_dir, "rounds=1")
    train(config, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"metrics\.jsonl does not reach round 1"):
        build_run(config, run_dir=tmp_path)


def parts(config) -> list[dict[str, np.ndarray]]:
    """Initial arrays of the backbone and of the head."""
    state = initial_arrays(config)
    return [{n: a for n, a in state.items() if n.startswith(part)} for part in ("backbone.", "head.")]


def test_a_disk_that_is_too_small_is_told_before_the_start(data_dir, tmp_path, monkeypatch):
    config = tiny_config(data_dir, "rounds=4", "keep_last=2", "pool_size=3")
    strategy, (shared, head) = strategy_of(config), parts(config)
    sizes = [sum(a.nbytes for a in part.values()) for part in (shared, head)]
    files = {"rounds": 4, "round_bytes": sizes[0], "kept_bytes": sizes[1]}
    needed = bytes_kept(strategy.rounds, keep_last=2, **files)
    assert needed == 3 * sizes[0] + 2 * 3 * sizes[1]
    assert bytes_kept(strategy.rounds, keep_last=None, **files) - needed == sizes[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(ValueError, match=r"need 0\.\d GB more in .*, 0\.\d GB are free: lower keep_last"):
        build_run(config, run_dir=tmp_path)
    head = tmp_path / "clients/client_2/kept-round-1.npz"
    head.parent.mkdir(parents=True)
    head.write_bytes(b"..")
    build_run(config, run_dir=tmp_path)  # what is there already is not needed again


def test_the_disk_check_counts_the_state_of_optimizers(data_dir, tmp_path, monkeypatch):
    config = tiny_config(data_dir, "rounds=2", "optimizer=adamw")
    keeping = {**config, "training": {**config["training"], "keep_optimizer": True}}
    shared, head = parts(config)
    train(keeping, tmp_path)
    head_bytes = sum(array.nbytes for array in head.values())
    kept = load_arrays(tmp_path / "clients/client_1/kept-round-2.npz")
    more = sum(array.nbytes for array in kept.values()) - head_bytes
    weights = sum(array.nbytes for array in [*shared.values(), *head.values()])
    assert more > 2 * weights - 10_000, "two moments of every weight"
    needs = []
    monkeypatch.setattr(server_run, "check_disk", lambda run_dir, *, needed: needs.append(needed))
    for number, some in enumerate((keeping, config)):
        build_run(some, run_dir=tmp_path / str(number))
    assert needs[0] - needs[1] == 2 * 3 * more


def test_a_run_starts_from_the_backbone_of_init(data_dir, tmp_path, caplog):
    config = tiny_config(data_dir)
    fresh, other = initial_arrays(config), initial_arrays({**config, "seed": 11})
    shared = {name: array for name, array in other.items() if name.startswith("backbone.")}
    save_arrays(tmp_path / "round-3-weights.npz", shared)
    with caplog.at_level(logging.INFO, logger="fedvssl"):
        arrays = initial_arrays({**config, "init": str(tmp_path / "round-3-weights.npz")})
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, {**fresh, **shared}[name])
    assert f"init: all {len(shared)} arrays of the backbone from {tmp_path}" in caplog.text
    with pytest.raises(ValueError, match=r"No file .*round-9"):
        initial_arrays({**config, "init": str(tmp_path / "round-9-weights.npz")})
    wider = tiny_config(data_dir, "model.width=8", f"init={tmp_path / 'round-3-weights.npz'}")
    with pytest.raises(ValueError, match=r"in .*round-3-weights.npz and .* in this configuration"):
        initial_arrays(wider)


def test_the_published_switch_is_fedavg_of_the_whole_model(data_dir):
    plain, switched, named = (
        strategy_of(tiny_config(data_dir, *words)) for words in ((), ("strategy.fedavg=true",), ("strategy=fedavg",))
    )
    assert (type(plain), type(switched), type(named)) == (FedVSSL, FedVSSL, FedAvg)
    assert switched.share == named.share == ["*"] and switched.averages() == named.averages() == {"video": 1.0}


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ("[backbon.*]", "no array of the task is called 'backbon.*'; there is backbone.stem.conv.weight"),
        ('["*","!batchnorm"]', "no array of the task is called '!batchnorm'"),
        ('["*","!*bn*","!*downsample.1.*","bn"]', "no array of the task is called 'bn'"),
        ('["!head.*"]', "shares nothing: begin with 'backbone.*'"),
        ("[]", "shares nothing"),
    ],
)
def test_what_is_shared_is_checked_before_the_run(share, words, data_dir, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        build_run(tiny_config(data_dir, f"strategy.share={share}"), run_dir=tmp_path)


def test_batchnorm_stays_with_each_client_under_fedbn(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy=fedbn", "rounds=2")
    train(config, tmp_path)
    shared = load_arrays(round_path(tmp_path, 2))
    kept = [load_arrays(tmp_path / f"clients/client_{number + 1}/kept-round-2.npz") for number in range(3)]
    assert shared and not any("bn" in name for name in shared) and all("bn" in name for name in kept[0])
    assert shared.keys() | kept[0].keys() == initial_arrays(config).keys()
    name = "backbone.stem.bn.running_mean"
    assert not np.array_equal(kept[0][name], kept[1][name])
    with pytest.raises(ValueError, match=r"eval\.every needs the whole backbone, but strategy\.share leaves \d+"):
        build_run(tiny_config(data_dir, "strategy=fedbn", "eval.every=1"), run_dir=tmp_path / "other")
    with pytest.raises(ValueError, match=r"init needs the whole backbone"):
        save_arrays(
            tmp_path / "init.npz", {n: a for n, a in initial_arrays(config).items() if n.startswith("backbone.")}
        )
        build_run(tiny_config(data_dir, "strategy=fedbn", f"init={tmp_path / 'init.npz'}"), run_dir=tmp_path / "other")


def test_the_learning_rate_follows_the_rounds(data_dir, tmp_path):
    run = build_run(tiny_config(data_dir, "training.steps=[2,4]"), run_dir=tmp_path)
    factors = [run.order(server_round)["lr-factor"] for server_round in range(1, 7)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert json.loads(str(run.order(1)["config"]))["training"]["batch_size"] == 4


def test_the_seed_decides_the_initial_model(data_dir):
    one, same, other = (initial_arrays(tiny_config(data_dir, f"seed={seed}")) for seed in (1, 1, 2))
    name = "backbone.stem.conv.weight"
    np.testing.assert_array_equal(one[name], same[name])
    assert not np.array_equal(one[name], other[name])


def test_arrays_of_another_model_in_the_folder_are_refused(data_dir, tmp_path):
    save_arrays(round_path(tmp_path, 1), {"backbone.w": np.zeros(1)})
    with pytest.raises(ValueError, match="holds another model"):
        build_run(tiny_config(data_dir), run_dir=tmp_path)
