"""Names from lists, archives and settings that become paths: inside their folder on every system, or rejected.

A name is text such as "Archery/v_Archery_g01_c01", with "/" between its parts. It is checked where it enters.
"""

import re
from collections.abc import Sequence

MOST_BYTES = 240  # of a part: disks take 255, a temporary name adds a dot, a process id and an ending
MOST_BYTES_IN_ALL = 1000  # systems take 1024 or 4096 with the folders before
DRIVE = re.compile(r"[a-z]:", re.IGNORECASE)
DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # and halves of characters
MOST_SHOWN = 80  # characters of a name in a message


def check_name(name: str, *, where: object) -> str:
    """Check that a name, joined to a folder, leads to a file or folder inside it, on Linux, macOS and Windows.

    Args:
        name: parts with "/" between them.
        where: file, line or setting that has the name, for the message.

    Returns:
        the name, unchanged.

    Raises:
        ValueError: naming `where`, the name and its fault.
    """
    if fault := _fault(name):
        raise ValueError(f"{where}: the name {shown(name)} {fault}.")
    return name


def client_number(partition_id: int) -> int:
    """Number of a client wherever people read one, from 1 as in client_dist<N>.json; Flower's partitions begin at 0."""
    return partition_id + 1


def shown(name: str) -> str:
    """Name in quotes for a message: shortened, and without characters that a terminal would obey."""
    return repr(name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}...")


def _fault(name: str) -> str | None:
    """Fault of a name and what to do, as the end of a sentence; None for a good name."""
    parts = name.split("/")
    if not name:
        return "is empty: give one"
    if UNPRINTABLE.search(name):
        return "holds a control character or half a character: take it out"
    if _leads_outside(name):
        return "leads outside the folder: name a file inside it, without '..', '/' at the beginning or a drive"
    if "\\" in name:
        return "holds a backslash: write / between folders"
    if empty := [part for part in parts if not part.strip(". ")]:
        return f"has the part {empty[0]!r}, which is no name: take it out"
    if device := next((part for part in parts if DEVICE.fullmatch(part)), None):
        return f"has the part {shown(device)}, a device of Windows: rename it"
    if max(len(part.encode()) for part in parts) > MOST_BYTES or len(name.encode()) > MOST_BYTES_IN_ALL:
        return f"is too long: at most {MOST_BYTES} bytes for a part and {MOST_BYTES_IN_ALL} in all leave room on a disk"
    return None


def listed(names: Sequence[str]) -> str:
    """ "'a', 'b', 'c' and 4 more" """
    first = ", ".join(map(shown, names[:3]))
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def _leads_outside(name: str) -> bool:
    """True for a path that is absolute, or that climbs out, in the spelling of POSIX or of Windows."""
    parts = re.split(r"[/\\]", name)
    return not parts[0] or ".." in parts or any(DRIVE.match(part) for part in parts)
