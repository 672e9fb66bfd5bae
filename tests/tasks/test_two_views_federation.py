"""Tasks of two views in a federation in one process: what travels, what stays, and that clips serve as well."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedvssl import building
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from fedvssl.server_run import build_run, check_share
from tests.federation import client_of, initial_arrays, order_of, strategy_of, write_clients
from tests.tasks.test_views import write_pictures

SMALL = (
    *("engine=local", "rounds=2", "pool_size=2", "strategy.min_fit_clients=2", "training.batch_size=4"),
    *("training.lr=0.03", "training.precision=32-true", "client_resources={num_gpus: 0, num_cpus: 1}"),
    *("task.module.projector.out_channels=8", "model.width=4"),
)
PICTURES = ("model=resnet18", "task.sample.max_side=16", "strategy=fedavg")
HIDDEN = "task.module.projector.hidden_channels=16"
PREDICTOR = "task.module.predictor.hidden_channels=16"
WITH_PREDICTOR = "strategy.share=[backbone.*,projector.*,predictor.*]"
WORDS = {
    "simclr": (HIDDEN,),
    "byol": (HIDDEN, PREDICTOR, WITH_PREDICTOR),
    "simsiam": (HIDDEN, PREDICTOR, WITH_PREDICTOR),
    "moco_v1": ("task.module.queue_length=12", "strategy.share=[backbone.*,projector.*]"),
    "moco_v2": ("task.module.queue_length=12", "strategy.share=[backbone.*,projector.*]"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures for each of two clients: the last batch of an epoch has one."""
    folder = tmp_path_factory.mktemp("pictures")
    annotations = write_pictures(folder / "zips", 18, side=16)
    for client in range(2):
        write_annotations(folder / f"lists/client_dist{client + 1}.json", annotations[9 * client : 9 * client + 9])
    return folder


def train(folder: Path, run_dir: Path, *words: str) -> list[dict]:
    """Run and return the records of the rounds."""
    places = (f"data.media_dir={folder / 'zips'}", f"partition_dir={folder / 'lists'}")
    run_dir.mkdir()
    run(compose("base", [*SMALL, *places, *words]), run_dir=run_dir)
    return [record for record in read_records(run_dir / "metrics.jsonl") if "num_clients" in record]


@pytest.mark.parametrize("task", WORDS)
def test_two_rounds_on_pictures(pictures: Path, tmp_path: Path, task: str) -> None:
    rounds = train(pictures, tmp_path / "run", f"task={task}", *PICTURES, *WORDS[task])
    trivial = "trivial_chance" if task in ("simclr", "moco_v1", "moco_v2") else "trivial_orthogonal"
    assert len(rounds) == 2 and {"loss", trivial, "embedding_std"} < rounds[0].keys()
    assert ("active_share" in rounds[0]) is (task != "moco_v1"), "its projector is one layer"
    sent = {name.split(".")[0] for name in load_arrays(tmp_path / "run/round-2-weights.npz")}
    assert sent == {"backbone", "projector"} | ({"predictor"} if task in ("byol", "simsiam") else set())
    if task in ("simclr", "simsiam"):
        return
    kept = [load_arrays(tmp_path / f"run/clients/client_{client + 1}/kept-round-2.npz") for client in range(2)]
    follower = "target" if task == "byol" else "key_encoder"
    assert all({name.split(".")[0] for name in own} >= {follower} for own in kept)
    assert all(own[f"{follower}.rounds"] == 2 for own in kept)
    weight = f"{follower}.backbone.conv1.weight"
    assert not np.array_equal(kept[0][weight], kept[1][weight]), "each client has its own"
    if follower == "key_encoder":
        in_two_rounds = 2 * 2 * 8  # of 9 pictures one would be a batch of its own
        assert all(own["queue.place"] == in_two_rounds % 12 for own in kept), "the queue goes on after a round"
        assert not np.array_equal(kept[0]["queue.keys"], kept[1]["queue.keys"])


