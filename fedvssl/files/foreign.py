"""Look at a file from elsewhere before it is read: what it is instead of a checkpoint, and how much it unpacks to.

A reader of such files ends in one sentence of ours, whatever the file does to it.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_BYTES = 2**30  # that a small file may unpack to: eight times R3D-18; a large one to twice its own size
FIRST = 512  # bytes that tell the kind; the mark of tar is at 257
AGAIN = "download it again"
UNPACK = "unpack it, and name the checkpoint in it"
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
}
ENCRYPTED = 1  # flag of a zip's entry
KNOWN_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class UnfitError(ValueError):
    """A sentence about a file; readers let it pass, and replace any other error by one of their own."""


@contextmanager
def in_one_sentence(path: Path | str) -> Iterator[None]:
    """Replace what libraries raise for a damaged or hostile file: their texts help no user, or advise to unpickle.

    Raises:
        UnfitError: for any exception.
    """
    try:
        yield
    except UnfitError:
        raise
    except PermissionError as error:
        raise UnfitError(f"{path} may not be read: change its permissions.") from error
    except Exception as error:
        raise UnfitError(f"{path} is damaged: {AGAIN}, or take another checkpoint.") from error


def first_bytes(path: Path | str) -> bytes:
    """Beginning of a file that may be a checkpoint.

    Raises:
        UnfitError: if it is missing, empty, or of a kind that nobody means to give, in a sentence for each kind.
    """
    path = Path(path)
    if path.is_dir():
        raise UnfitError(f"{path} is a folder: name a file in it.")
    if not path.is_file():
        raise UnfitError(f"No file {path}.")
    with in_one_sentence(path):
        with path.open("rb") as file:
            start = file.read(FIRST)
        if fault := _fault(start, is_zip=zipfile.is_zipfile(path)):
            raise UnfitError(f"{path} {fault}.")
    return start


def is_safetensors(start: bytes) -> bool:
    """True for a length below 4 GiB in eight bytes, and a JSON behind it."""
    return start[4:9] == b"\0\0\0\0{"


def _fault(start: bytes, *, is_zip: bool) -> str | None:
    if is_safetensors(start):
        return None  # whatever the bytes of its length look like
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start.strip(b"\0 \r\n\t"):
        return f"is empty: {AGAIN}" if not start else f"begins with nothing but zeros: {AGAIN}"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the file that it points to: fetch that with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<script", b"<!--")):
        return "is a web page, not a checkpoint: open its link in a browser and download the file behind it"
    if text.startswith((b"<?xml", b"<error", b'{"', b"{\n", b"{ ")):
        return f"is a text, such as a server's message, not a checkpoint: read it, and {AGAIN}"
    if name := next((name for mark, name in COMPRESSED.items() if start.startswith(mark)), None):
        return f"is compressed with {name}: unpack it first"
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it first"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, as Keras writes: save its weights as .safetensors or .npz"
    if start.startswith(b"PK") and not is_zip:
        return f"is incomplete, like a download that broke off: {AGAIN}"
    return None


def open_zip(path: Path | str) -> zipfile.ZipFile:
    """Open a zip whose entries can be read, and fill no memory.

    Raises:
        UnfitError: for another file, an encrypted one, another compression, a name twice, or too large a content.
    """
    with in_one_sentence(path):
        if not zipfile.is_zipfile(path):
            raise UnfitError(f"{path} is no .npz file or other zip archive.")
        archive = zipfile.ZipFile(path)
    try:
        _check_entries(path, archive.infolist())
    except UnfitError:
        archive.close()
        raise
    return archive


def _check_entries(path: Path | str, entries: list[zipfile.ZipInfo]) -> None:
    if any(entry.flag_bits & ENCRYPTED for entry in entries):
        raise UnfitError(f"{path} is encrypted: unpack it with its password, and pack it without one.")
    if any(entry.compress_type not in KNOWN_COMPRESSION for entry in entries):
        raise UnfitError(f"{path} is packed with an unusual compression: unpack it, and pack it without compression.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise UnfitError(f"{path} is damaged: it has two entries of one name.")
    if (total := sum(entry.file_size for entry in entries)) > max(MOST_BYTES, 2 * Path(path).stat().st_size):
        raise UnfitError(
            f"{path} unpacks to {total:,} bytes, more than {MOST_BYTES:,} and twice the file: do not trust this file."
        )
