"""What makes a federated run the one that it is: settings and lists that decide its numbers.

A later start in the same folder continues the run, so it must have the same ones. They are kept in settings.json.
A client's list that cannot be read concerns this client alone, so it is compared where both starts can read it.
"""

import logging
from pathlib import Path
from typing import Any

from fedvssl.config import Config, save_settings
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.settings import Settings, first_change, run_settings, weights_file

log = logging.getLogger(__name__)
SETTINGS_FILE = "settings.json"
# Files that a run writes, as patterns below its folder.
WRITES = (
    *(SETTINGS_FILE, "config.yaml", "environment.json", "metrics.jsonl", "clients.json", "seen_videos.npz"),
    *("*.png", "round-*", "clients/*/*.npz"),
)
LIST = "contents of client_dist"  # how the names of the clients' lists begin among the settings
# Two settings that decide together how many clients a round samples: that number is compared in their place, so that
# a run which misses replies can go on with a lower least number of them.
SAMPLING = {"strategy.fraction_fit", "strategy.min_fit_clients"}
SAMPLED = "number of clients that a round samples"
WEIGHTS_NAME = "name of the downloaded weights"
# Settings that may differ when a run is continued: places, machine, length, what is only checked or reported.
# The clients' lists and `init` are compared by their content, not by their place.
FREE = SAMPLING | {
    *("data_dir", "partition_dir", "init", "data.media_dir", "data.annotation_dir", "exp_name"),
    "data.train_list",  # the clients have lists of their own
    *("data.allow_test_videos", "eval.allow_test_videos"),  # the clients' lists are compared themselves
    *(
        "engine",
        "ray.address",
        "client_resources.num_gpus",
        "client_resources.num_cpus",
        "training.num_workers",
        "verbose",
    ),
    *("rounds", "from_round", "allow_changes", "round_timeout", "start_timeout", "keep_last", "training.warn_after"),
    *("strategy.max_update_factor", "strategy.oversized_updates"),
    *("model.weights", "task.module.cache_dir"),  # of the first the file is compared
    "task.private",  # decides what travels, and the round files are compared with that
    "task.personal",  # decides where a rule reads it, and is compared there
    *("eval.every", "eval.batch_size", "eval.keep_megabytes", "eval.media_dir", "eval.annotation_dir"),
}
# Settings that earlier versions lacked -> the value with which a run goes on as it did under them.
ADDED_LATER: Settings = {"strategy.rule.mix": ["*"], "training.drop_last": False, "task.frozen": []}
NOTES = {  # beginning of the setting that has changed -> what else there is to know
    SAMPLED: "change strategy.fraction_fit so that as many are sampled, or ",
    "training.schedule.length": "the learning rate falls over the rounds set at the start, so another number of rounds "
    "needs a run of its own (after --videos: another --name): ",
}


def reject_other_run(run_dir: Path, now: Settings, *, allow_changes: bool = False) -> None:
    """Compare `decisive_settings` with those of an earlier start in this folder, but for the lists if they may change.

    Raises:
        ValueError: if the folder holds another run.
    """
    before = recorded(run_dir)
    if before is None:
        return
    unread = {name for name in before.keys() ^ now.keys() if name.startswith(LIST)}
    if allow_changes:
        unread = {name for name in before.keys() | now.keys() if name.startswith(LIST)}
    left_out = unread | FREE  # which an earlier version may have recorded
    before = {name: value for name, value in ADDED_LATER.items() if name in now} | before
    if change := first_change(*({n: v for n, v in one.items() if n not in left_out} for one in (before, now))):
        note = next((words for name, words in NOTES.items() if change.startswith(name)), "")
        raise ValueError(f"{run_dir} is of another run, {change}: {note}name another hydra.run.dir.")


def decisive_settings(config: Config, *, lists: bool = True) -> Settings:
    """Settings and contents of files that decide the numbers of a run.

    Args:
        config: the resolved configuration.
        lists: those of the clients are here, and not with nodes of their own, which tell their digests.
    """
    from fedvssl.data.annotations import lists_in
    from fedvssl.data.client_lists import read_lists
    from fedvssl.strategy.rounds import sample_size

    of_clients = lists_in(config["partition_dir"], config["pool_size"]) if lists else []
    files = {path.name: path for path in map(Path, read_lists(of_clients))}
    if config["init"] is not None:
        files["init"] = Path(config["init"]).expanduser()
    weights = weights_file(config["model"])
    files |= {"model.weights": weights} if weights else {}
    named = {} if weights or "weights" not in config["model"] else {WEIGHTS_NAME: config["model"]["weights"]}
    sampling = {name: config["strategy"][name] for name in ("fraction_fit", "min_fit_clients")}
    named |= {SAMPLED: sample_size(config["pool_size"], **sampling)}
    return {**run_settings(config, free=FREE, files=files), **named}


def keep_settings(run_dir: Path, settings: dict[str, Any], *, decisive: Settings) -> None:
    """Write the decisive settings, by which the folder is of this run, and then all of them."""
    claim(run_dir, decisive, allow_changes=settings["allow_changes"])
    save_settings(run_dir / "config.yaml", settings)


def claim(run_dir: Path, now: Settings, *, allow_changes: bool = False) -> None:
    """Write settings.json. A list that cannot be read now stays recorded as it was.

    Args:
        now: `decisive_settings`.
        allow_changes: the lists may be others than before; clients.json says from which round on.

    Raises:
        ValueError: if the folder holds another run.
    """
    reject_other_run(run_dir, now, allow_changes=allow_changes)
    before = recorded(run_dir)
    lists = {name: digest for name, digest in (before or {}).items() if name.startswith(LIST)}
    for name in now.keys() - lists.keys() if before else ():
        if name.startswith(LIST):
            log.info("%s, which no earlier start could read, can be read now.", name.removeprefix("contents of "))
    write_json(run_dir / SETTINGS_FILE, {**lists, **now} if allow_changes else {**now, **lists})


def recorded(run_dir: Path) -> Settings | None:
    """Settings of the earlier starts in this folder; None if there was none."""
    path = run_dir / SETTINGS_FILE
    if not path.is_file():
        return None
    before = read_json(path, advice="name another hydra.run.dir")
    if not isinstance(before, dict):
        raise ValueError(f"{path} holds no settings: name another hydra.run.dir.")
    return before