def test_a_queue_shorter_than_a_batch_gets_a_sentence(pictures: Path, tmp_path: Path) -> None:
    words = ("task=moco_v2", *PICTURES, *WORDS["moco_v2"], "task.module.queue_length=7")
    with pytest.raises(ValueError, match=r"queue_length=7 is shorter than the 8 keys of a batch: raise it"):
        train(pictures, tmp_path / "run", *words)
    assert not list((tmp_path / "run").iterdir()), "before the run starts"


def test_a_client_with_a_single_picture_is_refused_before_the_run(pictures: Path, tmp_path: Path) -> None:
    one = tmp_path / "lists/client_dist2.json"
    shutil.copytree(pictures / "lists", one.parent)
    write_annotations(one, read_annotations(one)[:1])
    words = ("task=simclr", *PICTURES, HIDDEN, f"partition_dir={one.parent}")
    with pytest.raises(ValueError, match=r"client_dist2\.json lists 1 sample, SimCLR compares at least 2"):
        train(pictures, tmp_path / "run", *words)


def test_a_map_of_one_pixel_needs_no_batch_of_one(pictures: Path, tmp_path: Path) -> None:
    """Of 9 pictures in batches of 4 one is left over; the ImageNet stem leaves it one pixel, which has no variance."""
    (record,) = train(pictures, tmp_path / "run", "task=simclr", *PICTURES, HIDDEN, "model.stem=imagenet", "rounds=1")
    assert record["num_clips"] == 16


@pytest.mark.parametrize(("drop_last", "trained"), [(False, 18), (True, 12)])
def test_what_is_left_after_whole_batches_trains_or_not(
    pictures: Path, tmp_path: Path, drop_last: bool, trained: int
) -> None:
    """Of 9 pictures in batches of 6, SimCLR has 3 left over."""
    words = ("task=simclr", *PICTURES, HIDDEN, "training.batch_size=6", f"training.drop_last={drop_last}", "rounds=1")
    (record,) = train(pictures, tmp_path / "run", *words)
    assert record["num_clips"] == trained


def test_two_clips_of_a_video_through_the_same_task(tmp_path: Path) -> None:
    write_clients(tmp_path, (4, 5))
    words = ("task=simclr_clips", "model.depth=10", "strategy=fedavg", "rounds=1", HIDDEN)
    words += ("task.sample.clip_len=8", "task.sample.strides=[1]", "task.sample.crop_size=32")
    words += (f"data_dir={tmp_path}", "training.lr=0.01")
    (tmp_path / "run").mkdir()
    run(compose("base", [*SMALL, *words]), run_dir=tmp_path / "run")
    records = [record for record in read_records(tmp_path / "run/metrics.jsonl") if "num_clients" in record]
    assert len(records) == 1 and 0 < records[0]["loss"] < 4 and records[0]["embedding_std"] > 0.01


@pytest.mark.parametrize(("task", "private"), [("byol", "target."), ("moco_v1", "key_encoder."), ("moco_v2", "queue.")])
@pytest.mark.parametrize("strategy", ["strategy=fedavg", "strategy=fedu", "strategy=fedadam", "strategy.fedavg=true"])
def test_what_must_stay_with_its_client_does_not_travel(task: str, private: str, strategy: str, tmp_path: Path) -> None:
    words = [f"task={task}", "model=resnet18", "model.width=8", strategy, HIDDEN, "pool_size=2"]
    words += ["strategy.min_fit_clients=2"]
    config = compose("base", words)
    names = list(building.build_task(config).state_dict())
    own = {name for name in names if name.startswith(private)}
    run = build_run(config, run_dir=tmp_path)
    assert own and run.shared.keys() == run.initial().keys() and not own & run.shared.keys()
    asked = compose("base", [*words, f"strategy.share=['backbone.*','{private}*']"])
    if strategy != "strategy.fedavg=true":  # which takes no other share
        with pytest.raises(ValueError, match=rf"'{private}\*' asks for .* stay with their client \(task\.private\)"):
            build_run(asked, run_dir=tmp_path / "asked")


