"""Segment-Anything in a federation through fedvssl.main: what travels and what stays, resuming, failures, mistakes."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from data_tools import partition
from fedvssl.apps import client_app
from fedvssl.building import build_task, build_training, frozen_names
from fedvssl.client.client import Client, ClientError
from fedvssl.client.order import Site
from fedvssl.config import compose
from fedvssl.files.arrays import load_arrays
from fedvssl.files.run_log import read_records
from fedvssl.files.tensors import to_arrays
from fedvssl.identity import FREE, WEIGHTS_NAME, decisive_settings
from fedvssl.main import run
from fedvssl.served_run import serve_run
from fedvssl.server_run import build_run
from fedvssl.wire.wire import TRAIN
from tests.federation import LocalGrid
from tests.mask_set import prepare_shapes
from tests.tiny_sam import RUN, SMALL, tiny_sam


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lists = prepare_shapes(folder / "shapes", number=24) / "annotations"
    partition.main([f"--json_path={lists}", f"--output_path={lists / 'clients2'}", "--method=by-owner"])
    return folder


def config_of(data_dir: Path, *words: str) -> dict[str, Any]:
    return compose("base", [*RUN, f"data_dir={data_dir}", *words])


def start(run_dir: Path, data_dir: Path, *words: str) -> list[dict]:
    """Train; returns the records of the rounds."""
    run_dir.mkdir(exist_ok=True)
    run(config_of(data_dir, *words), run_dir=run_dir)
    return [record for record in read_records(run_dir / "metrics.jsonl") if "num_clients" in record]


@pytest.fixture(scope="module")
def plain(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds without anything special."""
    folder = tmp_path_factory.mktemp("plain")
    start(folder, data_dir)
    return folder


def test_only_the_decoder_travels_and_nothing_is_kept(plain: Path) -> None:
    records = [record for record in read_records(plain / "metrics.jsonl") if "num_clients" in record]
    assert [record["num_clients"] for record in records] == [2, 2]
    assert (
        records[1]["loss"] < records[0]["loss"] and {"mask_iou", "trivial_filled_box", "dice_loss"} <= records[0].keys()
    )
    saved = load_arrays(plain / "round-2-weights.npz")
    assert {name.partition(".")[0] for name in saved} == {"mask_decoder"} and len(saved) == 120
    assert not list((plain / "clients").rglob("*.npz")), "no client keeps its frozen base"


