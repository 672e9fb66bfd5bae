"""From the configuration to a federated run: model, strategy, and what an earlier start has left in its folder."""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from fedvssl.building import build, build_optimizer, build_task, frozen_names
from fedvssl.config import Config
from fedvssl.files.arrays import BACKBONE, Arrays, arrays_digest, load_arrays, num_bytes
from fedvssl.files.backbone import load_backbone
from fedvssl.files.rounds import (
    accepted_rounds,
    check_disk,
    last_round,
    round_path,
    state_path,
    typical_update,
)
from fedvssl.files.strategy_state import load_state
from fedvssl.files.tensors import to_arrays
from fedvssl.server_evaluation import build_evaluations
from fedvssl.server_rounds import Run
from fedvssl.strategy.bounds import Step, UpdateBound
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.patterns import fits
from fedvssl.strategy.rounds import Rounds
from fedvssl.strategy.rule import When, facts_of, sent
from fedvssl.training.loop import seed_torch
from fedvssl.training.optimizer import state_bytes
from fedvssl.wire.introductions import CLIENTS_FILE, Introductions
from fedvssl.wire.replies import UNKNOWN, Report, is_taken, reason

log = logging.getLogger(__name__)
FEDVSSL = "fedvssl.strategy.fedvssl.FedVSSL"
SENT = ("model", "task", "training", "seed")  # of the configuration, to clients; and the strategy's rule
COUNTED = ("batch_size", "local_epochs", "warmup_steps", "keep_optimizer")  # for the number of a client's steps


def build_run(config: Config, *, run_dir: Path, report: Report = UNKNOWN, may_join: bool = True) -> Run:
    """Build a run, or the continuation of the one that is found in its folder.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder.
        report: metrics that clients may report.
        may_join: clients may join after round 1 without allow_changes=true.

    Raises:
        ValueError: if a setting is invalid, the folder holds arrays of another model, or the disk is too small.
    """
    training, num_clients, seed = config["training"], config["pool_size"], config["seed"]
    strategy = build_strategy(config["strategy"], training, folder=run_dir, num_clients=num_clients, seed=seed)
    new_task, rule = partial(build_task, config), build(config["strategy"]["rule"])
    fresh = partial(initial_arrays, new_task, seed=seed, init=config["init"])
    state, private = fresh(), config["task"]["private"]
    strategy.withhold(private)
    shared = {name: array for name, array in state.items() if strategy.is_shared(name)}
    uses = {"eval.every": config["eval"]["every"], "init": config["init"]}
    check_share(strategy, list(state), private=private, whole_backbone=[n for n, v in uses.items() if v is not None])
    frozen = frozen_names(state, config["task"].get("frozen") or ())
    kept_bytes = num_bytes({name: array for name, array in try_rule(rule, state, shared).items() if name not in frozen})
    strategy.rounds.report = with_facts(report, rule)
    strategy.begin(settings := sent_settings(config, base=base_of(state, frozen, shared)))
    done, shared = continued(run_dir, shared)
    restore(strategy, run_dir, shared, done=done)
    if training["keep_optimizer"]:
        spare = new_task()
        kept_bytes += state_bytes(build_optimizer(training, spare, on_gpu=False), spare)
    sizes = {"round_bytes": num_bytes(shared) + num_bytes(strategy.state()), "kept_bytes": kept_bytes}
    lengths = {"rounds": config["rounds"], "keep_last": config["keep_last"]}
    check_disk(run_dir, needed=bytes_kept(strategy.rounds, **lengths, **sizes))
    changes = config["allow_changes"]
    introductions = Introductions(num_clients, allow_changes=changes, allow_joining=may_join or changes)
    introductions.keep_in(run_dir / CLIENTS_FILE, server_round=done + 1)
    return Run(
        run_dir=run_dir,
        strategy=strategy,
        introductions=introductions,
        done=done,
        shared=shared,
        initial=lambda: {name: array for name, array in fresh().items() if strategy.is_shared(name)},
        settings=settings,
        lr=training["optimizer"]["lr"],
        lr_factor=build(training["schedule"]),
        evaluations=build_evaluations(config),
        warn_after=training["warn_after"],
        warning=getattr(rule, "warning", lambda _: ""),
        **lengths,
    )


def sent_settings(config: Config, *, base: Mapping[str, str]) -> str:
    """Settings for the clients, with what `base_of` gives, as JSON text."""
    return json.dumps({**{name: config[name] for name in SENT}, "rule": config["strategy"]["rule"], **base})


