"""Files and folders that are either whole or absent: written under a temporary name and renamed."""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in the error of a full disk, which says nothing of it."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to `path` when the block ends well and removed when it raises.

    A missing folder is created. The name is hidden, private to this process and keeps the suffix that writers look at.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # `remove_leftovers` knows this form
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # or a power cut could leave the new name on an empty file
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str, *, older_than: float = 0.0) -> None:
    """Remove the temporary files and folders of killed writers whose final names would have matched.

    Only the owner of these names may call this: a living writer has such files too. In a folder without an owner give
    an age that the file of a living writer does not reach.

    Args:
        pattern: of the final names below `folder`, such as "loss.png" or "clients/*/*.npz".
        older_than: seconds since the last change; younger ones stay.
    """
    newest = time.time() - older_than
    *parents, last = pattern.split("/")
    for path in sorted(folder.glob("/".join([*parents, ".*"]))):
        form = re.fullmatch(r"\.(.+)\.\d+(\.\w+)?", path.name)
        is_named = form and fnmatchcase(f"{form[1]}{form[2] or ''}", last)
        if is_named and (not older_than or path.stat().st_mtime < newest):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, *, advice: str = "remove it, or run the command that writes it again") -> Any:
    """Read a JSON file.

    Raises:
        ValueError: if the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {advice}.") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, renamed to `path` when the block ends well and removed when it raises.

    Raises:
        ValueError: if `path` exists and is not an empty folder, because it cannot be replaced in one step.
    """
    path = path.resolve()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already and not an empty folder: remove it, or name another.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process with the same id
    temporary.mkdir()
    try:
        with naming(path):
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
