"""Put the connection to a SuperLink into Flower's config.toml, and leave all that somebody else wrote there as it is.

    python scripts/deploy/connection.py <config.toml> <address> <ca.crt>

superlink.sh calls it at each start. Its own are `address` and `root-certificates` of [superlink.here]; other settings
of that section, other connections, the default and comments stay. It prints what it changes in a file that exists.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import atomic_path
from fedvssl.files.ending import exit_code

NEW = '[superlink]\ndefault = "here"\n[superlink.here]\n'
SECTION = re.compile(r"^[ \t]*\[superlink\.here\][^\n]*\n", re.MULTILINE)
NEXT = re.compile(r"^[ \t]*\[", re.MULTILINE)


def put_connection(path: Path, wanted: dict[str, str]) -> list[str]:
    """Write what is missing or differs in [superlink.here].

    Args:
        path: of config.toml, which may be missing.
        wanted: keys and values of the section.

    Returns:
        What was changed of a file that existed, in a sentence each.

    Raises:
        ValueError: if the file is no TOML, or has the section in a form that is not changed here.
    """
    text = read(path)
    old, default = connection_in(text, path)
    if all((old or {}).get(key) == value for key, value in wanted.items()):
        return []
    new = f"{text}\n" if old is not None else f"{text.rstrip()}\n\n[superlink.here]\n" if text.strip() else NEW
    for key, value in reversed(wanted.items()):  # a new line is put before the others
        new = with_value(new, key, json.dumps(value, ensure_ascii=False))  # a string of JSON is one of TOML
    try:
        found, _ = connection_in(new, path)
    except ValueError:
        found = None
    if found != {**(old or {}), **wanted}:
        lines = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in wanted.items())
        raise ValueError(f"{path} has a [superlink.here] that only you can change: give it {lines}.")
    with atomic_path(path.resolve()) as temporary:  # a link stays one
        temporary.write_text(new.removesuffix("\n") if old is not None else new, encoding="utf-8")
        if path.is_file():
            temporary.chmod(path.stat().st_mode)
    if not text.strip():
        return []
    if old is None:
        told = f"{path}: [superlink.here] was added, everything else is as it was."
        others = f"`flwr` and `fedvssl submit` take {default or 'none'} unless they are told `here`."
        return [told if default == "here" else f"{told} {others}"]
    return [
        f"{path}: {key} of [superlink.here] was {old.get(key, 'missing')}, is now {value}."
        for key, value in wanted.items()
        if old.get(key) != value
    ]


def read(path: Path) -> str:
    """Text of the file, "" if there is none."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: mend or remove it.") from error


def connection_in(text: str, path: Path) -> tuple[dict[str, Any] | None, Any]:
    """Section [superlink.here], None if there is none; and the name of the default connection."""
    try:
        found = tomllib.loads(text).get("superlink", {})
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as TOML ({error}): mend or remove it.") from error
    if not isinstance(found, dict) or not isinstance(found.get("here", {}), dict):
        raise ValueError(f"{path} has a [superlink] that is none of Flower: mend or remove it.")
    return found.get("here"), found.get("default")


def with_value(text: str, key: str, value: str) -> str:
    """Text whose [superlink.here] has the line `key = value`, in the place of the old one or as its first."""
    if not (header := SECTION.search(text)):
        return text
    following = NEXT.search(text, header.end())
    end = following.start() if following else len(text)
    line, section = f"{key} = {value}", text[header.end() : end]
    section, found = re.subn(rf"^[ \t]*{key}[ \t]*=.*$", lambda _: line, section, count=1, flags=re.MULTILINE)
    return text[: header.end()] + (section if found else f"{line}\n{section}") + text[end:]


def main(argv: list[str]) -> int:
    """The command."""
    path, address, authority = argv
    wanted = {"address": address, "root-certificates": authority}
    return exit_code(lambda: [print(change) for change in put_connection(Path(path), wanted)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
