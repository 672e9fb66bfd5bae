"""`--help` of the commands: every key of the composed configuration, once, with its comment."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedvssl.config import compose, conf_dir
from fedvssl.help import USUAL, read_comments, show_help, tree

ROOT = Path(__file__).parent.parent
PROBES = ["retrieval", "knn", "linear_probe", "motion_probe", "semi"]
COMMANDS = ["main", "finetune", "test", "evaluate", "export", "sweep", *PROBES]
GROUPS = ["data", "model", "task", "strategy", "optimizer", "schedule"]
HEAVY = {"torch", "flwr", "ray", "lightning", "tensorboard"}


class OnceLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads YAML in which no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        assert len(mapping) == len(node.value), f"a key stands twice: {sorted(key.value for key, _ in node.value)}"
        return mapping


def printed(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert show_help(command, words)
    return capsys.readouterr().out


def settings(text: str) -> dict[str, Any]:
    """The part of the help that is YAML."""
    return yaml.load(text.split("==\n")[1].split("\n==")[0], Loader=OnceLoader)


def keys(config: dict[str, Any], *path: str) -> set[tuple[str, ...]]:
    return {key for name, value in config.items() for key in inner(value, (*path, str(name)))}


def inner(value: Any, path: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {path} | (keys(value, *path) if isinstance(value, dict) else set())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_key_of_the_composed_configuration_stands_once_in_the_help(command, capsys):
    name, text = USUAL.get(command, command), printed(command, ["--help"], capsys)
    shown = settings(text)
    of_hydra = shown.pop("hydra", {})
    assert shown == compose(name, [], resolve=False)
    assert f"    python -m fedvssl.{command} " in text.split("==")[0], "the commands to copy come first"
    assert of_hydra == (yaml.safe_load((conf_dir() / "base.yaml").read_text())["hydra"] if command == "main" else {})


@pytest.mark.parametrize("group", GROUPS)
def test_each_option_of_a_group_is_named_and_has_a_help_of_its_own(group, capsys):
    options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    for option in options:
        text = printed("main", [f"{group}={option}", "--help"], capsys)
        shown = settings(text)
        assert f"\n{group}: {', '.join(options)}\n" in f"{text}\n"
        assert {**shown, "hydra": None} == {**compose("base", [f"{group}={option}"], resolve=False), "hydra": None}
        composed = compose("base", [f"{group}={option}"])
        assert composed["training" if group in ("optimizer", "schedule") else group]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_small_experiment_is_shown_as_the_command_composes_it(command, capsys):
    text = printed(command, ["-h", "experiment=small"], capsys)
    shown = settings(text)
    shown.pop("hydra", None)
    assert shown == compose(USUAL.get(command, command), ["experiment=small"], resolve=False)
    assert re.search("^experiment: .*kinetics400, .*small, small_clips, ", text, re.MULTILINE)


def test_comments_stand_beside_their_keys(capsys):
    text = " ".join(printed("main", ["--help"], capsys).replace("# ", "").split())
    for shown in (
        "warn_after: 5 rounds after which a loss that has not beaten a trivial predictor is warned of",
        "min_fit_clients: 5 Fewest clients sampled, and fewest valid replies; lowered to pool_size",  # from above it
        "local: one after the other in this process",  # goes on below
        "mix_coeff: 0.9 alpha in [0, 1]: weight of the loss-based average",  # of conf/strategy/
    ):
        assert shown in text, shown
    assert "AdamW (arXiv" not in printed("main", ["--help", "optimizer=adamw"], capsys), "is about the whole file"


def test_the_last_comment_of_the_files_that_are_composed_counts(capsys):
    text = printed("main", ["--help", "strategy=fedadam", "experiment=small"], capsys)
    for line in (
        "warn_after: 14 +# the loss leaves that of standing still about round 9",
        "pool_size: 3 +# clients",  # of an earlier file, where the last one that sets it has none
        "server_lr: 0.01 +# to be searched: the paper tries powers of ten",
    ):
        assert re.search(rf"^ *{line}$", text, re.MULTILINE), line


def test_comments_of_any_yaml():
    text = (
        "# Of the file.\nfirst: 1\n\n# Of the\n# second.\nsecond:\n  # Of a.\n  a: '# none'\n  b: [1,\n    2]   # two\n"
        "third: {a: 1, b: 2}  # third\nfourth: 3   # four\n            # lines\n# Of the fifth.\nfifth: |\n  # text\n"
        "sixth:   # six\n  -1\n"
    )
    assert dict(read_comments(text)) == {
        ("first",): "",
        ("second",): "Of the second.",
        ("second", "a"): "Of a.",
        ("second", "b"): "two",
        ("third",): "third",
        ("third", "a"): "",
        ("third", "b"): "",
        ("fourth",): "four lines",
        ("fifth",): "Of the fifth.",
        ("sixth",): "",
    }
    assert dict(read_comments("")) == {}


def test_lines_are_yaml_again_and_long_comments_are_wrapped():
    config = {"a": {"head.*": "x: y", "none": None}, "b": {}, "c": ["*", 1e-4], "d": "true", "e": "# no comment"}
    lines = list(tree(config, {("b",): "word " * 60}))
    assert yaml.safe_load("\n".join(lines)) == config
    assert all(len(line) <= 122 for line in lines) and " ".join(lines).count("word") == 60


def test_a_configuration_of_ones_own_is_shown_with_its_comments(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [finetune, _self_]\n\ndropout: 0.7   # high\nown: 1\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text("name: mine\n")
    text = printed("finetune", [str(mine), "--help", "--seed=3"], capsys)
    shown = settings(text)
    assert (shown["dropout"], shown["own"], shown["seed"]) == (0.7, 1, 3)
    assert "# high" in text and "# (long, short) side in pixels, one is drawn" in text
    assert (
        "\ndata: cifar10, cifar100, hmdb51, kinetics400, membrane, mine, ucf101\n" in text
        and "== Settings of mine.yaml" in text
    )
    both = printed("evaluate", ["knn", "retrieval", "--help"], capsys)
    assert "== Settings of knn.yaml" in both and "== Settings of retrieval.yaml" in both


def test_help_is_given_where_it_is_asked_for_only(capsys):
    assert not show_help("finetune", ["finetune", "seed=1"]) and not capsys.readouterr().out
    assert not show_help("main", ["--help", "--config-name=mine"]), "Hydra answers"
    assert settings(printed("main", ["--cfg", "job", "--help", "seed=8"], capsys))["seed"] == 8


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("main", ["no_such_key=1"], "error: Configuration 'base': 'no_such_key' is no setting"),
        ("finetune", ["nowhere.yaml"], "error: No configuration 'nowhere.yaml'"),
        ("export", ["nowhere"], "error: 'nowhere' is not an override"),
    ],
)
def test_mistakes_beside_help_end_with_a_sentence(command, words, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        show_help(command, ["--help", *words])
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.err.startswith(sentence) and not told.out


# `python -m fedvssl.<command> --help`, one after the other in one process, since a process takes longer than its help.
ALL_HELP = """
import contextlib, io, json, runpy, sys
for command in sys.argv[1:]:
    sys.argv, told, code = [command, "--help", "experiment=small"], io.StringIO(), 0
    with contextlib.redirect_stdout(told):
        try:
            runpy.run_module(f"fedvssl.{command}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([command, code, told.getvalue(), [*sys.modules]]))
"""


def test_help_of_every_command_comes_without_torch(tmp_path):
    """In the order of the commands; a module stays with those that follow."""
    words = [sys.executable, "-W", "ignore", "-c", ALL_HELP, *COMMANDS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0 and not answer.stderr
    answers = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [command for command, *_ in answers] == COMMANDS
    for command, code, told, imported in answers:
        assert code == 0 and f"    python -m fedvssl.{command} " in told
        assert "hydra" in imported and not HEAVY & {*imported}, command
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flag", "shown"), [("--hydra-help", "Hydra"), ("--info=config", "Defaults")])
def test_the_other_flags_of_hydra_still_work(flag, shown, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "fedvssl.main", flag]
    answer = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0 and shown in answer.stdout


def test_a_folder_of_ones_own_is_shown_with_its_comments(tmp_path, capsys):
    (tmp_path / "my files/strategy").mkdir(parents=True)
    (tmp_path / "my files/strategy/mine.yaml").write_text(
        "# About all.\n_target_: a.B\nshare: ['*']\nwarmth: 3  # of it\n"
    )
    words = [f"--config-dir={tmp_path / 'my files'}", "--help", "strategy=mine"]
    assert show_help("main", words)
    told = capsys.readouterr().out
    assert "warmth: 3" in told and "# of it" in told and re.search(r"^strategy: .*fedvssl, .*mine", told, flags=re.M)
    with pytest.raises(SystemExit):
        show_help("main", ["--config-dir", "nowhere", "--help"])
    assert "error: --config-dir: there is no folder" in capsys.readouterr().err
