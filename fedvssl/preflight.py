"""Checks before training starts: the machine, the settings, the data."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedvssl.building import build, build_optimizer, build_sample, build_task
from fedvssl.config import Config
from fedvssl.data.annotations import Annotation, lists_in, number_of_lists, read_annotations
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.data.media import find_media
from fedvssl.data.split import found_media_dir
from fedvssl.files.environment import num_cores
from fedvssl.strategy.rounds import sample_size
from fedvssl.training.batches import check_batches
from fedvssl.training.loop import metric_names, seed_torch
from fedvssl.training.precision import checked_precision
from fedvssl.training.processes import check_devices
from fedvssl.wire.replies import Report, reason

log = logging.getLogger(__name__)
TARGETS = (("model", ""), ("strategy", ""), ("strategy", "rule"), ("task", "module"), ("task", "sample"))
# Published spellings of settings of the optimizer and the schedule.
SPELLINGS = {"optimizer": ("lr", "momentum", "weight_decay"), "schedule": ("steps", "gamma")}
FOR_CLIENTS = "fedvssl.training.fedprox.FedProx"  # an optimizer whose start is that of a round


def gpus_here() -> int:
    return torch.cuda.device_count()


@dataclass(frozen=True)
class Trial:
    """What is tried before a run: its task with initial weights, and samples of videos that are there."""

    task: Any
    dataset: SampleDataset


def settle(config: Config) -> Config:
    """Check the settings of a federated run, and fit them to the machine, the number of clients and the task.

    Every change is logged. Ray would wait forever for resources that do not exist.

    Raises:
        ValueError: if a setting is out of range, or "auto" for a task that does not measure it.
    """
    for part, inner in TARGETS:
        settings = config[part].get(inner) if inner else config[part]
        if not (isinstance(settings, dict) and "_target_" in settings):
            name = f"{part}.{inner}" if inner else part
            raise ValueError(f"{name} needs a _target_, the class to build: name one in the file of conf/{part}.")
    check_recipe(config["training"])
    strategy, task, resources = dict(config["strategy"]), config["task"], config["client_resources"]
    if config["engine"] != "cluster":  # which has other machines than this one
        resources = fit_to_machine(**resources)
    if strategy["min_fit_clients"] > config["pool_size"]:
        log.info("strategy.min_fit_clients=%d lowered to pool_size.", strategy["min_fit_clients"])
        strategy["min_fit_clients"] = config["pool_size"]
    tell_sampled(config["pool_size"], strategy)
    task = {**task, "module": measured(task["module"], build(task["sample"]), seed=config["seed"])}
    return {**config, "client_resources": resources, "strategy": strategy, "task": task}


def tell_sampled(pool_size: int, strategy: Mapping[str, Any]) -> None:
    """Log that min_fit_clients has more clients train than fraction_fit asks for."""
    fraction, least = strategy["fraction_fit"], strategy["min_fit_clients"]
    asked = sample_size(pool_size, fraction_fit=fraction, min_fit_clients=0)
    if asked < least:
        log.info(
            "strategy.fraction_fit=%g is %d of %d clients; strategy.min_fit_clients=%d overrules it: %d train",
            *(fraction, asked, pool_size, least, least),
        )


def fit_to_machine(*, num_gpus: float, num_cpus: float) -> dict[str, float]:
    """Resources of a client, lowered to what the machine has."""
    if num_gpus and not gpus_here():
        log.info("No GPU here: training runs on the CPU (client_resources.num_gpus=0).")
        num_gpus = 0
    elif num_gpus > gpus_here():
        log.info("client_resources.num_gpus=%g lowered to the %d here.", num_gpus, gpus_here())
        num_gpus = gpus_here()
    if num_cpus > num_cores():
        log.info("client_resources.num_cpus=%g lowered to the %d cores here.", num_cpus, num_cores())
        num_cpus = num_cores()
    return {"num_gpus": num_gpus, "num_cpus": num_cpus}


def measured(module: Mapping[str, Any], sample: Any, *, seed: int) -> dict[str, Any]:
    """Settings of a task's module, with the values that its Sample measures in the place of "auto".

    Raises:
        ValueError: if it does not measure this setting.
    """
    wanted = [name for name, value in module.items() if value == "auto"]
    found = sample.measure(np.random.default_rng(seed)) if wanted and hasattr(sample, "measure") else {}
    for name in wanted:
        if name not in found:
            raise ValueError(f"task.module.{name}=auto: {type(sample).__name__} does not measure it; give a value.")
        log.info("task.module.%s=auto measured: %s", name, found[name])
    return {**module, **{name: found[name] for name in wanted}}


def try_out(config: Config) -> Trial:
    """Read every client's list, look for every video, take a sample of two, and build the task.

    Args:
        config: result of `settle`.

    Raises:
        ValueError: if too few clients have a list and all their videos, no client's videos can be sampled, or the task
            cannot be built.
    """
    media_dir, seed = Path(config["data"]["media_dir"]), config["seed"]
    folder, pool_size = Path(config["partition_dir"]), config["pool_size"]
    number = number_of_lists(folder, pool_size, at_least=config["strategy"]["min_fit_clients"])
    if number > pool_size:
        log.info("%s holds the lists of %d clients; the first %d take part.", folder, number, pool_size)
    files = lists_in(folder, pool_size)
    found_media_dir(media_dir)
    complete = _complete_lists(files, media_dir, at_least=config["strategy"]["min_fit_clients"])
    lists = list(complete.values())
    log.info("%d clients, %d samples", len(lists), sum(map(len, lists)))
    _warn_of_warm_up(config["training"], shortest=min(map(len, lists)))
    sample = build_sample(config)
    videos = _first_sampled(lists, media_dir, sample, seed=seed)
    seed_torch((seed,))
    task = build_task(config)
    check_batches(task, config["training"], {name: len(own) for name, own in complete.items()}, warn=log.warning)
    return Trial(task, SampleDataset(media_dir, videos[:2], sample, seed_key=(seed,)))


def fit_precision(training: Mapping[str, Any], trial: Trial, *, device: str) -> str:
    """Precision of training, the same for all clients; see `training.precision`.

    Args:
        training: section of the configuration.
        device: of the clients.

    Raises:
        ValueError: if the task's weights cannot be trained with these settings.
    """
    precision = training["precision"]
    if precision == "auto" and device == "auto" and not gpus_here():
        choices = "bf16-mixed or 32-true, or client_resources.num_gpus=0"
        raise ValueError(f"No GPU is here to try training.precision=auto: set training.precision={choices}.")
    build_optimizer(training, trial.task, on_gpu=False)  # a mistake in its settings shows here, not in every client
    for pattern, own in (training["optimizer"]["param_groups"] or {}).items():
        log.info("Parameters called %s have settings of their own: %s", pattern, own)
    return checked_precision(precision, device=device, task=trial.task, dataset=trial.dataset, warn=log.warning)


def expected_report(trial: Trial) -> Report:
    """Metrics that clients may report, found by a step of the task.

    Raises:
        ValueError: if the task cannot make a step, or uses a name that is taken.
    """
    task, dataset = trial.task, trial.dataset
    try:
        names = metric_names(task, stack([dataset[0], dataset[len(dataset) - 1]]))  # some normalisations need two
    except Exception as error:
        where = " and ".join(dict.fromkeys(annotation.name for annotation in dataset.annotations))
        raise ValueError(f"{type(task).__name__} fails in a step on {where}: {reason(error)}") from error
    return Report(tuple(name for name in names if name != "loss"), least_loss=getattr(task, "least_loss", 0.0))


def _first_sampled(lists: list[list[Annotation]], media_dir: Path, sample: Any, *, seed: int) -> list[Annotation]:
    """The first list whose first two long enough videos can be sampled: a damaged video stops its client only."""
    first_error = None
    for annotations in lists:
        try:
            annotations = list(SampleDataset(media_dir, annotations, sample).annotations)
            for annotation in annotations[:2]:
                sample(find_media(media_dir, annotation.name), np.random.default_rng(seed))
            return annotations
        except (ValueError, OSError) as error:
            first_error = first_error or error
    assert first_error is not None, "there is a list, and a list has a video"
    raise first_error


def _warn_of_warm_up(training: Mapping[str, Any], *, shortest: int) -> None:
    """Warn of a warm-up that no round completes, not even of the client with the shortest list."""
    steps = -(-shortest // training["batch_size"]) * training["local_epochs"]
    if training["warmup_steps"] > steps and not training["keep_optimizer"]:
        log.warning(
            "training.warmup_steps=%d: a client makes %d steps in a round with a new optimizer, so its learning rate "
            "never rises to training.lr.",
            *(training["warmup_steps"], steps),
        )


def _complete_lists(paths: list[Path], media_dir: Path, *, at_least: int) -> dict[str, list[Annotation]]:
    """Lists, by the names of their files, of the clients that have all their videos.

    A client whose list cannot be read, or that lacks a video, will fail. It is logged; the run goes on if enough are
    left.
    """
    complete, lacks = {}, []
    for path in paths:
        try:
            annotations = read_annotations(path)
        except Exception as error:  # whatever is in the file, it is one client's
            lacks.append(str(error) if isinstance(error, ValueError) else f"{path} cannot be read ({error!r})")
            continue
        if missing := [annotation.name for annotation in annotations if not _is_there(media_dir, annotation.name)]:
            lacks.append(f"{path.name}: {len(missing)} of {len(annotations)} samples are missing in ")
            lacks[-1] += f"{media_dir}, the first is {missing[0]}"
        else:
            complete[path.name] = annotations
    if lacks and len(complete) < at_least:
        raise ValueError(
            f"{len(complete)} of {len(paths)} clients have all their videos, strategy.min_fit_clients asks for "
            f"{at_least}: prepare them, set data_dir, or lower it ({lacks[0]})."
        )
    for line in lacks:
        log.warning("%s; this client will fail in its rounds", line.removesuffix("."))
    return complete


def _is_there(media_dir: Path, name: str) -> bool:
    try:
        find_media(media_dir, name)
    except (ValueError, OSError):  # the second for a name that no file can have
        return False
    return True


def check_finetuning(config: Config) -> None:
    """Check the settings of fine-tuning that would fail later, perhaps after hours.

    Raises:
        ValueError: naming the first of them.
    """
    training, devices = config["training"], config["devices"]
    check_devices(device=config["device"], devices=devices)
    check_recipe(training)
    if training["optimizer"]["_target_"] == FOR_CLIENTS:
        raise ValueError(f"{FOR_CLIENTS} is for the rounds of a federation: take another training.optimizer.")
    if (batch_size := training["batch_size"]) % devices:
        raise ValueError(f"training.batch_size={batch_size} does not divide over {devices} processes: use a multiple.")
    for part in ("train", "test"):
        build(config[f"{part}_sample"])


def check_recipe(training: Mapping[str, Any]) -> None:
    """Check the settings of the optimizer and its learning rates; `build_optimizer` checks those of its class.

    Args:
        training: section of that name. `lr`, `momentum`, `weight_decay`, `steps` and `gamma` are the published
            spellings; null where conf/optimizer or conf/schedule has no use for them.

    Raises:
        ValueError: for a setting that is out of range or without effect.
    """
    for section, names in SPELLINGS.items():
        settings = training[section]
        if not (isinstance(settings, dict) and "_target_" in settings):
            raise ValueError(f"training.{section}={settings} needs a _target_: choose a file of conf/{section}.")
        for name in names:
            value, target = training[name], settings["_target_"]
            value = None if value == [] and name not in settings else value
            if value is not None and name not in settings:
                raise ValueError(f"training.{name}={value} has no effect on {target}: set training.{name}=null.")
            if value is not None and value != settings[name]:
                raise ValueError(
                    f"training.{name}={value} and training.{section}.{name}={settings[name]} contradict each other: "
                    f"set training.{name}, which the other follows."
                )
    if "lr" not in training["optimizer"]:
        raise ValueError("training.optimizer needs an lr, which the schedule multiplies.")
    build(training["schedule"])
