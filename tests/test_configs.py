"""Every YAML file composes, and the dotted names in it can be built."""

import json
import shutil
from pathlib import Path

import hydra.utils
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from data_tools.synthetic import BURST
from fedvssl import building, config
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.overrides import parse_overrides
from tests.federation import strategy_of

EXPERIMENTS = sorted(path.stem for path in (config.conf_dir() / "experiment").glob("*.yaml"))
SMALL = ["small", "small_clips"]  # folders with a section for each kind of command
CLIPS_OF_FEDU = "fedu_clips_small"  # small_clips with another task and rule
TASKS = "tasks_small"  # small with a file for each pretext task on videos
PRETRAINING = [*(name for name in EXPERIMENTS if not name.startswith("finetune")), *SMALL]
FINETUNING = [*(name for name in EXPERIMENTS if name.startswith("finetune")), *SMALL]
EVALUATIONS = ["retrieval", "knn", "linear_probe", "motion_probe", "semi"]


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_presets_build_task_and_sample(name: str) -> None:
    cfg = config.compose("base", [f"experiment={name}", "model.width=4", "task.module.hidden_channels=8"])
    building.build_sample(cfg)
    assert building.build_task(cfg).backbone.out_channels == 32


@pytest.mark.parametrize("name", FINETUNING)
@pytest.mark.parametrize("base", ["finetune", "test"])
def test_finetuning_presets_serve_training_and_test(base: str, name: str) -> None:
    cfg = config.compose(base, [f"experiment={name}"])
    sample = building.build(cfg["test_sample"])
    assert sample.crop_size <= min(sample.size)


def test_fedu_on_clips_has_the_sizes_and_steps_of_the_small_clips() -> None:
    words = {name: [f"experiment={name}"] for name in ("small_clips", CLIPS_OF_FEDU)}
    for command in ("finetune", "test", *EVALUATIONS):
        one, other = (config.compose(command, own) for own in words.values())
        assert one == other
    small, fedu = (config.compose("base", own) for own in words.values())
    assert small["model"] == fedu["model"] and small["eval"]["sample"] == fedu["eval"]["sample"]
    for name in ("local_epochs", "batch_size", "lr", "weight_decay", "warmup_steps"):
        assert small["training"][name] == fedu["training"][name]
    for name in ("clip_len", "strides", "crop_size"):
        assert small["task"]["sample"][name] == fedu["task"]["sample"][name]
    assert fedu["strategy"]["rule"]["personal"] == ["projector.*"]


def test_the_tasks_of_the_comparison_differ_in_task_rate_and_epochs_alone() -> None:
    cfg, shared = config.compose("sweep", ["experiment=tasks_small"]), []
    rows = {name: row["overrides"] for name, row in cfg["rows"].items() if row and not row.get("start")}
    tasks = [name for name in rows if not name.endswith("_fedavg")]
    assert len(tasks) == 6 and [*rows] == [*tasks, *(f"{name}_fedavg" for name in tasks)]
    for name in tasks:
        assert rows[f"{name}_fedavg"] == [*rows[name], "strategy.mix_coeff=0"]
        own = config.compose("base", [*cfg["overrides"]["all"], *cfg["overrides"]["main"], *rows[name]])
        building.build_sample(own)
        assert building.build_task(own).backbone.out_channels == 128
        assert own["task"]["module"]["_target_"].lower().split(".")[-2] in name
        training = {**own["training"], "lr": None, "local_epochs": None, "optimizer": None}
        shared.append({**own, "training": training, "task": None})
        assert (own["strategy"]["mix_coeff"], own["strategy"]["swbeta"]) == (0.9, 0)
    assert all(other == shared[0] for other in shared)


def test_the_moments_of_a_burst_at_which_the_clips_of_vcop_begin_tell_their_order() -> None:
    sample = building.build_sample(config.compose("base", ["experiment=tasks_small/vcop", "data.num_classes=6"]))
    first = sample.indices(72, np.random.default_rng(0))[:, 0]
    orders = {tuple((first - first[0] + moment) % BURST) for moment in range(BURST)}
    assert len({frozenset(order) for order in orders}) == BURST, "no two orders have the same three moments"
    assert all(len(set(order)) == 3 for order in orders)