@pytest.mark.parametrize(
    ("private", "told"),
    [
        ("[targets.*]", r"task\.private: no array of the task is called 'targets\.\*'"),
        ("[target.*,'!target.rounds']", r"task\.private: no array of the task is called '!target\.rounds'"),
        ("target.*", r"task\.private=target\.\* must be a list"),
        ("null", r"task\.private=None must be a list"),
        ("[]", r"round-1-weights\.npz holds another model"),  # of a run in which the target network stayed
    ],
)
def test_another_private_is_refused(private: str, told: str, tmp_path: Path) -> None:
    words = ["task=byol", "model=resnet18", "model.width=8", "strategy=fedavg", HIDDEN, f"partition_dir={tmp_path}"]
    save_arrays(round_path(tmp_path, 1), build_run(compose("base", words), run_dir=tmp_path).shared)
    words += [f"task.private={private}", "strategy.share=['*','!*downsample*']" if "targets" in private else "seed=7"]
    with pytest.raises(ValueError, match=told):
        build_run(compose("base", words), run_dir=tmp_path)


def test_a_strategy_that_lets_private_arrays_travel_is_refused() -> None:
    config = compose("base", ["task=byol", "model=resnet18", "model.width=8", "strategy=fedavg", HIDDEN])
    names, strategy = list(building.build_task(config).state_dict()), strategy_of(config)
    with pytest.raises(ValueError, match=r"must stay with their client \(task\.private\), but FedAvg\.is_shared lets"):
        check_share(strategy, names, private=config["task"]["private"])


@pytest.mark.parametrize("words", [["task=simclr", "model=resnet18"], ["task=simclr", "model=resnet50"], ["task=ctp"]])
def test_no_batchnorm_travels_under_fedbn(words: list[str]) -> None:
    config = compose("base", [*words, "model.width=8", "strategy=fedbn"])
    strategy, names = strategy_of(config), list(building.build_task(config).state_dict())
    check_share(strategy, names)
    layers = {name.removesuffix("running_mean") for name in names if name.endswith("running_mean")}
    own = {name for name in names if name.rpartition(".")[0] + "." in layers}
    assert len(own) > 20 and {name for name in names if not strategy.is_shared(name)} == own


@pytest.mark.parametrize(
    "words",
    [
        ("fedu", "strategy.rule.threshold=0"),
        ("fedema", "strategy.rule.scaler=1e9"),
        ("fedbyol", "strategy.rule.own_encoder=1", "strategy.rule.own_predictor=1"),
        ("fedbyol", "strategy.rule.sends=follower"),
    ],
    ids=["FedU", "FedEMA", "standalone", "the target network is sent"],
)
def test_a_client_with_fewer_steps_than_others_is_not_refused_for_its_own_counters(
    words: tuple[str, ...], pictures: Path, tmp_path: Path
) -> None:
    """The server refuses counters of BatchNorm that go back, and has those of the client with the most steps."""
    places = (f"data.media_dir={pictures / 'zips'}", f"partition_dir={pictures / 'lists'}", "training.num_workers=0")
    name, *settings = words
    config = compose(
        "base", [*SMALL, *places, "task=byol", *PICTURES, HIDDEN, PREDICTOR, f"strategy={name}", *settings]
    )
    client, names = client_of(config, tmp_path, 0), initial_arrays(config)
    arrived = {name: array for name, array in names.items() if not name.startswith("target.")}
    client.answer("train", arrived, order_of(config))
    arrived |= {name: array + 100 for name, array in arrived.items() if array.dtype.kind != "f"}
    replied, _ = client.answer("train", arrived, order_of(config, 2, kept_round=1))
    counters = [name for name, array in arrived.items() if array.dtype.kind != "f"]
    assert len(counters) > 20 and all(replied[name] >= arrived[name] for name in counters)
    assert all(type(replied[name]) is np.ndarray and replied[name].dtype == np.int64 for name in counters)