def test_a_resumed_run_reaches_the_numbers_of_an_uninterrupted_one(data_dir: Path, plain: Path, tmp_path: Path) -> None:
    start(tmp_path / "parts", data_dir, "rounds=1", "training.schedule.length=2")
    start(tmp_path / "parts", data_dir, "training.schedule.length=2")
    whole, parts = (load_arrays(folder / "round-2-weights.npz") for folder in (plain, tmp_path / "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_kept_embeddings_do_not_change_a_run(data_dir: Path, plain: Path, tmp_path: Path) -> None:
    start(tmp_path / "kept", data_dir, f"task.module.cache_dir={tmp_path / 'embeddings'}")
    pictures = [p for p in (data_dir / "shapes/pictures").rglob("*.bmp")]
    trained = sum(len(json.loads(p.read_text())) for p in (data_dir / "shapes/annotations/clients2").glob("c*.json"))
    assert len(list((tmp_path / "embeddings").rglob("*.npy"))) == trained < len(pictures)
    first, kept = (load_arrays(folder / "round-2-weights.npz") for folder in (plain, tmp_path / "kept"))
    assert all(np.allclose(first[name], kept[name], atol=1e-4) for name in first)


def test_nodes_with_pictures_of_their_own_compute_what_one_process_computes(
    data_dir: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a deployment has no picture, so it tries the task on a made-up one with an object."""
    for number in (1, 2):
        shutil.copytree(data_dir / f"shapes/pictures/owner{number}", tmp_path / f"node{number}/media/owner{number}")

    def told(partition_id: int) -> dict[str, Any]:
        own = tmp_path / f"node{partition_id + 1}"
        lists = data_dir / f"shapes/annotations/clients2/client_dist{partition_id + 1}.json"
        return {
            **{"partition-id": partition_id, "media-dir": str(own / "media"), "list": str(lists)},
            **{"state-dir": str(own / "state"), "device": "cpu", "num-workers": 0},
        }

    monkeypatch.chdir(tmp_path)
    words = [word for word in RUN if not word.startswith(("engine", "training.num_workers"))]
    serve_run(LocalGrid(client_app, 2, told=told), " ".join([*words, "start_timeout=1"]), "served")
    for number in (1, 2):
        found, wanted = (load_arrays(f / f"round-{number}-weights.npz") for f in (Path("outputs/served"), plain))
        assert found.keys() == wanted.keys()
        assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    records = [read_records(folder / "metrics.jsonl") for folder in (Path("outputs/served"), plain)]
    assert [record.keys() for record in records[0]] == [record.keys() for record in records[1]]


def test_all_may_travel_and_the_base_stays_as_it_was(data_dir: Path, tmp_path: Path) -> None:
    start(tmp_path / "run", data_dir, "strategy.share=[*]")
    first, last = (load_arrays(tmp_path / f"run/round-{number}-weights.npz") for number in (1, 2))
    moved = {name.partition(".")[0] for name in first if not np.array_equal(first[name], last[name])}
    assert moved == {"mask_decoder"} and len(first) == len(to_arrays(build_task(config_of(data_dir))))


def test_a_client_that_lacks_a_picture_fails_alone(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    for path in (tmp_path / "data/shapes/pictures/owner2").glob("*.objects.png"):
        path.write_bytes(b"no")
    with caplog.at_level(logging.WARNING):
        records = start(tmp_path / "run", tmp_path / "data", "strategy.min_fit_clients=1")
    assert [record["num_clients"] for record in records] == [1, 1]
    assert "data_tools.masks" in caplog.text


def client_of(config: dict, data_dir: Path, tmp_path: Path) -> Client:
    site = Site(config["data"]["media_dir"], config["partition_dir"], str(tmp_path / "clients"), device="cpu")
    return Client(0, site, build_training)


def test_a_client_with_another_base_is_refused_with_both_digests(data_dir: Path, tmp_path: Path) -> None:
    """Server and client have a folder of the same name, each with a model of its own."""
    words = ["model=sam", "~model.width", "task.sample.side=64", "task.sample.patch_size=8"]
    config = compose("base", [*(w for w in RUN if w not in SMALL), f"data_dir={data_dir}", "model=sam", *words[2:]])
    config["model"]["weights"] = "weights"
    folders = {"server": 0, "client": 1}
    for name, seed in folders.items():
        (tmp_path / name).mkdir()
        tiny_sam(seed=seed).save(tmp_path / name / "weights")
    before = Path.cwd()
    try:
        os.chdir(tmp_path / "server")
        built = build_run(config, run_dir=tmp_path / "server")
        digest = json.loads(built.settings)["base"]
        order = {"config": built.settings, "lr-factor": 1.0, "server-round": 1, "kept-round": 0}
        arrays, facts = client_of(config, data_dir, tmp_path).answer(TRAIN, built.shared, order)
        assert arrays.keys() == built.shared.keys() and facts["num-examples"]
        os.chdir(tmp_path / "client")
        from fedvssl.client.client import local_training

        local_training.cache_clear()
        with pytest.raises(ClientError, match=f"digest [0-9a-f]{{16}}, those of the server {digest}.*model.weights"):
            client_of(config, data_dir, tmp_path).answer(TRAIN, built.shared, order)
    finally:
        os.chdir(before)


def test_other_weights_in_the_folder_are_another_run_and_another_place_is_the_same(
    data_dir: Path, tmp_path: Path
) -> None:
    def settings(folder: str) -> dict:
        config = config_of(data_dir)
        return decisive_settings({**config, "model": {**config["model"], "weights": str(tmp_path / folder)}})

    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    changed = [
        {key for key in one if one[key] != other.get(key)} - {"model.weights"}
        for one, other in ((settings("a"), settings("b")), (settings("a"), settings("c")))
    ]
    assert changed == [set(), {"contents of model.weights"}]
    names = [settings(name)[WEIGHTS_NAME] for name in ("some/one", "some/other")]  # downloaded, there is no folder
    assert names[0] != names[1] and WEIGHTS_NAME not in FREE


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["task.frozen=[encoder.*]"], "task.frozen: no array of the task is called 'encoder"),
        (["init=here.npz"], "needs a task with a backbone"),
        (["task.sample.side=60"], "side=60 must be a multiple of patch_size=8"),
        (["task.sample.side=32"], "set side=64 and patch_size=8"),
        (["task.sample.num_boxes=0"], "num_boxes=0 must be a whole number, at least 1"),
        (["eval.every=1"], "eval.every"),
    ],
)
def test_mistakes_get_a_sentence(words: list[str], sentence: str, data_dir: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "here.npz", x=np.zeros(1))
    words = [word.replace("here.npz", str(tmp_path / "here.npz")) for word in words]
    with pytest.raises(ValueError, match=sentence):
        start(tmp_path / "run", data_dir, *words)


def test_batch_norm_cannot_be_frozen() -> None:
    config = compose("base", ["task=simclr", "model=resnet18", "model.width=4", "task.frozen=[backbone.bn1.*]"])
    with pytest.raises(ValueError, match=r"backbone\.bn1\.num_batches_tracked, which every step changes"):
        build_task(config)
    config = compose("base", ["task=simclr", "model=resnet18", "model.width=4", "task.frozen=[backbone.conv1.*]"])
    task = build_task(config)
    assert [name for name, p in task.named_parameters() if not p.requires_grad] == ["backbone.conv1.weight"]
    assert frozen_names(task.state_dict(), ["backbone.conv1.*"]) == {"backbone.conv1.weight"}