@pytest.mark.parametrize("name", [*SMALL, CLIPS_OF_FEDU, TASKS])
def test_what_sweeps_pass_on_is_known_to_the_commands(name: str) -> None:
    cfg = config.compose("sweep", [f"experiment={name}"])
    words = cfg["overrides"]
    for row in filter(None, cfg["rows"].values()):
        pretraining = config.compose("base", [*words["all"], *words["main"], *row.get("overrides", [])])
        assert strategy_of(pretraining).is_shared("backbone.conv1.weight")
    for measure in filter(None, cfg["measures"].values()):
        if "command" in measure:
            config.compose(measure["command"], [*words["all"], *words["recognition"], *measure["overrides"]])
    config.compose("finetune", [*words["all"], *words["recognition"], *words["finetune"]])
    for command in ("test", "retrieval", "linear_probe"):
        config.compose(command, [*words["all"], *words["recognition"]])


@pytest.mark.parametrize("name", SMALL)
def test_a_small_experiment_gives_every_command_the_same_clips_pictures_and_model(name: str) -> None:
    words = [f"experiment={name}"]
    main, finetune = (config.compose(command, words) for command in ("base", "finetune"))
    sample = main["task"]["sample"]
    clips, pictures = (sample["clip_len"], sample["strides"]), (sample["crop_size"], sample["short_sides"])
    assert (finetune["clip_len"], finetune["crop_size"]) == (clips[0], pictures[0])
    assert finetune["frame_stride"] in clips[1]
    assert [min(size) for size in finetune["train_sample"]["sizes"]] == pictures[1]
    evaluated = [config.compose(command, words) for command in ("test", *EVALUATIONS)]
    for cfg in (finetune, *evaluated):
        assert cfg["model"] == main["model"] and cfg["data"]["name"] == main["data"]["name"]
        assert cfg["test_sample"] == finetune["test_sample"] and min(cfg["test_sample"]["size"]) == pictures[1][0]
    between = main["eval"]["sample"]
    assert {**finetune["test_sample"], "num_clips": between["num_clips"]} == between
    probes = [config.compose("motion_probe", words)["protocol"], main["eval"]["protocols"]["motion_probe"]]
    assert probes[0] == probes[1] and probes[0]["sample"]["crop_size"] == pictures[0]


def test_the_section_of_an_experiment_follows_from_the_command_and_reaches_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {
        "base": "pretraining",
        "finetune": "finetuning",
        "test": "evaluation",
        "sweep": "sweep",
        "knn": "evaluation",
    }
    for command, section in sections.items():
        chosen = config.choose_section("experiment=small", config.conf_dir() / f"{command}.yaml")
        assert chosen == f"experiment=small/{section}"
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [finetune, _self_]\ntraining: {epochs: 3}\n")
    cfg = config.compose(str(mine), ["experiment=small"])
    assert cfg["training"]["optimizer"]["_target_"].endswith("AdamW") and cfg["crop_size"] == 32
    for command, section in {"finetune": "finetuning", "test": "evaluation"}.items():  # two files of one name
        (tmp_path / command).mkdir()
        monkeypatch.chdir(tmp_path / command)
        Path("own.yaml").write_text(f"defaults: [{command}, _self_]\n")
        assert config.choose_section("experiment=small", Path("own.yaml")) == f"experiment=small/{section}"
    assert config.for_hydra(["experiment=small"]) == ["experiment=small/pretraining"]
    assert config.for_hydra(["experiment=kinetics400"]) == ["experiment=kinetics400"]


def test_training_values_of_a_task_lie_between_the_shared_ones_and_an_experiment(tmp_path: Path) -> None:
    """Every task with every experiment: shared < task < experiment < command line."""
    mine = tmp_path / "conf"
    shutil.copytree(config.conf_dir(), mine)
    ctp = yaml.safe_load((mine / "task" / "ctp.yaml").read_text())
    text = yaml.safe_dump({"task": ctp, "training": {"lr": 0.123, "batch_size": 17}})
    (mine / "task" / "slow.yaml").write_text(f"# @package _global_\n{text}")
    for name in PRETRAINING:
        path = config.conf_dir() / "experiment" / name
        path = path / "pretraining.yaml" if path.is_dir() else path.with_suffix(".yaml")
        own = yaml.safe_load(path.read_text()).get("training", {})
        for task, shared in {"ctp": (0.01, 4), "slow": (0.123, 17)}.items():
            words = [f"task={task}", f"experiment={name}"]
            training = config.compose(str(mine / "base.yaml"), words)["training"]
            expected = (own.get("lr", shared[0]), own.get("batch_size", shared[1]))
            assert (training["lr"], training["batch_size"]) == expected, (task, name)
            assert training["optimizer"]["lr"] == expected[0]
            assert (
                config.compose(str(mine / "base.yaml"), [*words, "training.lr=7"])["training"]["optimizer"]["lr"] == 7
            )


