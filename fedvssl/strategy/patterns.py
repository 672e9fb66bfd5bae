"""Patterns of the names of arrays."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def fits(name: str, patterns: Sequence[str]) -> bool:
    """True if patterns such as "backbone.*" choose a name.

    A pattern that begins with "!" excludes. The last one that fits the name decides.
    """
    fitting = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


def check_patterns(patterns: Sequence[str], *, where: str) -> list[str]:
    """The patterns as a list.

    Raises:
        ValueError: if they are no list of words; `where` names the setting.
    """
    if isinstance(patterns, str):
        raise ValueError(f"{where}={patterns} must be a list, such as [{patterns}].")
    if not (isinstance(patterns, Sequence) and all(isinstance(pattern, str) for pattern in patterns)):
        raise ValueError(f"{where}={patterns} must be a list of names, such as [head.*].")
    return list(patterns)
