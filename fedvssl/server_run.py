"""From the configuration to a federated run: model, strategy, and what an earlier start has left in its folder."""

import json
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fedvssl.building import build, build_optimizer, build_task
from fedvssl.config import Config
from fedvssl.files.arrays import BACKBONE, Arrays, load_arrays
from fedvssl.files.backbone import load_backbone
from fedvssl.files.rounds import accepted_rounds, check_disk, last_round, round_path, state_path, typical_update
from fedvssl.files.tensors import to_arrays
from fedvssl.server_evaluation import build_evaluations
from fedvssl.server_rounds import Run
from fedvssl.strategy.bounds import Step, UpdateBound
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.training.loop import seed_torch
from fedvssl.training.optimizer import state_bytes as optimizer_state_bytes
from fedvssl.wire.introductions import CLIENTS_FILE, Introductions
from fedvssl.wire.replies import UNKNOWN, Report

log = logging.getLogger(__name__)
FEDVSSL = "fedvssl.strategy.fedvssl.FedVSSL"
SENT = ("model", "task", "training", "seed")  # of the configuration, to clients; and the strategy's rule
COUNTED = ("batch_size", "local_epochs", "warmup_steps", "keep_optimizer")  # for the number of a client's steps


def build_run(config: Config, *, run_dir: Path, report: Report = UNKNOWN) -> Run:
    """Build a run, or the continuation of the one that is found in its folder.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder.
        report: metrics that clients may report.

    Raises:
        ValueError: if a setting is invalid, the folder holds arrays of another model, or the disk is too small.
    """
    strategy, introductions = build_strategy(config, run_dir=run_dir), Introductions(config["pool_size"])
    rule, state = build(config["strategy"]["rule"]), initial_arrays(config)
    strategy.rounds.report = Report((*report.names, *rule.reports), report.least_loss)
    shared = {name: array for name, array in state.items() if strategy.is_shared(name)}
    check_share(strategy, list(state), needs_backbone=needs_backbone(config))
    rule.check(state, shared.keys())
    done = last_round(run_dir)
    if done:
        saved = load_arrays(round_path(run_dir, done))
        if {name: array.shape for name, array in saved.items()} != {name: a.shape for name, a in shared.items()}:
            raise ValueError(f"{round_path(run_dir, done)} holds another model: choose a new hydra.run.dir.")
        shared = saved
    restore(strategy, run_dir, shared, done=done)
    introductions.keep_in(run_dir / CLIENTS_FILE)
    kept = rule.keep({}, state, state, shared.keys())
    check_disk(run_dir, needed=bytes_kept(config, strategy, shared, kept))
    return Run(
        run_dir=run_dir,
        strategy=strategy,
        introductions=introductions,
        done=done,
        shared=shared,
        initial=lambda: {name: a for name, a in initial_arrays(config).items() if strategy.is_shared(name)},
        rounds=config["rounds"],
        settings=sent_settings(config),
        lr=config["training"]["optimizer"]["lr"],
        lr_factor=build(config["training"]["schedule"]),
        evaluations=build_evaluations(config),
        keep_last=config["keep_last"],
        warn_after=config["training"]["warn_after"],
    )


def build_strategy(config: Config, *, run_dir: Path | None = None) -> FedAvg:
    """Build the strategy of `config["strategy"]`.

    Args:
        run_dir: for updates that have to wait on the disk; None is the system's temporary folder.

    Raises:
        ValueError: if a setting is out of range or unknown, or `fedavg` is set for another strategy than FedVSSL.
    """
    settings = dict(config["strategy"])
    target, _ = settings["_target_"], settings.pop("rule")  # which the clients build
    limits = {"max_factor": settings.pop("max_update_factor"), "oversized": settings.pop("oversized_updates")}
    if settings.get("fedavg") and target != FEDVSSL:
        raise ValueError(f"strategy.fedavg=true takes the place of FedVSSL, but the strategy is {target}: drop one.")
    counted = {name: config["training"][name] for name in COUNTED}
    bound = UpdateBound(**limits, **counted, folder=run_dir)
    return build(settings, num_clients=config["pool_size"], seed=config["seed"], bound=bound)


def needs_backbone(config: Config) -> str:
    """Setting that needs the whole backbone on the server, "" if there is none."""
    if config["eval"]["every"] is not None:
        return "eval.every"
    return "init" if config["init"] is not None else ""