def test_published_defaults() -> None:
    cfg = config.compose("base", [])
    strategy, training = cfg["strategy"], cfg["training"]
    assert (cfg["pool_size"], cfg["rounds"], strategy["mix_coeff"], strategy["swbeta"]) == (5, 20, 0.9, 1)
    assert (strategy["fedavg"], strategy["fraction_fit"], strategy["min_fit_clients"]) == (False, 1.0, 5)
    assert (training["lr"], training["momentum"], training["weight_decay"]) == (0.01, 0.9, 1e-4)
    assert training["steps"] == [100, 200] and training["batch_size"] == 4 and training["max_norm"] == 40
    assert (cfg["exp_name"], training["local_epochs"]) == ("fedvssl_results", 1)
    assert cfg["client_resources"] == {"num_gpus": 1.0, "num_cpus": 2}
    assert cfg["partition_dir"] == "data/ucf101/annotations/client_distribution"


def test_an_export_takes_the_clips_of_a_test() -> None:
    exported, tested = config.compose("export", []), config.compose("test", [])
    for key in ("model", "clip_len", "frame_stride", "crop_size"):
        assert exported[key] == tested[key]


def test_a_file_of_the_users_own_may_build_on_ours(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("defaults:\n  - base\n  - _self_\nrounds: 3\n")
    assert config.compose(str(own), ["pool_size=2"])["rounds"] == 3


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("nowhere", [], "No configuration 'nowhere'"),
        ("base", ["no_such_key=1"], "no_such_key"),
        ("base", ["experiment=nothing"], "nothing"),
        ("base", ["rounds"], "rounds"),
    ],
)
def test_mistakes_get_a_sentence(name: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config.compose(name, overrides)


def test_published_flags_become_overrides() -> None:
    words = ["--work_dir=./finetune_results", "--data_dir=data", "--progress", "seed=3"]
    assert parse_overrides(words) == ["work_dir=./finetune_results", "data_dir=data", "progress=true", "seed=3"]
    with pytest.raises(ValueError, match="'word' is not an override"):
        parse_overrides(["word"])


@pytest.mark.parametrize(
    "value",
    ["/data/a b", "/data/UCF(101)", "/data/x=1,y", "/data/{a}:b", "/data/Müller", "C:\\clips\\", "it's", "/data/100%"],
)
def test_the_value_of_a_flag_is_taken_as_it_is(value: str) -> None:
    assert config.compose("finetune", parse_overrides([f"--data_dir={value}"]))["data_dir"] == value


def test_values_of_flags_keep_their_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    words = ["--data_dir=~/clips", "--seed=3", "--training.lr=1e-3", "--training.steps=[1, 2]", "--from_scratch=true"]
    cfg = config.compose("finetune", parse_overrides([*words, "--pretrained='a b'", "--work_dir=${data_dir}/w"]))
    training = cfg["training"]
    assert (cfg["data_dir"], cfg["seed"], training["lr"], training["steps"]) == ("/home/me/clips", 3, 1e-3, [1, 2])
    assert (cfg["from_scratch"], cfg["pretrained"], cfg["work_dir"]) == (True, "a b", "/home/me/clips/w")


@pytest.mark.parametrize("value", ["2024", "007", "1e3", "1_0", "2.5"])
def test_a_name_that_looks_like_a_number_stays_as_it_is_typed(value: str) -> None:
    words = [f"data.name={value}", f"--exp_name={value}", f"data_dir={value}", f"init={value}", "data.split=2"]
    found = config.compose("base", parse_overrides(words))
    names = found["data"]["name"], found["exp_name"], found["data_dir"], found["init"]
    assert names == (value,) * 4 and found["data"]["split"] == 2
    assert found["data"]["media_dir"] == f"{value}/{value}/zips"


def test_words_without_dashes_are_left_to_hydra() -> None:
    words = ["data_dir='/data/a b'", "training.steps=[1,2]", "+seed=choice(1,2)"]
    assert parse_overrides(words) == words


@pytest.mark.parametrize("command", ["base", "sweep", "finetune", "test", *EVALUATIONS])
def test_a_data_set_of_ones_own_needs_no_setting_about_test_videos(tmp_path: Path, command: str) -> None:
    mine = tmp_path / "conf"
    shutil.copytree(config.conf_dir(), mine)
    lines = (mine / "data/ucf101.yaml").read_text().splitlines()
    (mine / "data/mine.yaml").write_text("\n".join(line for line in lines if "allow_test_videos" not in line))
    for words, allowed in ([], False), (["data.allow_test_videos=true"], True):
        cfg = config.compose(str(mine / f"{command}.yaml"), ["data=mine", *words])
        assert [cfg[name]["allow_test_videos"] for name in ("data", "eval") if name in cfg] == (
            [allowed] * (2 if command == "base" else 1)
        )


@pytest.mark.parametrize("name", ["finetune", "finetune.yaml", "conf/finetune.yaml", "./conf/finetune.yaml"])
def test_our_configurations_are_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.compose(name, []) == config.compose(str(config.conf_dir() / "finetune.yaml"), [])


@pytest.mark.parametrize("name", ["experiments/mine/finetune.yaml", "/nowhere/conf/finetune.yaml", "finetune.json"])
def test_a_mistyped_path_is_not_taken_for_one_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match=f"No configuration '{name}'"):
        config.compose(name, [])


