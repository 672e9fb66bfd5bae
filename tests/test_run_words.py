"""Words about a run: they compose for each command, and give it the run's own data, model and sizes."""

from pathlib import Path

import pytest
import yaml

from fedvssl.chosen_run import with_origin, with_run
from fedvssl.config import compose, read_command_line
from fedvssl.overrides import parse_overrides
from fedvssl.run_words import unsaid, words_of
from tests.files.test_runs import write_run

VIDEOS = [
    "data.name=mine",
    "data.num_classes=6",
    "data.split=2",
    "data_dir=/a b/{c}",
    "model.depth=10",
    "model.width=16",
]
SIZES = {"clip_len": 8, "frame_stride": 2, "crop_size": 32}
SAMPLE = [
    "task.sample.clip_len=8",
    "task.sample.crop_size=32",
    "eval.sample.clip_len=8",
    "eval.sample.crop_size=32",
    "eval.sample.size=[43,32]",
]
COMMANDS = ("retrieval", "knn", "linear_probe", "motion_probe", "semi", "finetune", "test")


def composed(words, command):
    return compose(command, parse_overrides([f"--{word}" for word in words]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_gets_the_videos_the_model_and_the_sizes(command):
    run = compose("base", [*parse_overrides([f"--{word}" for word in VIDEOS]), *SAMPLE])
    found = composed(words_of(run, command), command)
    assert found["data"]["media_dir"] == run["data"]["media_dir"] == "/a b/{c}/mine/zips"
    assert (found["data"]["num_classes"], found["data"]["split"]) == (6, 2)
    assert found["model"] == run["model"] and {name: found[name] for name in SIZES} == SIZES
    assert found["test_sample"]["size"] == [43, 32]
    if command == "finetune":  # no crop of 32 pixels out of 112
        assert found["train_sample"]["sizes"] == [[43, 32]]


def test_an_export_is_for_the_clips_of_the_training():
    run = compose("base", ["task.sample.clip_len=12", "task.sample.crop_size=64"])  # the server evaluates at 112
    found = composed(words_of(run, "export"), "export")
    assert (found["clip_len"], found["crop_size"]) == (12, 64)


def test_published_sizes_stay_those_of_fine_tuning():
    found = composed(words_of(compose("base", []), "finetune"), "finetune")
    assert found["train_sample"] == compose("finetune", [])["train_sample"]


@pytest.mark.parametrize("command", ["knn", "finetune", "test"])
def test_pictures_stay_pictures(command):
    words = ["task=simclr", "model=resnet50", "model.width=8", "data=cifar100", "task.sample.max_side=24"]
    found = composed(words_of(run := compose("base", words), command), command)
    assert found["model"] == run["model"] and found["crop_size"] == 24 and found["data"] == found["data"] | run["data"]
    assert "clip_len" not in found


@pytest.mark.parametrize(("given", "place"), [([], "data"), (["data_dir=elsewhere"], "elsewhere")])
def test_pictures_by_a_name_of_ones_own_are_looked_for_among_pictures(given, place):
    run = compose("base", ["task=simclr", "model=resnet18", "data=cifar10", "data.name=mine", "data.num_classes=3"])
    found = composed([*unsaid(words_of(run, "knn"), given), *given], "knn")["data"]
    assert found["media_dir"] == f"{place}/mine/pictures" and found["annotation_dir"] == f"{place}/mine/annotations"
    assert (found["name"], found["num_classes"]) == ("mine", 3)


def test_folders_of_ones_own_come_along():
    run = compose("base", ["data.media_dir=/videos", "data.annotation_dir=/lists"])
    found = composed(words_of(run, "knn"), "knn")["data"]
    assert (found["media_dir"], found["annotation_dir"]) == ("/videos", "/lists")


@pytest.mark.parametrize("run", [{}, {"data": None, "model": {}}, {"data": {}, "model": "x"}])
def test_of_an_unknown_configuration_there_are_no_words(run):
    assert words_of(run, "knn") == []


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ([], ["data_dir=d", "data.name=mine", "model.depth=10", "crop_size=32"]),
        (["experiment=small"], []),
        (["--crop_size=64", "+model.x=1"], ["data_dir=d", "data.name=mine", "model.depth=10"]),
        (["model=resnet18"], ["data_dir=d", "data.name=mine", "crop_size=32"]),
        (["data=hmdb51"], ["data_dir=d", "model.depth=10", "crop_size=32"]),
        (["data_dir=e"], ["data.name=mine", "model.depth=10", "crop_size=32"]),
        (["data.name=his"], ["data_dir=d", "model.depth=10", "crop_size=32"]),
    ],
)
def test_given_words_win(given, left):
    assert unsaid(["data_dir=d", "data.name=mine", "model.depth=10", "crop_size=32"], given) == left


def test_a_run_by_name_brings_its_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose("base", [*parse_overrides([f"--{word}" for word in VIDEOS]), *SAMPLE])
    run = write_run(tmp_path / "outputs/a/mine", minutes_ago=1, rounds=(3,))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = read_command_line("retrieval", ["knn", "run=last", "crop_size=48"])
    assert found["model"]["width"] == 16 and found["crop_size"] == 48 and found["data"]["name"] == "mine"
    assert compose("export", parse_overrides(with_run("export", ["run=last"])))["crop_size"] == 32
    words = with_origin("export", ["checkpoint=outputs/a/mine/round-3-weights.npz", "frame_stride=4"])
    found = compose("export", parse_overrides(words))
    assert (found["clip_len"], found["crop_size"], found["frame_stride"]) == (8, 32, 4) and found["model"][
        "depth"
    ] == 10
    assert with_origin("export", ["checkpoint=outputs/a/mine/model.pth"]) == ["checkpoint=outputs/a/mine/model.pth"]
    assert with_run("main", ["run=last"]) == ["--hydra.run.dir=outputs/a/mine"]


@pytest.mark.parametrize("name", ["2024", "2024_05", "mine"])
def test_the_name_of_a_data_set_stays_a_text(name: str) -> None:
    words = words_of({"data_dir": "d", "data": {"name": name}, "model": {}}, "knn")
    (own,) = [f"--{word}" for word in words if word.startswith("data.name")]
    assert compose("knn", parse_overrides([own]))["data"]["name"] == name


@pytest.mark.parametrize("command", ["retrieval", "export"])
def test_a_folder_from_elsewhere_does_not_choose_the_class_of_the_model(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("foreign"), minutes_ago=1, rounds=(2,))
    settings = {"data": {"name": "mine"}, "model": {"_target_": "os.system", "depth": "true"}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=r"foreign/config\.yaml names a model that is not in conf/model"):
        with_run(command, ["run=foreign"])
    with pytest.raises(ValueError, match="give model=<name>"):
        with_origin("export", [f"checkpoint={run / 'round-2-weights.npz'}"])
    words = with_run(command, ["run=foreign", "model=r3d18"])
    assert not any("os.system" in word for word in words), "who names a model gets it"
