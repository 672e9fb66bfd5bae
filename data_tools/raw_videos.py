"""Search for the raw file of every video: nested and flat folders, any container, matched to lists by stem."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from fedvssl.data.video import VIDEO_SUFFIXES


def find_raw_videos(raw_dir: Path) -> list[Path]:
    """All files below `raw_dir` with the ending of a video, sorted.

    Raises:
        ValueError: if there are none.
    """
    if not raw_dir.is_dir():
        raise ValueError(f"No folder {raw_dir}: --raw_dir is the folder with the raw videos.")
    # Names that begin with a dot are left out: macOS puts a '._x.avi' beside every 'x.avi' it copies.
    paths = sorted(p for p in raw_dir.rglob("[!.]*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"No video in {raw_dir} or its folders: --raw_dir is the folder with the raw videos.")
    return paths


def match_to_names(paths: Iterable[Path], names: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Find the raw file of every listed video by its stem.

    Case does not matter (UCF-101 spells HandStandPushups and HandstandPushups), nor does the ending. If several files
    share a stem, files that agree in case are preferred, then files in a folder named like the class. A Kinetics clip
    `<youtube_id>_<start>_<end>` may also be called `<youtube_id>`; there the case matters.

    Args:
        paths: raw files.
        names: "<Class>/<stem>" as in the annotation files.

    Returns:
        name -> raw file, and the names that have none.

    Raises:
        ValueError: if several files fit a name equally well.
    """
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_stem[path.stem.casefold()].append(path)
    found: dict[str, Path] = {}
    missing = []
    for name in names:
        candidates = _best(_fitting(by_stem, PurePosixPath(name).name), name)
        if len(candidates) > 1:
            raise ValueError(f"{candidates[0]} and {candidates[1]} both fit {name}: remove or rename one of them.")
        if candidates:
            found[name] = candidates[0]
        else:
            missing.append(name)
    return found, missing


def name_by_folder(paths: Iterable[Path], raw_dir: Path) -> dict[str, Path]:
    """Name the videos after their folders and stems, for use without lists.

    Returns:
        "<folder>/<stem>" -> raw file; "<stem>" for files that lie in `raw_dir` itself.

    Raises:
        ValueError: if two files would get one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        name = path.stem if path.parent == raw_dir else f"{path.parent.name}/{path.stem}"
        if name in found:
            raise ValueError(f"{found[name]} and {path} would both become {name}: remove or rename one of them.")
        found[name] = path
    return found


def _fitting(by_stem: Mapping[str, list[Path]], stem: str) -> list[Path]:
    """Files that may be the video; `by_stem` has its keys in lower case."""
    clip = re.fullmatch(r"(.+)_\d{6}_\d{6}", stem)
    if clip is None:
        return by_stem.get(stem.casefold(), [])
    for wanted in (stem, clip[1]):
        if fitting := [path for path in by_stem.get(wanted.casefold(), []) if path.stem == wanted]:
            return fitting
    return []


def _best(candidates: list[Path], name: str) -> list[Path]:
    """Narrow down by each preference that at least one candidate meets."""
    listed = PurePosixPath(name)
    same_case = [path for path in candidates if path.stem == listed.name]
    candidates = same_case or candidates
    same_class = [path for path in candidates if _plain(path.parent.name) == _plain(listed.parent.name)]
    return same_class or candidates


def _plain(folder: str) -> str:
    return folder.casefold().replace(" ", "_")