def base_of(state: Arrays, frozen: Collection[str], shared: Arrays) -> dict[str, str]:
    """Digest of the frozen arrays that do not travel, which every client must have too: {"base": ...}, or {}."""
    base = {name: state[name] for name in frozen if name not in shared}
    return {"base": arrays_digest(base)} if base else {}


def build_strategy(
    strategy: Mapping[str, Any], training: Mapping[str, Any], *, folder: Path | None = None, **rounds: int
) -> FedAvg:
    """Build the server's half of a strategy.

    Args:
        strategy, training: sections of the configuration.
        folder: for updates that have to wait on the disk; None is the system's temporary folder.
        rounds: further arguments of `Rounds`: num_clients and seed.

    Raises:
        ValueError: if a setting is out of range or unknown, or `fedavg` is set for another strategy than FedVSSL.
    """
    settings = dict(strategy)
    target, _ = settings["_target_"], settings.pop("rule")  # which the clients build
    limits = {"max_factor": settings.pop("max_update_factor"), "oversized": settings.pop("oversized_updates")}
    if settings.get("fedavg") and target != FEDVSSL:
        raise ValueError(f"strategy.fedavg=true takes the place of FedVSSL, but the strategy is {target}: drop one.")
    bound = UpdateBound(**limits, **{name: training[name] for name in COUNTED}, folder=folder)
    return build(settings, bound=bound, **rounds)


def try_rule(rule: Any, state: Arrays, shared: Arrays) -> Arrays:
    """Try a client's rule on the initial arrays: a first contact, a training that moves nothing, and the next contact.

    Args:
        state: all initial arrays.
        shared: those that travel.

    Returns:
        What a client keeps.

    Raises:
        ValueError: if the rule does not fit the task, raises, or gives other arrays than those of the task.
    """
    name, own = type(rule).__name__, {name: array for name, array in state.items() if name not in shared}
    try:
        rule.check(state, shared.keys())
        kept: Arrays = {}
        for when in (When(server_round=1, last_round=0), When(server_round=2, last_round=1)):
            start = rule.receive(shared, kept, own, when)
            if shapes(start) != shapes(state):
                raise ValueError(f"strategy.rule: {name}.receive gives other names or shapes than those of the task.")
            reply = sent(rule, state, shared.keys())
            if shapes(reply) != shapes(shared) or any(reply[n].dtype != a.dtype for n, a in shared.items()):
                raise ValueError(f"strategy.rule: {name}.send gives other names, shapes or dtypes than what travels.")
            kept = rule.keep(kept, start, state, shared.keys())
            facts = facts_of(kept, rule.reports)
            if hasattr(rule, "warning"):
                rule.warning([facts])
            num_bytes(kept)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"strategy.rule: {name} fails on the initial arrays: {reason(error)}") from error
    return kept


def with_facts(report: Report, rule: Any) -> Report:
    """Add the facts of a client's rule to the metrics of its task; ValueError if a name is taken."""
    for name in rule.reports:
        if name in report.names or is_taken(name):
            raise ValueError(f"{type(rule).__name__} reports '{name}', a name that is taken: give it another one.")
    return Report((*report.names, *rule.reports), report.least_loss)


def continued(run_dir: Path, shared: Arrays) -> tuple[int, Arrays]:
    """The last saved round and its arrays; 0 and the initial ones if there is none.

    Raises:
        ValueError: if the saved arrays are of another model.
    """
    done = last_round(run_dir)
    if not done:
        return 0, shared
    saved = load_arrays(round_path(run_dir, done))
    if shapes(saved) != shapes(shared):
        raise ValueError(f"{round_path(run_dir, done)} holds another model: choose a new hydra.run.dir.")
    return done, saved


