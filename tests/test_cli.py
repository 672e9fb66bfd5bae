"""The console command: it loads what is asked for, and this process is then the command itself."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd

from fedvssl import __version__, cli, completion
from tests.test_architecture import COMMANDS

ROOT = Path(__file__).parent.parent
HEAVY = "{'torch', 'hydra', 'numpy', 'flwr', 'yaml'}"


@pytest.fixture
def process(monkeypatch):
    """Returns a function that runs the console command in this process, which is itself again after the test."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["fedvssl", *words])
        return cli.main()

    return run


def in_a_process(*words: str, code: str = "", folder: Path = ROOT, **others: str) -> subprocess.CompletedProcess:
    """`python -m fedvssl <words>`, or code."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "fedvssl"]), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **others}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_entry_point_is_this_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["fedvssl"].partition(":")
    assert (module, getattr(cli, function)) == ("fedvssl.cli", cli.main)


def test_every_command_and_every_data_tool_has_a_name():
    assert {module.removeprefix("fedvssl.") for module in cli.COMMANDS.values()} == COMMANDS
    tools = [path.relative_to(ROOT) for path in (ROOT / "data_tools").rglob("*.py") if "__main__" in path.read_text()]
    assert {*cli.DATA_TOOLS.values()} == {".".join(path.with_suffix("").parts) for path in tools}
    assert {*cli.ALL_NAMES.values()} == {*cli.COMMANDS.values()}


def test_the_list_of_commands_loads_none_of_them():
    code = (
        f"import sys; sys.argv[0] = 'fedvssl'; from fedvssl.cli import main; main(); print({HEAVY} & {{*sys.modules}})"
    )
    out = in_a_process("--help", code=code).stdout
    assert out.endswith("\nset()\n")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert lines.keys() == {*cli.COMMANDS, "data"} and max(map(len, out.splitlines())) <= 120
    assert all(len(line.split()) > 2 and not line.endswith((",", ".")) for line in lines.values())


def test_a_configuration_is_shown_without_the_libraries_of_media_and_numbers():
    code = (
        "import sys, runpy; sys.argv = ['main', '--cfg', 'job']\n"
        "try: runpy.run_module('fedvssl.main', run_name='__main__', alter_sys=True)\n"
        "finally: print({'numpy', 'av', 'PIL', 'torch'} & {*sys.modules})"
    )
    assert in_a_process(code=code).stdout.endswith("\nset()\n")


@pytest.mark.parametrize("words", [*((name,) for name in cli.ALL_NAMES), *(("data", tool) for tool in cli.DATA_TOOLS)])
def test_every_command_tells_the_version(process, capsys, words):
    assert process(*words, "--version") == 0 and capsys.readouterr().out == f"fedvssl {__version__}\n"


def test_data_tools_are_listed_apart(process, capsys):
    assert process("data") == 0 and process("data", "--help") == 0
    assert re.findall(r"^  (\S+)", capsys.readouterr().out, re.MULTILINE) == [*cli.DATA_TOOLS] * 2
    assert process("--version") == 0 and capsys.readouterr().out == f"fedvssl {__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["retreival"], "'fedvssl retreival' is no command. Did you mean 'fedvssl retrieval'?"),
        (["linear-probe", "checkpoint=x"], "Did you mean 'fedvssl linear_probe'?"),
        (["data", "partitoin"], "Did you mean 'fedvssl data partition'?"),
        (["xyz"], "'fedvssl xyz' is no command. 'fedvssl --help' lists all."),
        (["--completion", "tcsh"], "--completion tcsh: choose bash or zsh."),
        (["--completion"], "--completion: choose bash or zsh."),
    ],
)
def test_an_unknown_word_ends_with_the_nearest_name(words, sentence, process, capsys):
    assert process(*words) == 2
    assert sentence in (told := capsys.readouterr()).err and not told.out


@pytest.mark.parametrize("name", ["retrieval", "test", "export", "evaluate"])
def test_help_comes_before_the_command_is_imported(name, process, capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda _: pytest.fail("imported"))
    assert process(name, "--help") == 0
    assert f"python -m fedvssl.{name}" in (shown := capsys.readouterr().out) and "checkpoint:" in shown


def test_the_command_gets_its_words_and_its_exit_code_is_returned(process, monkeypatch):
    seen = []
    module = SimpleNamespace(main=lambda: seen.append([*sys.argv, *_basic_subprocess_cmd()]) or 7)
    monkeypatch.setattr(cli, "import_module", lambda name: seen.append(name) or module)
    monkeypatch.setattr("fedvssl.early.answered", lambda name: False)  # which would miss the checkpoint
    assert process("knn", "checkpoint=a b", "devices=2") == 7
    words = ["checkpoint=a b", "devices=2"]
    alone = [sys.executable, "-m", "fedvssl.knn", *words]  # of each further process that Lightning starts
    assert seen == ["fedvssl.knn", [str(ROOT / "fedvssl/knn.py"), *words, *alone]]


def test_every_command_has_the_function_that_is_called(process, monkeypatch):
    assert all("def main(" in text or "main = " in text for text in map(_source, cli.COMMANDS.values()))
    assert all("def main(" in text or "main = " in text for text in map(_source, cli.DATA_TOOLS.values()))
    module = SimpleNamespace(main=lambda: None, run_command=lambda main: main())
    monkeypatch.setattr(cli, "import_module", lambda _: module)
    assert [process(name) for name in ("main", "train", "report")] == [0, 0, 0]
    assert process("data", "fetch", "x") == 0


def _source(module: str) -> str:
    return (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def test_training_on_a_folder_of_videos_is_a_data_tool(process, monkeypatch):
    seen = []
    monkeypatch.setattr("data_tools.own_videos.main", lambda: seen.append(sys.argv[1:]))
    for words in (["--videos", "mine", "rounds=3"], ["rounds=3", "--videos=mine"], ["videos=mine"], ["--owners", "3"]):
        assert process("train", *words) == 0
        assert seen.pop() == words


def test_the_help_of_training_has_the_flags_for_a_folder_of_videos(process, capsys):
    with pytest.raises(SystemExit):
        process("train", "--videos", "mine", "--help")
    flags = {*re.findall(r"--[a-z_]+(?= [A-Z]|\])", capsys.readouterr().out.partition("options:")[0])}
    assert process("train", "--help") == 0 and len(flags) > 4
    text = capsys.readouterr().out
    assert all(flag in text for flag in flags), flags


def test_a_flag_of_a_folder_without_the_folder_asks_for_it(process, capsys):
    with pytest.raises(SystemExit) as ended:
        process("train", "--owners", "3")
    assert ended.value.code == 2 and "required: --videos" in capsys.readouterr().err


def test_training_is_composed_as_by_its_module(tmp_path):
    words = ["rounds=3", "experiment=small", "--cfg", "all"]
    out = in_a_process("train", *words, folder=tmp_path).stdout
    module = [sys.executable, "-m", "fedvssl.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert "rounds: 3" in out and "name: main" in out
    assert out == subprocess.run(module, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout


def test_mistakes_end_as_in_the_module(tmp_path):
    for words in (["train", "engine=none"], ["report", "nowhere"], ["data", "synthetic", "--num_classes", "99"]):
        result = in_a_process(*words, folder=tmp_path)
        assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, words


def test_a_reader_that_leaves_is_no_error(tmp_path):
    python = f"{shlex.quote(sys.executable)} -u -m fedvssl"
    command = f"(sleep .2; {python} --completion bash) | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 141 and not result.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["fine"], ["finetune", "finetune_preprocess"]),
        (["--v"], ["--version"]),
        (["data", "p"], ["partition", "prepare"]),
        (["--completion", ""], ["bash", "zsh"]),
        (["knn", "checkp"], ["checkpoint="]),
        (["main", "strategy=fedad"], ["strategy=fedadam"]),
        (["train", "strategy=fedvssl", "strategy.mix"], ["strategy.mix_coeff="]),
        (["test", "testi"], ["testing="]),
        (["finetune", "finetune", "work"], ["work_dir="]),
        (["report", "out"], []),
        (["nothing", "x"], []),
        (["knn", "checkpoint=a b", "x"], []),
    ],
)
def test_completion_knows_commands_tools_and_the_words_of_hydra(words, found):
    assert completion.complete(words, cli.ALL_NAMES, cli.DATA_TOOLS) == found


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("fedvssl moti", ["motion_probe"]),
        ("fedvssl train strategy=fedad", ["fedadam"]),
        ("fedvssl data ucf", ["ucf101.prepare"]),
    ],
)
def test_bash_completes(line, replies, tmp_path):
    shim = tmp_path / "fedvssl"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedvssl "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "script").write_text(completion.script("bash"))
    line = f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}"
    code = f'source script; {line}; _fedvssl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.stdout.split() == replies and not result.stderr
