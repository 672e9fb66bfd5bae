"""The console command `fedvssl`: every `python -m fedvssl.*` by one word, and the data tools as `fedvssl data <tool>`.

    fedvssl --help
    fedvssl train data_dir=data rounds=10
    fedvssl data partition --help
    eval "$(fedvssl --completion bash)"

`train` is fedvssl.main. The module of a command alone is imported, once and by its own name, and this process becomes
`python -m <module> <words>` in all that others look at: sys.argv, and the name by which further processes start.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fedvssl
from fedvssl.files.ending import READER_LEFT, ReaderLeftError, to_a_reader

PACKAGE = Path(__file__).resolve().parent
TOOLS = "fedvssl.data_tools" if (PACKAGE / "data_tools").is_dir() else "data_tools"  # in the wheel; in a checkout
# Names of the commands -> their modules, in the order of the list that --help prints.
COMMANDS = {
    "train": "fedvssl.main",
    **{
        name: f"fedvssl.{name}"
        for name in (
            *("retrieval", "knn", "linear_probe", "motion_probe", "semi", "evaluate"),
            *("finetune_preprocess", "finetune", "test", "export", "verdict", "attack", "report", "sweep", "runs"),
            *("submit", "node"),
        )
    },
}
ALL_NAMES = COMMANDS | {"main": COMMANDS["train"]}  # as `python -m fedvssl.main`
DATA_TOOLS = {
    name: f"{TOOLS}.{name}"
    for name in (
        *("fetch", "prepare", "masks", "ucf101.prepare", "partition", "synthetic", "shapes"),
        *("download", "extract_frames", "build_annotations", "own_videos", "list_folder"),
    )
}
# Commands without a configuration: argparse prints their help.
OWN_HELP = {"finetune_preprocess", "verdict", "report", "runs", "submit", "node"}
# Words of `train` about a folder that is no data set yet; `--videos` alone may be forgotten.
VIDEOS = re.compile(r"--(videos|owners|held_out|name|yes)$|(--)?(videos|owners|held_out|name)=")
COLUMN, WIDTH = 22, 120  # of the lines about the commands, and of the whole text


def main() -> int:
    """The console command; returns its exit code."""
    try:
        with to_a_reader():
            return answer()
    except ReaderLeftError:
        return READER_LEFT


def answer() -> int:
    """Do what the words ask for; returns the exit code."""
    name, *words = sys.argv[1:] or ["--help"]
    if words[-1:] == ["--version"] and (name in ALL_NAMES or name == "data"):
        name = "--version"  # of every command: those with flags of their own know none
    if name in ALL_NAMES:
        return run_command(name, words)
    if name == "data" and words and words[0] not in ("-h", "--help"):
        return run_tool(words[0], words[1:])
    answers: dict[str, Callable[[], Any]] = {
        **dict.fromkeys(("-h", "--help"), lambda: overview(COMMANDS, "fedvssl")),
        "data": lambda: overview(DATA_TOOLS, "fedvssl data"),
        "--version": lambda: f"fedvssl {fedvssl.__version__}",
        "--completion": lambda: _completion().script(*words[:1]),
        "--complete": lambda: "\n".join(_completion().complete(words, ALL_NAMES, DATA_TOOLS)),
    }
    if name not in answers:
        return unknown(name, [*ALL_NAMES, "data"], "fedvssl")
    try:
        print(answers[name]())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run_command(name: str, words: Sequence[str]) -> int:
    """Run a command of the package; its help comes before PyTorch is imported. Returns its exit code."""
    if ALL_NAMES[name] == COMMANDS["train"] and any(VIDEOS.match(word) for word in words):
        return run_tool("own_videos", words)  # which trains after it has made a data set of them
    become(ALL_NAMES[name], words)
    if name not in OWN_HELP:
        from fedvssl.early import answered

        if answered(ALL_NAMES[name].rpartition(".")[2]):
            return 0
    return import_module(ALL_NAMES[name]).main() or 0


def run_tool(name: str, words: Sequence[str]) -> int:
    """Run a data tool; returns its exit code."""
    if name not in DATA_TOOLS:
        return unknown(name, DATA_TOOLS, "fedvssl data")
    become(DATA_TOOLS[name], words)
    import_module(f"{TOOLS}.command").run_command(import_module(DATA_TOOLS[name]).main)
    return 0


def become(module: str, words: Sequence[str]) -> None:
    """Make this process `python -m <module> <words>` for all that reads its command line.

    Lightning and multiprocessing start further processes of a command by `__main__.__spec__`.
    """
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} is a part of this package"
    sys.argv = [spec.origin, *words]
    sys.modules["__main__"].__spec__ = spec


def unknown(name: str, names: Sequence[str] | Mapping[str, str], command: str) -> int:
    """Tell that there is no such command, and the nearest name; returns the exit code."""
    from difflib import get_close_matches

    near = get_close_matches(name.replace("-", "_"), [*names], n=1)
    meant = f" Did you mean '{command} {near[0]}'?" if near else ""
    print(f"error: '{command} {name}' is no command.{meant} '{command} --help' lists all.", file=sys.stderr)
    return 2


def overview(modules: Mapping[str, str], command: str) -> str:
    """Text of --help: a line for each command, the first of its docstring."""
    lines = [f"  {name.ljust(COLUMN)}{_shortened(first_line(module))}" for name, module in modules.items()]
    if command == "fedvssl":
        lines.append(
            f"  {'data <tool>'.ljust(COLUMN)}Raw videos and pictures, lists, partitions; 'fedvssl data' lists the tools"
        )
    ends = f"'{command} <command> --help' tells the settings of one."
    more = "\n\n--version, --completion bash, --completion zsh" if command == "fedvssl" else ""
    return "\n".join([f"usage: {command} <command> [settings]", "", *lines, "", ends]) + more


def first_line(module: str) -> str:
    """First line of a module's docstring, read from its file: an import of PyTorch would take seconds."""
    folder = PACKAGE if module.startswith("fedvssl.") else PACKAGE.parent / "data_tools"
    inner = module.removeprefix("fedvssl.").removeprefix("data_tools." if folder.name == "data_tools" else "")
    with (folder / f"{inner.replace('.', '/')}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').strip()


def _shortened(line: str) -> str:
    """The line up to a colon or semicolon, and without its last parts if it is still too long."""
    line = re.split(r"[:;] ", line)[0].removesuffix(".")
    while len(line) > WIDTH - COLUMN - 2 and ", " in line:
        line = line.rpartition(", ")[0]
    return line


def _completion() -> Any:
    from fedvssl import completion

    return completion
