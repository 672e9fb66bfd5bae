"""Files below a folder of raw media: links are followed once, folders of tools and hidden ones are passed over."""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedvssl.files.names import shown

# Folders that programs leave beside media; those that begin with a dot are hidden anyway.
OF_TOOLS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"}

MOST_TOLD = 20  # links and folders that are named


def is_hidden(parts: Iterable[str]) -> bool:
    """True if a part of a path is hidden or belongs to a tool, such as ".ipynb_checkpoints" or "__MACOSX"."""
    return any(part.startswith(".") or part.casefold() in OF_TOOLS for part in parts)


@dataclass
class Walk:
    """Outcome of a walk.

    Args:
        files: all that were found, sorted. A file that several links lead to is there once for each.
        folders: all folders, sorted.
        hidden: hidden files and folders that were passed over; what is inside these folders is not counted.
        broken: link -> reason for which it leads nowhere, or to what is searched anyway.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)

    def lines(self, raw_dir: Path) -> Iterator[str]:
        """Sentences about what was passed over."""
        if self.hidden:
            names = ", ".join(shown(str(path.relative_to(raw_dir))) for path in self.hidden[:3])
            more = " ..." if len(self.hidden) > 3 else ""
            yield f"{len(self.hidden)} hidden files and folders, or those of tools, are passed over: {names}{more}"
        for path, reason in list(self.broken.items())[:MOST_TOLD]:
            yield f"{os.fsencode(path).decode(errors='replace')} {reason}"
        if len(self.broken) > MOST_TOLD:
            yield f"{len(self.broken) - MOST_TOLD} more links and folders are passed over."


def walk(folder: Path) -> Walk:
    """Find all files and folders below a folder, in the order of their names.

    A linked folder is searched after all others, and no folder twice: so a link into the folder itself ends there.
    """
    found, linked, seen = Walk(), [], set[tuple[int, int]]()
    waiting = [folder]
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop()
        try:
            status = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name, reverse=True)
        except OSError:
            found.broken[place] = "cannot be opened: check that you may read it."
            continue
        if (status.st_dev, status.st_ino) in seen:
            found.broken[place] = "leads to a folder that is searched anyway: it is not searched again."
            continue
        seen.add((status.st_dev, status.st_ino))
        found.folders += [place] if place != folder else []
        for entry in entries:
            path = place / entry.name
            if is_hidden([entry.name]):
                found.hidden.append(path)
            elif os.path.isdir(path) if entry.is_symlink() else entry.is_dir():  # a link to itself makes entry raise
                (linked if entry.is_symlink() else waiting).append(path)
            elif os.path.isfile(path) if entry.is_symlink() else entry.is_file():
                found.files.append(path)
            elif entry.is_symlink():
                found.broken[path] = "is a link to nothing: mend or remove it."
    return Walk(sorted(found.files), sorted(found.folders), sorted(found.hidden), dict(sorted(found.broken.items())))


def files_ending(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Files below a folder by their endings, which are given in lower case, without hidden ones."""
    return (path for path in walk(folder).files if path.suffix.lower() in suffixes)