def test_a_file_that_is_no_yaml_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        config.compose(str(tmp_path / "mine.yaml"), [])


def test_the_configuration_of_another_command_lacks_a_key() -> None:
    with pytest.raises(ValueError, match=r"'conf/test\.yaml' has no 'pretrained', which fedvssl\.finetune needs"):
        config.read_command_line("finetune", ["conf/test.yaml"])
    with pytest.raises(ValueError, match=r"'finetune' has no 'checkpoint', which fedvssl\.test needs"):
        config.read_command_line("test", ["finetune"])
    with pytest.raises(ValueError, match=r"Name a configuration: python -m fedvssl\.test test"):
        config.read_command_line("test", [])


def test_a_key_that_is_missing_below_is_named_and_a_target_may_have_other_keys(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    cfg = config.compose("finetune", [])
    cfg["model"] = {"_target_": "mine.Backbone"}
    own.write_text(json.dumps(cfg))
    assert config.read_command_line("finetune", [str(own)])["model"] == cfg["model"]
    del cfg["training"]["gamma"]
    own.write_text(json.dumps(cfg))
    with pytest.raises(ValueError, match=r"has no 'training\.gamma'"):
        config.read_command_line("finetune", [str(own)])


@pytest.mark.parametrize(("old", "now"), [("quickstart", "small"), ("sweep_small", "small_clips")])
def test_an_experiment_of_an_earlier_version_is_answered_with_its_name_now(old: str, now: str) -> None:
    for ask in (lambda word: config.compose("base", [word]), lambda word: config.for_hydra([word])):
        with pytest.raises(ValueError, match=f"'experiment={old}' is called 'experiment={now}' now"):
            ask(f"experiment={old}")


def test_a_key_can_be_taken_out_on_any_command_line() -> None:
    words = parse_overrides(["optimizer=adamw", "~training.optimizer.weight_decay", "training.weight_decay=null"])
    training = config.compose("finetune", words)["training"]
    assert "weight_decay" not in training["optimizer"]


def test_an_export_knows_the_small_experiments() -> None:
    cfg = config.compose("export", ["experiment=small"])
    assert (cfg["model"]["width"], cfg["clip_len"], cfg["crop_size"]) == (16, 8, 32)


def test_classes_of_the_servers_own_lists_are_counted(tmp_path: Path) -> None:
    write_annotations(tmp_path / "server" / "train_split_1.json", [Annotation("a/0", 8)])
    words = [f"data_dir={tmp_path}", "data.num_classes=auto", f"eval.annotation_dir={tmp_path / 'server'}"]
    assert config.compose("base", words)["eval"]["num_classes"] == 9


def test_classes_are_counted_in_the_lists(tmp_path: Path) -> None:
    words = [f"data_dir={tmp_path}", "data.num_classes=auto"]
    for name in ("base", "finetune", "test", "retrieval", "sweep"):
        assert config.compose(name, words)["data"]["num_classes"] == "auto", "without lists"
    for part, labels in {"train": (0, 4), "test": (2,)}.items():
        listed = [Annotation(f"a/{label}", label) for label in labels]
        write_annotations(tmp_path / f"ucf101/annotations/{part}_split_1.json", listed)
    for name in ("base", "finetune", "test", "retrieval", "sweep"):
        assert config.compose(name, words)["data"]["num_classes"] == 5, name
    assert config.compose("finetune", words)["task"]["module"]["recognizer"]["num_classes"] == 5
    assert config.compose("base", words)["eval"]["num_classes"] == 5


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"_target_": "fedvssl.models.r3d.R4D"}, r"R4D cannot be built: there is no such class\.$"),
        ({"_target_": "fedvssl.models.r3d.R3D", "breadth": 3}, "R3D cannot be built: it takes no breadth: leave that"),
        ({"_target_": "fedvssl.models.r3d.R3D", "depth": 50}, "depth=50 is unknown"),
    ],
)
def test_what_cannot_be_built_gets_a_sentence(entries: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        building.build(entries)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("~task.sample.patches.scales", r"built: PatchGenerator needs scales: give it a value\.$"),
        (
            "+task.sample.patches.shape=3",
            r"built: PatchGenerator takes no shape: leave that out\.$",
        ),
    ],
)
def test_an_argument_of_a_part_is_told_in_words_of_ours(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        building.build(config.compose("base", [word])["task"]["sample"])


def test_an_experiment_of_another_task_is_told_in_words_of_the_settings() -> None:
    settings = config.compose("base", ["task=simclr", "experiment=small_clips"])
    with pytest.raises(ValueError, match=r"TwoViews cannot be built: it takes no clip_len, .*leave out experiment="):
        building.build_sample(settings)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("pretext.sample.crop_size=64", "'pretext.sample.crop_size' is called 'task.sample.crop_size' now"),
        ("+pretext.task.faults=[]", "'pretext.task' is called 'task.module' now"),
        ("pretext=ctp", "'pretext' is called 'task' now"),
        ("data.video_dir=x", "'data.video_dir' is called 'data.media_dir' now"),
        ("+eval.video_dir=x", "'eval.video_dir' is called 'eval.media_dir' now"),
    ],
)
def test_a_key_of_an_earlier_version_is_answered_with_its_name_now(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config.compose("base", [word])


def test_a_file_with_a_key_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults:\n  - base\n  - _self_\npretext:\n  sample:\n    crop_size: 64\n")
    with pytest.raises(ValueError, match="'pretext' is called 'task' now"):
        config.compose(str(tmp_path / "mine.yaml"), [])


def test_old_names_are_unknown_and_new_ones_known() -> None:
    cfg = OmegaConf.create(config.compose("base", []))
    keys = {old: new for old, new in config.RENAMED.items() if not old.startswith("fedvssl.")}
    assert len(keys) == 4
    for old, new in keys.items():
        assert OmegaConf.select(cfg, old) is None and OmegaConf.select(cfg, new) is not None, new


@pytest.mark.parametrize(
    ("target", "now"),
    [
        ("fedvssl.pretext.ctp.CtPSample", "fedvssl.tasks.ctp.CtPSample"),
        ("fedvssl.training.recognition.TestSample", "fedvssl.tasks.recognition.TestSample"),
    ],
)
def test_a_class_path_of_an_earlier_version_is_answered_with_its_name_now(target: str, now: str) -> None:
    with pytest.raises(ValueError, match=f"'{target}' is called '{now}' now"):
        building.build({"_target_": target})
    assert hydra.utils.get_class(now)


@pytest.mark.parametrize(
    "value", ["/data/x=1/y", "/data/UCF(101)", "/data/a[1]", "/data/a,b", "/data/Müller", "it's", "a&b", "#1", "/a b;c"]
)
def test_a_word_that_hydra_cannot_read_is_taken_like_a_flag(value: str) -> None:
    assert config.compose("finetune", parse_overrides([f"data_dir={value}"]))["data_dir"] == value


@pytest.mark.parametrize("word", ["training.steps=[1,2", "model={depth: 10", "seed=(3"])
def test_a_mistake_in_the_syntax_of_hydra_is_one(word: str) -> None:
    with pytest.raises(ValueError, match="Configuration 'finetune'"):
        config.compose("finetune", parse_overrides([word]))


def test_several_values_are_left_to_sweeps_but_for_paths() -> None:
    assert parse_overrides(["seed=1,2", "data_dir=/a,b"]) == ["seed=1,2", "data_dir='/a,b'"]
    for flag in ("-m", "--multirun"):
        with pytest.raises(ValueError, match=r"fedvssl\.sweep"):
            config.for_hydra([flag, "seed=1,2"])


def test_the_home_folder_is_known_to_both_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for word in ("data_dir=~/clips", "--data_dir=~/clips"):
        assert config.compose("base", parse_overrides([word]))["data_dir"] == "/home/me/clips"


def test_flags_of_hydra_stay_and_settings_are_prepared() -> None:
    kept = ["--help", "--cfg", "job", "--config-name=base", "~strategy.fedavg", "hydra.run.dir=./x"]
    words = [*kept, "data_dir=/x=1", "--seed=3", "--verbose"]
    assert config.for_hydra(words) == [*kept, "data_dir='/x=1'", "seed=3", "verbose=true"]


@pytest.mark.parametrize("words", [["-cd={}"], ["--config-dir", "{}"]])
def test_a_folder_of_configurations_is_a_setting_of_every_command(words: list[str], tmp_path: Path) -> None:
    (folder := tmp_path / "my, conf").mkdir()
    words = [word.format(folder) for word in words]
    expected = [f"hydra.searchpath=['file://{folder}']", "seed=3"]
    assert config.for_hydra([*words, "seed=3"]) == parse_overrides([*words, "seed=3"]) == expected
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        parse_overrides(["--config-dir", "nowhere"])


def test_settings_are_composed_before_hydra_reads_them() -> None:
    with pytest.raises(ValueError, match="'pretext' is called 'task' now"):
        config.for_hydra(["pretext=ctp", "--cfg", "job"])
    with pytest.raises(ValueError, match=r"'round' is no setting here\. Did you mean rounds"):
        config.for_hydra(["round=3"])
    assert config.for_hydra(["exp_name=${hydra:job.name}"]), "only Hydra itself knows its own values"


def test_the_strategy_file_and_the_published_switch_select_the_same() -> None:
    by_file, by_switch = (
        strategy_of(config.compose("base", [word])) for word in ("strategy=fedavg", "strategy.fedavg=true")
    )
    assert by_file.share == by_switch.share == ["*"] and by_file.averages() == by_switch.averages()
    assert by_file.rounds == by_switch.rounds


@pytest.mark.parametrize(("key", "value"), [("exp_name", "../evil"), ("data.name", "/evil"), ("eval.split", "CON")])
def test_settings_that_become_paths_stay_inside(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: the name '{value}'"):
        config.for_hydra([f"--{key}={value}"])  # before Hydra makes a folder of the name


def test_the_split_of_any_command_stays_inside() -> None:
    with pytest.raises(ValueError, match=r"data\.split: the name '1/\.\./x' leads outside"):
        config.compose("test", ["data.split=1/../x"])


def test_odd_names_of_runs_and_data_sets_are_taken() -> None:
    name = "m\u00fc 1..2 (x)"
    composed = config.compose("base", parse_overrides([f"--exp_name={name}", f"--data.name={name}"]))
    assert composed["exp_name"] == name and composed["data"]["media_dir"] == f"data/{name}/zips"


@pytest.mark.parametrize("command", ["test", "finetune", "retrieval"])
def test_a_recognition_of_ones_own_need_not_choose_an_input(command: str, tmp_path: Path) -> None:
    own = OmegaConf.create(config.compose("test", []))
    names = ("clip_len", "frame_stride", "crop_size", "test_sample", "test_batch_size", "device", "devices")
    settings = {name: own[name] for name in (*names, "precision", "num_workers", "progress")}
    (tmp_path / "recognition").mkdir()
    text = f"# @package _global_\n{OmegaConf.to_yaml(OmegaConf.create({**settings, 'clip_len': 5}))}"
    (tmp_path / "recognition/mine.yaml").write_text(text)
    (tmp_path / "mine.yaml").write_text(f"defaults:\n  - {command}\n  - override recognition: mine\n  - _self_\n")
    assert config.read_command_line(command, [str(tmp_path / "mine.yaml")])["clip_len"] == 5


@pytest.mark.parametrize("command", ["finetune", "test", "retrieval"])
def test_an_experiment_of_clips_refuses_pictures(command: str) -> None:
    with pytest.raises(ValueError, match="experiment=small is one of clips, and input=pictures asks for pictures"):
        config.read_command_line(command, [command, "experiment=small", "input=pictures"])
    config.read_command_line(command, [command, "experiment=fedsimclr_small", "input=pictures"])
