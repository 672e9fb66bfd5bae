"""Sentences about mistakes on a command line or in a YAML file, in the place of Hydra's own words."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from fedvssl.files.settings import flat
from fedvssl.places import conf_dir
from fedvssl.ranges import ANY, kind_of

UNKNOWN = re.compile(r"(?:Could not override|Could not delete(?: from config\.)?|config group) '~?([^'=@]+)")
THERE = re.compile(r"An item is already at '([^']+)'")
MISSING = re.compile(r"Could not find '(?:(.*)/)?([^'/]*)'")
SEVERAL = re.compile(r"sweep|multirun|multi-run", re.IGNORECASE)
UNFIT = re.compile(r"Error merging override (.+)")
TWICE = re.compile(r"Multiple values for ([^.]+)\.")
OPEN = {"protocols", "backbone"}  # sections that take further names
NO_NAME = "Config group override"
LONGEST = 900
MOST_NAMES = 40  # that a sentence lists


def explain(
    error: Exception,
    words: Sequence[str],
    *,
    keys: Callable[[], Sequence[str]],
    options: Callable[[str], Sequence[str]],
) -> str:
    """A sentence on what Hydra, OmegaConf or the reader of YAML rejects.

    Args:
        error: theirs.
        words: overrides of the command line.
        keys: gives the dotted names of all settings and groups.
        options: gives the names of the files and folders of a group.
    """
    text = str(error)
    if found := MISSING.search(text):
        group = found[1] or ""
        return no_option(group, found[2], options(group) or getattr(error, "options", None) or [])
    if found := UNKNOWN.search(text):
        return f"'{found[1]}' is no setting here.{did_you_mean(found[1], keys())} --help lists all."
    if found := THERE.search(text):
        return f"'{found[1]}' is a setting already: leave out the + before it."
    if found := TWICE.search(text):
        return f"{found[1]} is chosen twice: leave out one of them."
    if NO_NAME in text:
        groups = (word for word in words if (group := word.partition("=")[0]) == "hydra" or options(group))
        word = next(groups, "a group")
        group, _, name = word.partition("=")
        return no_option(group, name, options(group))
    if SEVERAL.search(text):
        return "A setting has one value: write a list as key=[a,b]; fedvssl.sweep compares several settings."
    if line := getattr(getattr(error, "problem_mark", None), "line", None):
        return f"it cannot be read as YAML at line {line + 1}: mend the file there."
    if key := getattr(error, "full_key", None):
        return f"'{key}' refers to a setting that is not there, or cannot be read: look for its ${{...}}."
    if found := UNFIT.search(text):
        return f"{found[1]} does not fit: this setting is {_wanted(found[1], str(error.__cause__))}."
    named = getattr(error, "override", None) or ", ".join(words) or "the file"
    return f"cannot read {named}: close brackets and quotes, or put the value in quotes of its own (\"key='a b'\")."


def _wanted(word: str, reason: str) -> str:
    """What a setting takes in the place of the word's value."""
    if "ListConfig" not in reason:
        return "one text or number, no list and not null"
    is_section = word.partition("=")[2].startswith("{")
    return "a list, such as [1,2]" if is_section else "a section, of which single settings are set by their full names"


def printable(text: str) -> str:
    """A text in one line, of at most LONGEST letters."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def no_option(group: str, name: str, options: Iterable[str]) -> str:
    """Sentence about a file that a group of the configuration does not have."""
    options = sorted({*options})
    if group.startswith("experiment/"):
        experiment = group.removeprefix("experiment/")
        return f"experiment={experiment} has no settings of this kind of command, only: {', '.join(options)}."
    listed = f" There are: {', '.join(options[:MOST_NAMES])}." if options else ""
    near = did_you_mean(name, options).replace("Did you mean ", f"Did you mean {group}=")
    return f"{group}={name} is unknown.{near}{listed}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ " Did you mean <the nearest name>?", or "" if none is near."""
    known = {*names} - {name}  # a group that others may choose from
    last = name.rpartition(".")[2]
    ends: dict[str, str] = {}
    for other in sorted(known, key=lambda other: (other.count("."), other)):
        ends.setdefault(other.rpartition(".")[2], other)
    near = get_close_matches(name, known, n=1, cutoff=0.75) or [ends[n] for n in get_close_matches(last, ends, n=1)]
    return f" Did you mean {near[0]}?" if near else ""


def refuse_unused(composed: Any, overrides: Sequence[str]) -> None:
    """Reject `+key=value` that nothing would use, and `~key` that a command needs: only classes get what they are told.

    Raises:
        ValueError: naming the word and the nearest setting.
    """
    for word in overrides:
        key, taken = word.lstrip("+~").partition("=")[0], word.startswith("~")
        *parents, name = key.split(".")
        is_group = (conf_dir() / key.partition("@")[0]).is_dir() and (not taken or key == "experiment")
        if not word.startswith(("+", "~")) or is_group or parents[:1] == ["hydra"]:
            continue
        above = [".".join(parents[:end]) for end in range(1, len(parents) + 1)]
        is_open = any(part in OPEN for part in parents) or kind_of((parents or [name])[:1]) is ANY
        is_open |= any(OmegaConf.select(composed, f"{part}._target_") for part in above)
        if taken and (not is_open or name == "_target_" or f" {key}." in _of_command()):
            raise ValueError(f"'{word}' takes out what is needed: give {key} another value instead.")
        if not is_open:
            known: Any = OmegaConf.to_container(composed, resolve=False)
            names = {name for name, _ in flat(known)} - {key}
            raise ValueError(f"'{word}' has no effect: {key} is no setting.{did_you_mean(key, names)}")


@cache
def _of_command() -> str:
    """Names of the settings of base.yaml itself, each between a blank and a dot."""
    own: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "base.yaml"), resolve=False)
    return "".join(f" {name}." for name, _ in flat(own))
