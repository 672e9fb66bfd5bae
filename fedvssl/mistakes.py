"""Sentences about mistakes on a command line or in a YAML file, in the place of Hydra's own words."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

UNKNOWN = re.compile(r"(?:Could not override|Could not delete(?: from config\.)?|config group) '~?([^'=@]+)")
THERE = re.compile(r"An item is already at '([^']+)'")
MISSING = re.compile(r"Could not find '(?:(.*)/)?([^'/]*)'")
SEVERAL = re.compile(r"sweep|multirun|multi-run", re.IGNORECASE)
TWICE = re.compile(r"Multiple values for ([^.]+)\.")
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
        word = next((word for word in words if options(word.partition("=")[0])), "a group")
        group, _, name = word.partition("=")
        return no_option(group, name, options(group))
    if SEVERAL.search(text):
        return "A setting has one value: write a list as key=[a,b]; fedvssl.sweep compares several settings."
    if line := getattr(getattr(error, "problem_mark", None), "line", None):
        return f"it cannot be read as YAML at line {line + 1}: mend the file there."
    if key := getattr(error, "full_key", None):
        return f"'{key}' refers to a setting that is not there, or cannot be read: look for its ${{...}}."
    named = getattr(error, "override", None) or ", ".join(words) or "the file"
    return f"cannot read {named}: close brackets and quotes, or put the value in quotes of its own (\"key='a b'\")."


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
