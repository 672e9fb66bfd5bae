"""Text files that other programs wrote: decoded here, whatever wrote them, or rejected in one sentence."""

import codecs
import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
MOST_BYTES = 512 * 2**20  # of a list: the longest published ones have a third of it
MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    A file in another encoding is read as Windows wrote western languages (cp1252), and a line says so. Ends of lines
    become "\\n", also those of old Macs, which have no other character for it.

    Raises:
        ValueError: if the file is missing, cannot be read, is too large, or is no text.
    """
    data = _read_bytes(path)
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in {encoding.upper()}: save it as UTF-8.") from None
    if encoding == "cp1252":
        log.warning("%s is not in UTF-8 and is read as Windows-1252: save it as UTF-8 if names come out wrong.", path)
    text = text.replace("\r\n", "\n").replace("\ufeff", "")  # a mark in the middle is from two files made one
    return text if "\n" in text else text.replace("\r", "\n")


def read_json_text(path: Path) -> Any:
    """Content of a JSON file that another program or a user may have written.

    Raises:
        ValueError: as `read_text`, and if the file is no JSON, or gives one key two values.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unambiguous)
    except json.JSONDecodeError as error:
        where = f"the mistake is in line {error.lineno}, column {error.colno}"
    except _TwoValuesError as error:
        where = f"the key {error} comes twice, with two values"
    except (ValueError, RecursionError):
        where = "its numbers are too long or its lists lie too deep in each other"
    raise ValueError(f"{path} cannot be read as JSON, {where}: mend it or write it again.")


class _TwoValuesError(ValueError):
    """A key of an object comes twice, with two values."""


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) and (twice := [key for key, value in pairs if found[key] != value]):
        raise _TwoValuesError(repr(twice[0][:80]))
    return found


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"There is no file {path}: check the path.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} is larger than {MOST_BYTES >> 20} MB, which no list is: check the path.")
        return path.read_bytes()
    except OSError:
        raise ValueError(f"{path} cannot be read: check its permissions and its disk.") from None


def _encoding(data: bytes) -> str:
    """Encoding by the mark at the beginning; UTF-16 without one is told by the zero bytes of its ASCII characters."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return encoding
    even, odd = data[::2].count(0), data[1::2].count(0)
    if max(even, odd) > len(data) / 5 and min(even, odd) < max(even, odd) / 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