def check_share(strategy: FedAvg, names: Sequence[str], *, needs_backbone: str) -> None:
    """Check that each pattern of `strategy.share` fits an array of the task, and that something is shared.

    Args:
        names: all arrays of the task.
        needs_backbone: setting that needs the whole backbone on the server: clients begin with their own part of it,
            whatever `init` has, and a part cannot be evaluated.

    Raises:
        ValueError: naming the first pattern, or array of the backbone, for which this is not so.
    """
    for pattern in strategy.share:
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in names):
            raise ValueError(f"strategy.share: no array of the task is called '{pattern}'; there is {names[0]}.")
    if not any(map(strategy.is_shared, names)):
        raise ValueError(f"strategy.share={strategy.share} shares nothing: begin with 'backbone.*', for example.")
    kept = [name for name in names if name.startswith(BACKBONE) and not strategy.is_shared(name)]
    if kept and needs_backbone:
        raise ValueError(
            f"{needs_backbone} needs the whole backbone, but strategy.share leaves {len(kept)} of its arrays with the "
            f"clients, such as {kept[0]}: set {needs_backbone}=null."
        )


def restore(strategy: FedAvg, run_dir: Path, shared: Arrays, *, done: int) -> None:
    """Give a strategy what it knew after round `done`, from its state and the records of the run.

    Raises:
        ValueError: if the records do not reach this round, or the state is missing or of another run.
    """
    strategy.restore({}, shared)
    expected, path = strategy.state(), state_path(run_dir, done)
    if done and (expected or path.is_file()):
        advice = f"restore it, go back with from_round={done - 1}, or choose a new hydra.run.dir"
        if not path.is_file():
            raise ValueError(f"{path} is missing: {advice}.")
        state = load_arrays(path)
        if expected and {name: a.shape for name, a in state.items()} != {n: a.shape for n, a in expected.items()}:
            raise ValueError(f"{path} holds the state of another strategy: {advice}.")
        strategy.restore(state, shared)
    strategy.rounds.kept_rounds = accepted_rounds(run_dir, done=done)
    if typical := typical_update(run_dir, server_round=done):
        strategy.rounds.bound.typical = Step(*typical)


def initial_arrays(config: Config) -> Arrays:
    """Whole state of the task, freshly initialised from the seed, with the backbone of `init` if there is one.

    Raises:
        ValueError: if `init` is no checkpoint of this backbone.
    """
    seed_torch((config["seed"],))
    task = build_task(config)
    if config["init"] is not None:
        load_backbone(task.backbone, Path(config["init"]).expanduser())
        log.info("init: all %d arrays of the backbone from %s", len(task.backbone.state_dict()), config["init"])
    return to_arrays(task)


def sent_settings(config: Config) -> str:
    """Settings that decide a client's training, as JSON text."""
    return json.dumps({**{name: config[name] for name in SENT}, "rule": config["strategy"]["rule"]})


def bytes_kept(config: Config, strategy: FedAvg, shared: Arrays, kept: Arrays) -> int:
    """Upper bound on the run's disk use in bytes: round files, and two files of each sampled client.

    Args:
        shared: arrays of a round file.
        kept: those that a client's rule keeps; the file holds the state of its optimizer too if
            `training.keep_optimizer` is true.
    """
    rounds, pool_size = config["rounds"], config["pool_size"]
    # The oldest round file is deleted after the newest is written.
    num_files = rounds if config["keep_last"] is None else min(rounds, config["keep_last"] + 1)
    if strategy.rounds.bound.max_factor is not None:
        num_files = max(num_files, strategy.rounds.sample_size)  # the first round keeps its updates on the disk
    num_kept = 2 * min(pool_size, rounds * strategy.rounds.sample_size)
    round_bytes = num_bytes(shared) + num_bytes(strategy.state())
    return num_files * round_bytes + num_kept * (num_bytes(kept) + optimizer_bytes(config))


def num_bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def optimizer_bytes(config: Config) -> int:
    """Bytes of the optimizer's state that a client keeps; 0 if it keeps none."""
    if not config["training"]["keep_optimizer"]:
        return 0
    task = build_task(config)
    return optimizer_state_bytes(build_optimizer(config["training"], task, on_gpu=False), task)
