"""`--help` of the commands that have a configuration: its keys with their values and comments, and its groups.

    python -m fedvssl.main --help strategy=fedadam experiment=small
    python -m fedvssl.finetune mine.yaml --help

Commands ask `show_help` before they import PyTorch, so that it answers within a second.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from fedvssl.chosen_run import with_run
from fedvssl.config import find_configuration, hydra_for
from fedvssl.files.ending import failed
from fedvssl.overrides import is_setting, parse_overrides, with_search_path

HELP = {"-h", "--help"}
USUAL = {"main": "base", "evaluate": "retrieval"}  # configurations that are not called like their command
NAMED = {"finetune", "test", "evaluate"}  # commands whose first words are configurations
OTHER_CONFIGURATION = ("--config-", "-cn", "-cp")  # flags of Hydra that name another file
COLUMN, WIDTH = 40, 120  # of comments, and of the whole text

Key = tuple[str, ...]  # path of a setting: ("strategy", "share")


def show_help(command: str, argv: Sequence[str] | None = None) -> bool:
    """Print the help of the module `fedvssl.<command>` if `--help` is among its words; return whether it was printed.

    Raises:
        SystemExit: with code 2 after a sentence, if the other words have a mistake.
    """
    asked = sys.argv[1:] if argv is None else argv  # None: the words of this process
    words = [word for word in asked if word not in HELP]
    if len(words) == len(asked):
        return False
    try:
        words = with_search_path(with_run(command, words))
        if command == "main":
            if any(word.startswith(OTHER_CONFIGURATION) for word in words):
                return False  # Hydra's own help knows what its flags name
            words = [word for word in words if is_setting(word) or word.startswith("~")]  # without its other flags
        named = [*takewhile(lambda word: "=" not in word and word[:1] not in "-~", words)] if command in NAMED else []
        overrides = parse_overrides(words[len(named) :])
        parts = [describe(name, overrides) for name in named or [USUAL.get(command, command)]]
    except ValueError as error:
        sys.exit(failed(error, code=2))
    module = ast.parse(Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8"))
    print(ast.get_docstring(module), *parts, sep="\n\n")
    return True


def describe(name: str, overrides: Sequence[str]) -> str:
    """Settings of one configuration as YAML with comments, then its groups; ValueError if it cannot be composed."""
    path = find_configuration(name)
    with hydra_for(name, overrides) as (stem, words):
        config: Any = OmegaConf.to_container(hydra_compose(stem, words, return_hydra_config=True))
        files = GlobalHydra.instance().config_loader().compute_defaults_list(stem, words, RunMode.RUN).defaults
    sources = config["hydra"]["runtime"]["config_sources"]
    folders = [Path(source["path"]) for source in sources if source["schema"] == "file"]
    comments: dict[Key, str] = {}
    for file in files:  # in the order of composition; a later comment wins
        places = [folder / f"{file.config_path}.yaml" for folder in folders]
        text = next((place.read_text(encoding="utf-8") for place in places if place.is_file()), "")
        package = tuple(filter(None, (file.package or "").split(".")))
        for key, comment in read_comments(text):
            comments[package + key] = comment or comments.get(package + key, "")
    hydra = config.pop("hydra")
    if own := _mentioned(hydra, ("hydra",), comments):
        config["hydra"] = own
    groups = sorted(group for group in hydra["runtime"]["choices"] if not group.startswith("hydra/"))
    options = [f"{group}: {', '.join(_options(group, folders))}" for group in groups]
    heading = f"== Settings of {path.name} (key=value; a key inside another: data.split=2) =="
    return "\n".join([heading, *tree(config, comments), "\n== Configuration groups (group=option) ==", *options])


def read_comments(text: str) -> Iterator[tuple[Key, str]]:
    """Keys of a YAML file, each with its comment or "".

    The comment stands beside the key and may go on below in the same column. Otherwise it is made of the lines directly
    above in the column of the key, but for those at the head of the file, which are about the whole file.
    """
    lines = text.splitlines()
    waiting: list[tuple[Key, Any]] = [((), yaml.compose(text, Loader=yaml.SafeLoader))]
    while waiting:
        parent, node = waiting.pop()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            path = (*parent, key.value)
            if path != ("defaults",):
                yield path, _beside(lines, key, value) or _above(lines, key)
                waiting.append((path, value))


def _beside(lines: Sequence[str], key: yaml.Node, value: yaml.Node) -> str:
    is_block = getattr(value, "flow_style", None) is False or getattr(value, "style", None) in ("|", ">")
    mark = key.end_mark if is_block else value.end_mark  # a block ends far below
    first = re.match(r"[: ]*#", "".join(lines[mark.line : mark.line + 1])[mark.column :])
    if not first:
        return ""
    column = mark.column + first.end() - 1
    below = takewhile(re.compile(" " * column + "#").match, lines[mark.line + 1 :])
    return _joined([lines[mark.line][column:], *below])


def _above(lines: Sequence[str], key: yaml.Node) -> str:
    line, indent = key.start_mark.line, " " * key.start_mark.column
    above = [*takewhile(re.compile(f"{indent}#").match, reversed(lines[:line]))]
    is_own = lines[line].startswith(indent) and len(above) < line  # neither in braces nor at the head of the file
    return _joined(above[::-1]) if is_own else ""


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip().removeprefix("#").strip() for line in lines)


def _mentioned(settings: Any, path: Key, keys: Collection[Key]) -> Any:
    """The entries whose keys are in the files; all others are Hydra's own."""
    if not isinstance(settings, dict):
        return settings
    return {name: _mentioned(value, (*path, name), keys) for name, value in settings.items() if (*path, name) in keys}


def _options(group: str, folders: Collection[Path]) -> list[str]:
    """Names of the files of a group, and of the folders with a file for each command."""
    found = [path for folder in folders for path in (folder / group.partition("@")[0]).glob("*")]
    return sorted({path.stem for path in found if path.suffix == ".yaml" or path.is_dir()})


def tree(settings: Mapping[str, Any], comments: Mapping[Key, str], path: Key = ()) -> Iterator[str]:
    """Lines of a configuration as YAML, with the comments beside the keys."""
    for name, value in settings.items():
        own, inner = (*path, str(name)), isinstance(value, dict) and value
        line = f"{'  ' * len(path)}{_inline(name)}:{'' if inner else f' {_inline(value)}'}"
        indent = max(COLUMN, len(line) + 2)
        told = textwrap.wrap(comments.get(own, ""), WIDTH - COLUMN, break_on_hyphens=False, break_long_words=False)
        yield f"{line.ljust(indent)}# {told[0]}" if told else line
        yield from (f"{' ' * indent}# {more}" for more in told[1:])
        yield from tree(value, comments, own) if inner else ()


def _inline(value: Any) -> str:
    """A key or value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()
