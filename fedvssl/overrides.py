"""Words of a command line as Hydra overrides."""

import os
import re
from collections.abc import Container, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from hydra.errors import HydraException

# Values of flags that mean the same to Hydra as to a shell: words, numbers, true and false, lists, quoted text.
PLAIN_VALUE = re.compile(r"[\w./+-]*|\[.*]|(['\"]).*\1", re.ASCII)
# Settings that are names and paths, whatever they look like: data.name=2024, work_dir=007.
TEXTS = re.compile(r"(exp_name|(\w+\.)*name|(\w+\.)*\w+_dir|checkpoint|pretrained|init)$")
NUMBER = re.compile(r"[+-]?[\d_.]+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
CONFIG_DIR, SEARCH_PATH = ("--config-dir", "-cd"), "hydra.searchpath="
# Prefixes of the flags of Hydra's own command line.
HYDRA_FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--config-", "--shell-completion", "--experimental-rerun"),
)


def parse_overrides(argv: Sequence[str]) -> list[str]:
    """Words of a command line as Hydra overrides: `--work_dir=x` -> `work_dir=x`, `--progress` -> `progress=true`.

    The value of a flag is read as in a shell: `~` is the home folder; brackets, commas and spaces belong to the name of
    a file. A word without dashes goes to Hydra unchanged if Hydra can read it, and is otherwise treated like a flag.

    Raises:
        ValueError: for a word that is neither `key=value` nor a flag.
    """
    overrides = []
    for word in with_search_path(argv):
        key, equals, value = word.removeprefix("--").partition("=")
        if NUMBER.fullmatch(value) and TEXTS.match(key):
            overrides.append(f"{key}={quoted(value)}")
        elif word.startswith("--"):
            overrides.append(f"{key}={_flag_value(value) if equals else 'true'}")
        elif word.startswith("~"):
            overrides.append(word)  # Hydra's way to take a key out
        elif equals:
            overrides.append(word if _is_override(word) else f"{key}={_flag_value(value)}")
        else:
            raise ValueError(f"'{word}' is not an override: write key=value, for example data_dir=/path/to/data.")
    return overrides


def as_flags(argv: Sequence[str], flags: Container[str]) -> list[str]:
    """Words with `--key=value` in the place of `key=value`, for commands that take flags; the value of a flag stays.

    Args:
        argv: the words.
        flags: those of the command, with their dashes.
    """
    words = list(argv)
    for place, word in enumerate(argv):
        before = argv[place - 1] if place else ""
        if f"--{word.partition('=')[0]}" in flags and "=" in word and (before not in flags):
            words[place] = f"--{word}"
    return words


def with_search_path(argv: Sequence[str]) -> list[str]:
    """Words with `--config-dir mine`, Hydra's flag for a folder of YAML files, as a setting, which every command takes.

    Raises:
        ValueError: if there is no such folder.
    """
    words, rest = [], iter(argv)
    for word in rest:
        flag, equals, folder = word.partition("=")
        if flag in CONFIG_DIR:
            folder = os.path.abspath(os.path.expanduser(folder if equals else next(rest, "")))
            if not os.path.isdir(folder):
                raise ValueError(f"{flag}: there is no folder {folder}.")
            word = SEARCH_PATH + f"[{quoted(f'file://{folder}')}]"
        words.append(word)
    return words


def is_setting(word: str) -> bool:
    """True for a word that sets a key: `key=value`, `--key=value` or `--key`."""
    return ("=" in word or word.startswith("--")) and not is_flag(word)


def is_flag(word: str) -> bool:
    """True for a flag of Hydra's own command line."""
    return word.startswith(HYDRA_FLAGS) or (word.startswith("-") and not word.startswith("--"))


def _is_override(word: str) -> bool:
    """True if Hydra should read `key=value`: not if it cannot, or would take a comma in a path for a list of values."""
    text = word.partition("=")[2]
    if text.startswith(("[", "{", "(", "'", '"')):
        return True  # Hydra's own syntax; it reports a mistake in it
    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException:
        return False
    return not (isinstance(value, ChoiceSweep) and value.simple_form and os.sep in text)


def _flag_value(value: str) -> str:
    value = os.path.expanduser(value)
    return value if PLAIN_VALUE.fullmatch(value) else quoted(value)


def quoted(value: str) -> str:
    """A text that Hydra reads as it is, and not as a number, a list or null."""
    return QuotedString(value, Quote.single).with_quotes()
