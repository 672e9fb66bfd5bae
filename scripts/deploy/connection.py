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
SECTION = re.compile(r"^\[superlink\.here\][^\n]*\n", re.MULTILINE)


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
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    old = connection_in(text, path)
    if all((old or {}).get(key) == value for key, value in wanted.items()):
        return []
    new = text if old is not None else f"{text.rstrip()}\n\n[superlink.here]\n" if text.strip() else NEW
    for key, value in reversed(wanted.items()):  # a new line is put before the others
        new = with_value(new, key, json.dumps(value, ensure_ascii=False))  # a string of JSON is one of TOML
    try:
        found = connection_in(new, path)
    except ValueError:
        found = None
    if found != {**(old or {}), **wanted}:
        lines = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in wanted.items())
        raise ValueError(f"{path} has a [superlink.here] that only you can change: give it {lines}.")
    with atomic_path(path) as temporary:
        temporary.write_text(new, encoding="utf-8")
    if not text.strip():
        return []
    if old is None:
        return [f"{path}: [superlink.here] was added, everything else is as it was."]
    return [
        f"{path}: {key} of [superlink.here] was {old.get(key, 'missing')}, is now {value}."
        for key, value in wanted.items()
        if old.get(key) != value
    ]


def connection_in(text: str, path: Path) -> dict[str, Any] | None:
    """Section [superlink.here]; None if there is none."""
    try:
        found = tomllib.loads(text).get("superlink", {})
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as TOML ({error}): mend or remove it.") from error
    return found.get("here") if isinstance(found, dict) else None


def with_value(text: str, key: str, value: str) -> str:
    """Text whose [superlink.here] has the line `key = value`, in the place of the old one or as its first."""
    if not (header := SECTION.search(text)):
        return text
    end = text.find("\n[", header.end() - 1)
    end = len(text) if end < 0 else end
    line, section = f"{key} = {value}", text[header.end() : end]
    section, found = re.subn(rf"^{key}\s*=.*$", lambda _: line, section, count=1, flags=re.MULTILINE)
    return text[: header.end()] + (section if found else f"{line}\n{section}") + text[end:]


def main(argv: list[str]) -> int:
    """The command."""
    path, address, authority = argv
    wanted = {"address": address, "root-certificates": authority}
    return exit_code(lambda: [print(change) for change in put_connection(Path(path), wanted)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
