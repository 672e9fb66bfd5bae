"""Check what a node of a federation needs, settle its precision, and print the node's configuration for Flower.

    fedvssl node --client 1 --owner "St Mary" --media_dir /data/videos --list /data/list.json --state_dir /data/state

scripts/deploy/supernode.sh runs it before the SuperNode starts. The last line is for `flower-supernode --node-config`;
what the device computes in is kept in <state_dir>/precisions.json, so that the node can introduce itself at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fedvssl.building import build_sample, build_task
from fedvssl.client.node import check_data, read_node_config, write_precisions
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations
from fedvssl.data.made_up import write_made_up
from fedvssl.data.media import picture_of_sample
from fedvssl.files.ending import failed, one_line
from fedvssl.files.names import shown

NARROW = ("model.width=8",)  # the kernels are those of any width


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parse(argv)
    places = {name: str(Path(getattr(arguments, name)).absolute()) for name in ("media_dir", "list", "state_dir")}
    told = {name.replace("_", "-"): place for name, place in places.items()} | {"partition-id": arguments.client - 1}
    told |= {"owner": arguments.owner, "device": arguments.device}
    try:
        if quoted := [value for value in told.values() if "'" in str(value)]:
            raise ValueError(f"{quoted[0]} has an apostrophe, which Flower cannot read: give another name.")
        if odd := [value for value in told.values() if not str(value).isprintable()]:
            raise ValueError(f"{shown(str(odd[0]))} has a character that cannot be printed: give another name.")
        if arguments.client < 1:
            raise ValueError(f"--client {arguments.client}: clients are counted from 1, as in client_dist<N>.json.")
        partition_id, site = read_node_config(told)
        Path(site.state_dir).mkdir(parents=True, exist_ok=True)
        number = check_data(site, partition_id)
        picture_of_sample(Path(site.media_dir), read_annotations(Path(places["list"]))[0].name)
        found = precisions(arguments.device)
        write_precisions(Path(site.state_dir), found)
    except (ValueError, OSError) as error:
        return failed(one_line(error), code=2)
    print(f"{number} samples in {site.media_dir}, all there; computes in {', '.join(found)}", file=sys.stderr)
    print(
        " ".join(f"{name}='{value}'" if isinstance(value, str) else f"{name}={value}" for name, value in told.items())
    )
    return 0


def precisions(device: str) -> list[str]:
    """What the device computes in, the safe one first; bfloat16 is compared with float32 on a made-up video.

    Args:
        device: "cpu", "cuda" or "auto".

    Raises:
        ValueError: if there is no such device.
    """
    from fedvssl.data.dataset import SampleDataset
    from fedvssl.training.loop import seed_torch
    from fedvssl.training.precision import FULL, MIXED, checked_precision, choose_device
    from fedvssl.training.processes import check_devices

    device = choose_device(device)
    check_devices(device=device, devices=1)
    config = compose("base", NARROW)
    seed_torch((config["seed"],))
    with TemporaryDirectory(prefix="fedvssl-") as folder:
        videos = write_made_up(Path(folder))[:1] * 2
        dataset = SampleDataset(Path(folder), videos, build_sample(config), seed_key=(0,))
        found = checked_precision("auto", device=device, task=build_task(config), dataset=dataset, warn=_warn)
    return [FULL, *([MIXED] if found == MIXED else []), *(["16-mixed"] if device == "cuda" else [])]


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fedvssl node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", type=int, required=True, help="number of the client in the run, from 1")
    parser.add_argument("--owner", default="", help="name that the server shows")
    parser.add_argument("--media_dir", required=True, help="folder of the videos or pictures")
    parser.add_argument("--list", required=True, help="file of the list of this client")
    parser.add_argument("--state_dir", required=True, help="folder for what stays here")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is one")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
