"""A node of a federation: what its owner has told it, and the check of its data. It needs no torch.

Flower hands a node's `--node-config` to the client; none of it travels:
    partition-id   which client of the run it is, from 0
    media-dir      folder of the videos or pictures
    list           file of the list
    state-dir      folder for what stays here: the client's own arrays, its log, and precisions.json
    owner          name that the server shows; optional, as all below
    device         "cpu", "cuda" or "auto"
    num-workers    processes that decode
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedvssl.client.order import Site
from fedvssl.data.annotations import read_annotations
from fedvssl.data.media import find_media
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.names import listed

KINDS = {
    **{"partition-id": int, "media-dir": str, "list": str, "state-dir": str},
    **{"owner": str, "device": str, "num-workers": int},
}
NEEDED = list(KINDS)[:4]
PRECISIONS_FILE = "precisions.json"


def read_node_config(told: Mapping[str, object]) -> tuple[int, Site]:
    """Partition id and site of a node's client.

    Args:
        told: the node's configuration.

    Raises:
        ValueError: naming the first key that is missing, unknown, or of another type.
    """
    for name in NEEDED:
        if name not in told:
            raise ValueError(f"The node's configuration lacks {name}: give it in --node-config, as supernode.sh does.")
    for name, value in told.items():
        if name not in KINDS:
            raise ValueError(
                f"The node's configuration has {name!r}, which is none of {listed([*KINDS])}: take it out."
            )
        if type(value) is not KINDS[name]:
            raise ValueError(
                f"The node's configuration has {name}={value!r}: it must be of type {KINDS[name].__name__}."
            )
    state_dir = str(told["state-dir"])
    site = Site(
        media_dir=str(told["media-dir"]),
        partition_dir="",
        state_dir=state_dir,
        device=str(told.get("device", "auto")),
        num_workers=told.get("num-workers", "auto"),  # pyright: ignore[reportArgumentType]
        list_file=str(told["list"]),
        owner=str(told.get("owner", "")),
        precisions=read_precisions(Path(state_dir)),
    )
    return int(str(told["partition-id"])), site


def check_data(site: Site, partition_id: int) -> int:
    """Look for the list and for every file in it; return their number.

    Raises:
        ValueError: with one sentence for the owner and for the server.
    """
    annotations, missing = read_annotations(path := site.list_path(partition_id)), []
    if not os.path.isdir(site.media_dir):
        raise ValueError(f"There is no folder {site.media_dir}: set media-dir to where the videos or pictures are.")
    for name in (annotation.name for annotation in annotations):
        try:
            find_media(Path(site.media_dir), name)
        except (ValueError, OSError):  # the second for a name that no file can have
            missing.append(name)
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(annotations)} samples of {path} are missing in {site.media_dir}, the first is "
            f"{missing[0]}: copy them there, or take them out of the list."
        )
    return len(annotations)


def write_precisions(state_dir: Path, precisions: Sequence[str]) -> None:
    """Keep what the node computes in, for introductions, which are to need no torch."""
    write_json(state_dir / PRECISIONS_FILE, list(precisions))


def read_precisions(state_dir: Path) -> tuple[str, ...]:
    """What the node computes in; empty if nobody has looked, or the file is damaged: then float32 is safe."""
    try:
        kept = read_json(state_dir / PRECISIONS_FILE)
    except (OSError, ValueError):
        return ()
    return tuple(map(str, kept)) if isinstance(kept, list) else ()
