"""Lines that were added to core files since a commit: the price of a new method for everybody else.

    python -m tests.core_lines 240e3b5

Core is every file of fedvssl/ that is no leaf; tests/test_architecture.py has the list. Moved lines count as old: a
line is new if the commit had fewer of it in all files of fedvssl/, data_tools/ and conf/. The commands' YAML files are
core too. Docstrings, comments, imports, empty lines and lines of brackets do not count.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

from tests.test_architecture import FILES, ROOT, is_core, place

TREES = ("fedvssl", "data_tools", "conf")
NOT_COUNTED = ("import ", "from ", "#")
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
BRACKETS = set("()[]{},:")


def counted(text: str) -> Counter[str]:
    """Number of times that a text has each line of code, without indentation."""
    lines = [line.strip() for line in text.splitlines()]
    for node in ast.walk(parsed(text)):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno or 0
            lines[first:last] = [""] * (last - first)
    return Counter(line for line in lines if set(line) - BRACKETS and not line.startswith(NOT_COUNTED))


def parsed(text: str) -> ast.Module:
    """Syntax tree of Python; an empty one of YAML."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module([], [])


def added(before: Iterable[str], after: dict[str, str]) -> dict[str, int]:
    """Name of a text -> number of its lines that the earlier texts together do not have."""
    left = Counter[str]()
    for text in before:
        left += counted(text)
    found = {}
    for name, text in after.items():
        own = counted(text)
        found[name] = (own - left).total()
        left -= own
    return {name: number for name, number in found.items() if number}


def texts_at(commit: str) -> list[str]:
    """Python files of the packages at a commit.

    Raises:
        ValueError: if git does not know the commit.
    """
    git = ["git", "-C", str(ROOT)]
    listed = subprocess.run([*git, "ls-tree", "-r", "--name-only", commit, *TREES], capture_output=True, text=True)
    if listed.returncode:
        raise ValueError(f"git does not know {commit}: {listed.stderr.strip()}")
    names = [name for name in listed.stdout.splitlines() if name.endswith((".py", ".yaml"))]
    show = [subprocess.run([*git, "show", f"{commit}:{name}"], capture_output=True, text=True) for name in names]
    return [done.stdout for done in show]


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare this tree with")
    try:
        before = texts_at(parser.parse_args().commit)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = [*(path for path in FILES if is_core(place(path))), *(ROOT / "conf").glob("*.yaml")]
    core = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    found = added(before, core)
    for name, number in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{number:5} {name}")
    print(f"{sum(found.values()):5} lines added to {len(found)} of {len(core)} core files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
