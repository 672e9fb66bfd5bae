"""Federated pre-training: clients in Flower's simulation, on a Ray cluster, or one after the other in this process.

    python -m fedvssl.main data_dir=data
    python -m fedvssl.main data_dir=data pool_size=3 rounds=10 strategy.mix_coeff=1 client_resources.num_gpus=0.5

A folder of videos that is no data set yet:
    fedvssl train --videos my_videos --owners first-folder
    fedvssl train --videos my_videos --owners 4 --held_out 0.2 --name mine --yes rounds=30
    fedvssl train --videos my_videos --help     tells these flags

To continue a run, give the same settings and its folder; `rounds` may be higher:
    python -m fedvssl.main data_dir=data rounds=40 hydra.run.dir=outputs/<DATE>/<TIME>/fedvssl_results

Settings and presets are in conf/: base.yaml, strategy/, experiment/. Results go to outputs/<DATE>/<TIME>/<exp_name>/.
"""

import logging
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fedvssl.config import Config, conf_dir, for_hydra, to_dict
from fedvssl.data.annotations import lists_in
from fedvssl.data.split import Split, refuse_train_list
from fedvssl.early import answered, look_for_files
from fedvssl.engines import ENGINES, Limits, device_of, end_of_run
from fedvssl.files.ending import (
    READER_LEFT,
    ReaderLeftError,
    end_code,
    end_word,
    failed,
    interruptible,
    one_line,
    to_a_reader,
)
from fedvssl.files.environment import record_environment
from fedvssl.files.lock import owned
from fedvssl.files.runs import newest_round
from fedvssl.identity import WRITES, decisive_settings, keep_settings, reject_other_run

if TYPE_CHECKING:
    from fedvssl.client.order import Site
    from fedvssl.data.dataset import NumWorkers

log = logging.getLogger("fedvssl.main")  # __name__ is "__main__" here

# Ray's folder for temporary files: a socket has at most 107 bytes, and Ray adds these to it.
LONGEST_FOLDER = 107 - len("/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store")


def main() -> None:
    """Run the command: mistakes end with `error: <sentence>` and exit code 2, a run that cannot go on with exit code 1.

    The words are first read by the rules of the other commands, then by Hydra.
    """
    if answered("main"):
        return
    try:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        with interruptible(), to_a_reader():
            _main()
    except ReaderLeftError:
        sys.exit(READER_LEFT)
    except ValueError as error:
        sys.exit(failed(error, code=2))
    except KeyboardInterrupt as error:
        sys.exit(failed(f"{end_word(error)} before the run began.", code=end_code(error)))


@hydra.main(config_path=str(conf_dir()), config_name="base", version_base="1.3")
def _main(composed: DictConfig) -> None:
    for name in ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED"):
        os.environ.setdefault(name, "0")
    logging.raiseExceptions = False  # a full disk is reported once, not for every line of a log
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        with owned(run_dir, writes=WRITES, tell=log.info):
            run(to_dict(composed), run_dir=run_dir)
    except (ValueError, TypeError, HydraException, OmegaConfBaseException) as error:  # all but the first: a wrong type
        sys.exit(failed(one_line(error), code=2))
    except (RuntimeError, OSError) as error:
        sys.exit(failed(end_of_run(error, run_dir), code=1))
    except KeyboardInterrupt as error:
        code = failed(end_of_run(end_word(error), run_dir), code=end_code(error))
        os._exit(code)  # sys.exit would wait for the server's thread, which waits for clients that are gone


def run(config: Config, *, run_dir: Path) -> None:
    """Check everything, then train.

    Raises:
        ValueError: for a mistake in the configuration or the data, before anything is started.
        RuntimeError, OSError: if the run cannot go on; everything saved so far is kept.
    """
    check_engine(config["engine"], address=config["ray"]["address"])
    refuse_train_list(data := Split.of(config["data"]))
    look_for_files("main", config, begun=newest_round(run_dir) is not None)
    log.info("Loading PyTorch ...")
    from fedvssl.data.client_lists import check_client_lists
    from fedvssl.data.seen import keep_seen
    from fedvssl.files.earlier_round import go_back
    from fedvssl.preflight import expected_report, fit_precision, settle, try_out
    from fedvssl.server_rounds import complete
    from fedvssl.server_run import build_run
    from fedvssl.training.footprint import client_bytes, saved_for_backward

    config = settle(config)
    trial = try_out(config)
    server = None if config["eval"]["every"] is None else Split.of(config["data"], config["eval"])
    seen = check_client_lists(data, lists_in(config["partition_dir"], config["pool_size"]), server, init=config["init"])
    device = device_of(config["engine"], num_gpus=config["client_resources"]["num_gpus"])
    with saved_for_backward() as saved:
        report = expected_report(trial)
    precision = fit_precision(config["training"], trial, device=device)
    config = {**config, "training": {**config["training"], "precision": precision}}
    settings = decisive_settings(config)
    if config["from_round"] is not None:
        reject_other_run(run_dir, settings, allow_changes=config["allow_changes"])
        log.info("%s", go_back(run_dir, config["from_round"]))
    built = build_run(config, run_dir=run_dir, report=report)
    keep_settings(run_dir, config, decisive=settings)
    keep_seen(run_dir, seen)
    if built.done >= built.rounds:
        complete(built)
        log.info("All %d rounds are already in %s.", built.done, run_dir)
        return
    record_environment(run_dir, done=built.done)
    log.info("%s in %s", f"Continuing after round {built.done}" if built.done else "Starting", run_dir)
    folders = {"media_dir": data.media_dir, "partition_dir": config["partition_dir"], "state_dir": run_dir / "clients"}
    site = site_of(folders, device=device, num_workers=config["training"]["num_workers"])
    needs = client_bytes(saved, trial.task, config["training"], samples=2, on_gpu=device != "cpu")
    ENGINES[config["engine"]](built, site, Limits.of(config, client_bytes=needs))
    log.info("Done: %s", run_dir)


def site_of(folders: Mapping[str, Path], *, device: str, num_workers: "NumWorkers") -> "Site":
    """Site of all clients; other processes may work in other folders, so its paths are absolute."""
    from fedvssl.client.order import Site

    media_dir, partition_dir, state_dir = (
        os.path.abspath(folders[name]) for name in ("media_dir", "partition_dir", "state_dir")
    )
    return Site(media_dir, partition_dir, state_dir, device=device, num_workers=num_workers)


def check_engine(name: str, *, address: str | None = None) -> None:
    """Reject an engine that is unknown or not installed.

    Args:
        name: of the engine.
        address: of a Ray cluster, for engine=cluster alone.

    Raises:
        ValueError: naming it, or a folder for temporary files in which Ray could not start.
    """
    if name not in ENGINES:
        raise ValueError(f"engine={name} is unknown: choose {' or '.join(ENGINES)}.")
    if name != "local" and find_spec("ray") is None:
        raise ValueError(f"engine={name} needs Ray: pip install 'fedvssl[ray]', or set engine=local.")
    if name == "cluster" and address is None:
        raise ValueError(
            "engine=cluster needs ray.address=<host>:<port> of the cluster, or auto on one of its machines."
        )
    if name != "cluster" and address is not None:
        raise ValueError(f"ray.address={address} has no effect on engine={name}: set engine=cluster.")
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # in the order of Ray
    if name == "simulation" and len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise ValueError(
            f"{folder} is too long for Ray, whose sockets get paths below it: set RAY_TMPDIR to a folder of at most "
            f"{LONGEST_FOLDER} letters, such as /tmp, or set engine=local."
        )


if __name__ == "__main__":
    main()
