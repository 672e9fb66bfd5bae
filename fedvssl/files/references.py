"""Papers and terms that a run should name, from references.md, by the classes and the data set in its settings.

In references.md `keywords` has the names of the classes and data sets that an entry is about, or "always"; `terms`
is a sentence on the terms of a data set. Both are one line each, and no part of the BibTeX that is shown.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

REFERENCES = Path(__file__).parent.parent / "references.md"  # Flower's bundle takes no .bib
ALWAYS = "always"  # keyword of this software's own paper
ENTRY = re.compile(r"^@.*?^\}\n", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"^  (keywords|terms) += \{(.*)\},\n", re.MULTILINE)


def names_in(settings: Mapping[str, Any]) -> set[str]:
    """Names of the classes in the settings of a run (last words of each `_target_`), and of its data set."""
    data = settings.get("data")
    named = {str(data["name"])} if isinstance(data, Mapping) and "name" in data else set()
    return named | {*_classes(settings)}


def bibtex(names: Collection[str]) -> str:
    """BibTeX of the papers about these names, in the order of the file, after that of this software."""
    return "\n".join(OURS.sub("", entry) for entry in _about(names))


def terms(names: Collection[str]) -> str:
    """Sentences on the terms of the data sets among these names; empty if none is known."""
    found = [dict(OURS.findall(entry)).get("terms") for entry in _about(names)]
    return " ".join(f"{sentence}." for sentence in found if sentence)


def _about(names: Collection[str]) -> Iterator[str]:
    for entry in ENTRY.findall(REFERENCES.read_text(encoding="utf-8")):
        if {ALWAYS, *names} & {*dict(OURS.findall(entry))["keywords"].split(", ")}:
            yield entry


def _classes(settings: Any) -> Iterator[str]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if name == "_target_":
                yield str(value).rpartition(".")[2]
            yield from _classes(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _classes(value)