def check_share(
    strategy: FedAvg, names: Sequence[str], *, private: Sequence[str] = (), whole_backbone: Sequence[str] = ()
) -> None:
    """Check that the patterns of `strategy.share` and `task.private` fit arrays, and do not ask for private ones alone.

    Of several patterns that exclude it is enough if one fits, so that they may be for several models.

    Args:
        names: all arrays of the task.
        private: patterns of those that stay with their client, see `FedAvg.withhold`.
        whole_backbone: settings that need the whole backbone on the server: clients begin with their own part of it,
            whatever `init` has, and a part cannot be evaluated.

    Raises:
        ValueError: naming the first pattern, or array of the backbone, for which this is not so.
    """
    fitting = [p for p in strategy.share if any(fnmatchcase(name, p.removeprefix("!")) for name in names)]
    excludes = any(pattern.startswith("!") for pattern in fitting)
    for pattern in strategy.share:
        if pattern not in fitting and not (excludes and pattern.startswith("!")):
            raise ValueError(f"strategy.share: no array of the task is called '{pattern}'; there is {names[0]}.")
        chosen = [name for name in names if fnmatchcase(name, pattern)]
        if chosen and all(fits(name, private) for name in chosen):
            raise ValueError(
                f"strategy.share: '{pattern}' asks for {chosen[0]} and {len(chosen) - 1} more arrays that stay with "
                "their client (task.private): leave it out."
            )
    for pattern in private:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"task.private: no array of the task is called '{pattern}'; there is {names[0]}.")
    if leaked := [name for name in names if fits(name, private) and strategy.is_shared(name)]:
        raise ValueError(
            f"{leaked[0]} and {len(leaked) - 1} more arrays must stay with their client (task.private), but "
            f"{type(strategy).__name__}.is_shared lets them travel."
        )
    if not any(map(strategy.is_shared, names)):
        raise ValueError(f"strategy.share={strategy.share} shares nothing: begin with 'backbone.*', for example.")
    for setting in whole_backbone if not any(name.startswith(BACKBONE) for name in names) else ():
        raise ValueError(f"{setting} needs a task with a backbone, which this one is not: set {setting}=null.")
    kept = [name for name in names if name.startswith(BACKBONE) and not strategy.is_shared(name)]
    for setting in whole_backbone if kept else ():
        raise ValueError(
            f"{setting} needs the whole backbone, but strategy.share leaves {len(kept)} of its arrays with the "
            f"clients, such as {kept[0]}: set {setting}=null."
        )


def restore(strategy: FedAvg, run_dir: Path, shared: Arrays, *, done: int) -> None:
    """Give a strategy what it knew after round `done`, from its state and the records of the run.

    Raises:
        ValueError: if the records do not reach this round, or the state is missing, or of another round or strategy.
    """
    strategy.restore({}, shared)
    expected, path = strategy.state(), state_path(run_dir, done)
    if done and (expected or path.is_file()):
        advice = f"restore it, go back with from_round={done - 1}, or choose a new hydra.run.dir"
        if not path.is_file():
            raise ValueError(f"{path} is missing: {advice}.")
        try:
            state = load_state(run_dir, done)
        except ValueError as error:
            raise ValueError(f"{str(error).removesuffix('.')}: {advice}.") from error
        if expected and shapes(state) != shapes(expected):
            raise ValueError(f"{path} holds the state of another strategy: {advice}.")
        strategy.restore(state, shared)
    strategy.rounds.kept_rounds = accepted_rounds(run_dir, done=done)
    if typical := typical_update(run_dir, server_round=done):
        strategy.rounds.bound.typical = Step(*typical)


def initial_arrays(new_task: Callable[[], Any], *, seed: int, init: str | None) -> Arrays:
    """Whole state of a task, freshly initialised from the seed, with the backbone of `init` if there is one.

    Raises:
        ValueError: if `init` is no checkpoint of this backbone.
    """
    seed_torch((seed,))
    task = new_task()
    if init is not None:
        if not hasattr(task, "backbone"):
            raise ValueError(
                f"init={init} needs a task with a backbone, which {type(task).__name__} is not: set init=null."
            )
        load_backbone(task.backbone, Path(init).expanduser(), tell=log.info)
        log.info("init: all %d arrays of the backbone from %s", len(task.backbone.state_dict()), init)
    return to_arrays(task)


def bytes_kept(rounds_of: Rounds, *, rounds: int, keep_last: int | None, round_bytes: int, kept_bytes: int) -> int:
    """Upper bound on the run's disk use in bytes: round files, and two files of each sampled client.

    Args:
        rounds_of: tells how many clients are sampled.
        rounds, keep_last: number of rounds, and of round files that are kept.
        round_bytes: of a round file and the strategy's state.
        kept_bytes: of a client's file.
    """
    # The oldest round file is deleted after the newest is written.
    num_files = rounds if keep_last is None else min(rounds, keep_last + 1)
    if rounds_of.bound.max_factor is not None:
        num_files = max(num_files, rounds_of.sample_size)  # the first round keeps its updates on the disk
    num_kept = 2 * min(rounds_of.num_clients, rounds * rounds_of.sample_size)
    return num_files * round_bytes + num_kept * kept_bytes


def shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}
